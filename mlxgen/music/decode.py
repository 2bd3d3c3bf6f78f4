"""ids -> notes, one id at a time. Decoding a whole piece is feeding its ids in a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import parse_meter
from mlxgen.music.theory import C_MAJOR, Key, degree_to_pitch
from mlxgen.music.vocab import Vocab

Completed = list[tuple[int, Note]]

# What a snapshot holds, in this order; all are plain immutable values.
_STATE = ("now_ticks", "bar", "beat", "bar_start_ticks", "voice", "key", "meter",
          "_octave", "_degree", "_accidental", "_pitch")


class Decoder:
    """Feed ids, receive notes as they are completed.

        for token in ids:
            for voice, note in decoder.feed(token):   # voice 1 is the highest
                ...

    `now_ticks` is the clock, `bar` counts the BARs so far (1 in the first bar), `beat` is the last BEAT
    number, `voice`, `key` and `meter` are those in force. `key` and `meter` given here hold until a KEY_ or
    METER_ token says otherwise (C major and 4/4 if not given). Ids that say nothing about notes
    (conditioning, cadences, subjects, sections) are passed over.
    `keep_notes=False` keeps no list of finished notes, for streams without end; `piece()` needs the list.
    """

    def __init__(self, vocab: Vocab, key: Key | None = None, meter: tuple[int, int] | None = None, *,
                 keep_notes: bool = True):
        self.vocab = vocab
        self._actions = _actions(vocab)
        self._notes: Completed | None = [] if keep_notes else None
        self.now_ticks = self.bar = self.beat = self.bar_start_ticks = 0
        self.voice = 1
        self.key = key or C_MAJOR
        self.meter = tuple(meter or (4, 4))
        self._forget_pitch()

    def _forget_pitch(self) -> None:
        self._octave = self._degree = self._pitch = None
        self._accidental = 0

    def feed(self, token: int) -> Completed:
        """The notes this id completes, as (voice, note): none or one. ValueError for an id out of range."""
        if not 0 <= token < len(self._actions):
            raise ValueError(f"id {token}: expected 0 to {len(self._actions) - 1}")
        action = self._actions[token]
        if action is None:
            return []
        apply, value = action
        note = apply(self, value)
        if note is None:
            return []
        if self._notes is not None:
            self._notes.append((self.voice, note))
        return [(self.voice, note)]

    def snapshot(self) -> tuple:
        """A place to come back to with `restore`: a dozen values, whatever the length of the piece."""
        return (*(getattr(self, name) for name in _STATE), len(self._notes or ()))

    def restore(self, snapshot: tuple) -> None:
        """Go back to where this decoder stood at `snapshot`; notes completed since are forgotten."""
        *values, note_count = snapshot
        for name, value in zip(_STATE, values, strict=True):
            setattr(self, name, value)
        if self._notes is not None:
            del self._notes[note_count:]

    def fork(self) -> Decoder:
        """An independent decoder that stands where this one stands."""
        twin = Decoder(self.vocab, keep_notes=self._notes is not None)
        if self._notes is not None:
            twin._notes = list(self._notes)
        twin.restore(self.snapshot())
        return twin

    def piece(self) -> Piece:
        """The notes so far, each in its own voice's place; at least two voices, as upstream reads them."""
        if self._notes is None:
            raise ValueError("this decoder keeps no notes (keep_notes=False)")
        voices: list[list[Note]] = [[] for _ in range(max([2, *(voice for voice, _ in self._notes)]))]
        for voice, note in self._notes:
            voices[voice - 1].append(note)
        return Piece(voices, self.key, self.meter)


def _on_bar(decoder: Decoder, _) -> None:
    decoder.bar += 1
    decoder.bar_start_ticks = decoder.now_ticks


def _on_beat(decoder: Decoder, number: int) -> None:
    decoder.beat = number


def _on_time_shift(decoder: Decoder, ticks: int) -> None:
    decoder.now_ticks += ticks
    decoder._forget_pitch()


def _on_voice(decoder: Decoder, number: int) -> None:
    decoder.voice = number
    decoder._forget_pitch()


def _on_voice_sep(decoder: Decoder, _) -> None:
    decoder.now_ticks = decoder.bar = decoder.beat = decoder.bar_start_ticks = 0
    decoder._forget_pitch()


def _on_octave(decoder: Decoder, number: int) -> None:
    decoder._forget_pitch()
    decoder._octave = number


def _on_accidental(decoder: Decoder, semitones: int) -> None:
    decoder._accidental = semitones


def _on_degree(decoder: Decoder, number: int) -> None:
    decoder._degree = number


def _on_pitch(decoder: Decoder, pitch: int) -> None:
    decoder._pitch = pitch


def _on_duration(decoder: Decoder, ticks: int) -> Note | None:
    pitch = decoder._pitch
    if decoder._octave is not None and decoder._degree is not None:
        pitch = degree_to_pitch(decoder._octave, decoder._degree, decoder._accidental, decoder.key)
        pitch = min(max(pitch, decoder.vocab.min_pitch), decoder.vocab.max_pitch)
    decoder._forget_pitch()
    return None if pitch is None else Note(decoder.now_ticks, ticks, pitch)


def _on_key(decoder: Decoder, key: Key) -> None:
    decoder.key = key


def _on_meter(decoder: Decoder, meter: tuple[int, int]) -> None:
    decoder.meter = meter


_NUMBERED = {"BEAT": _on_beat, "TimeShift": _on_time_shift, "VOICE": _on_voice, "OCT": _on_octave,
             "DEG": _on_degree, "Pitch": _on_pitch, "Dur": _on_duration}
_NAMED = {"BAR": (_on_bar, None), "VOICE_SEP": (_on_voice_sep, None),
          "SHARP": (_on_accidental, 1), "FLAT": (_on_accidental, -1)}


@lru_cache(maxsize=16)
def _actions(vocab: Vocab) -> tuple[tuple[Callable, object] | None, ...]:
    """What each id does: (function, argument), or None for names that say nothing about notes."""
    rows: list[tuple[Callable, object] | None] = []
    for name in vocab.names:
        family, _, suffix = name.partition("_")
        if name in _NAMED:
            rows.append(_NAMED[name])
        elif family in _NUMBERED and suffix.isdigit():
            rows.append((_NUMBERED[family], int(suffix)))
        elif family == "KEY":
            rows.append((_on_key, Key.parse(suffix)))
        elif family == "METER":
            rows.append((_on_meter, parse_meter(suffix)))
        else:
            rows.append(None)
    return tuple(rows)


def decode(ids: Iterable[int], vocab: Vocab) -> Piece:
    """A whole sequence of ids, with or without prefix and EOS, as a Piece."""
    decoder = Decoder(vocab)
    for token in ids:
        decoder.feed(token)
    return decoder.piece()
