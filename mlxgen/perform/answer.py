"""Answer: a theme that somebody plays is read into a session's context; the music goes on from a bar line."""

from __future__ import annotations

from mlxgen.music.encode import encode_events
from mlxgen.music.piece import Note
from mlxgen.perform.listen import key_of
from mlxgen.perform.material import ids_until
from mlxgen.perform.shared import Position
from mlxgen.perform.themes import THEME_IDS, one_line


class Answer:
    """`hear(notes, over, position)` while it is played and when it is over. `listening` until then."""

    def __init__(self, session, listening: bool):
        self.session, self.listening = session, listening
        self.forget()

    def forget(self) -> None:
        """The context is no longer what was given: give all of it again."""
        self._given: list[int] = []             # ids of the theme so far
        self._given_bar: int | None = None      # tick of its first bar

    def hear(self, notes: list[Note], over: bool, position: Position) -> None:
        """The theme as far as it is known, on the performance's tick line.

        It is read while it is played, all but its last note; once it is `over` the music goes on from the
        next bar line that can be reached.
        """
        session = self.session
        if not self.listening:
            session.give_way(position)
            self.listening = True
            self.forget()
        first_bar = notes[0].start_ticks // session.bar * session.bar
        found = key_of(notes) if over and session.settings.find_key else session.key
        if self._given_bar != first_bar or found != session.key:
            self._given, self._given_bar = [], first_bar
            session.begin_context(first_bar, found, THEME_IDS)
        theme = [note._replace(start_ticks=note.start_ticks - first_bar) for note in notes]
        if not over:
            self._give(encode_events(self._piece(theme[:-1]), session.vocab) if theme[:-1] else [])
            return
        end = max(session.committed(position), *(note.end_ticks for note in notes))
        answer = -(-end // session.bar) * session.bar
        self._give(ids_until(self._piece(theme), answer - first_bar, session.vocab))
        session.themes.take(theme, session.key)
        self.listening = False
        self.forget()
        session.answer_from(answer)

    def _piece(self, line: list[Note]):
        session = self.session
        return one_line(line, 1, session.conditioning.voices, session.key, session.meter)

    def _give(self, ids: list[int]) -> None:
        """Make the context hold `ids` of the theme, changing as little as possible."""
        same = 0
        while same < min(len(ids), len(self._given)) and ids[same] == self._given[same]:
            same += 1
        self.session.context.take_back(len(self._given) - same)
        if ids[same:]:
            self.session.context.append(ids[same:], heard=False)
        self._given = ids
