"""ThemeBook: the theme of a performance, and who states it next.

It was given, or somebody played it, or it is what the music itself began with.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlxgen.music.encode import encode_events
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key, bar_ticks
from mlxgen.music.vocab import Vocab
from mlxgen.perform.material import ids_until, opening_line, theme_shift

THEME_IDS = 400         # the most of a theme that stays in the context for ever


def one_line(line: Sequence[Note], voice: int, voices: int, key: Key, meter: tuple[int, int]) -> Piece:
    """A piece of `voices` voices in which only `voice` (1 is the highest) has notes."""
    return Piece([list(line) if number == voice else [] for number in range(1, voices + 1)], key, meter)


class ThemeBook:
    """`theme` is empty until there is one; one that was `given` stays in front of every later context."""

    def __init__(self, theme: Sequence[Note], key: Key, voices: int, meter: tuple[int, int], vocab: Vocab):
        self.voices, self.meter, self.vocab = voices, meter, vocab
        self.bar = bar_ticks(meter)
        self.take(theme, key)
        self.given = bool(theme)
        self._opening: list[tuple[int, Note]] = []

    def take(self, theme: Sequence[Note], key: Key) -> None:
        """This is the theme from now on, in `key`."""
        self.theme, self.key, self.given = list(theme), key, True
        self._stated = 0

    def gather(self, voice: int, note: Note) -> None:
        """A note of the opening, as long as there is no theme."""
        if not self.theme:
            self._opening.append((voice, note))

    def take_back(self, tick: int) -> None:
        self._opening = [row for row in self._opening if row[1].start_ticks < tick]

    def settle(self, now_ticks: int, key: Key) -> None:
        """After two bars the first entering voice's line is the theme."""
        if not self.theme and now_ticks >= 2 * self.bar:
            self.theme, self.key = opening_line(self._opening, self.bar), key
            self._opening = []

    def ids(self, key: Key, voice: int = 1, shift: int = 0) -> list[int]:
        if not self.theme:
            return []
        line = [note._replace(pitch=note.pitch + shift) for note in self.theme]
        return encode_events(one_line(line, voice, self.voices, key, self.meter), self.vocab)

    def next_statement(self, key: Key) -> list[int]:
        """The theme in the next voice in turn, in its register, on the tonic of `key`."""
        voice = self._stated % self.voices + 1
        self._stated += 1
        return self.ids(key, voice, theme_shift(self.theme, self.key, key, voice, self.voices))

    def pinned_ids(self, key: Key) -> list[int]:
        """The bars of a given theme, without the next one's opening; nothing for one that is too long."""
        if not self.given:
            return []
        bars = -(-max(note.end_ticks for note in self.theme) // self.bar)
        ids = ids_until(one_line(self.theme, 1, self.voices, key, self.meter), bars * self.bar, self.vocab)
        last_bar = len(ids) - 1 - ids[::-1].index(self.vocab["BAR"])
        return ids[:last_bar] if last_bar <= THEME_IDS else []
