"""Note and Piece: the one shape in which music travels between the rooms of this project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mlxgen.music.theory import C_MAJOR, SCALES, Key, bar_ticks

_USUAL_NAMES = {2: ("Upper voice", "Lower voice"), 3: ("Soprano", "Alto", "Bass"),
                4: ("Soprano", "Alto", "Tenor", "Bass")}


class Note(NamedTuple):
    """One sounding note. Times in ticks (480 a quarter) from the piece's start; pitch is MIDI (C4 = 60)."""

    start_ticks: int
    duration_ticks: int
    pitch: int

    @property
    def end_ticks(self) -> int:
        return self.start_ticks + self.duration_ticks


@dataclass(frozen=True)
class Piece:
    """Two to four voices (more are allowed), highest first, each a list of notes in time order."""

    voices: list[list[Note]]
    key: Key = C_MAJOR
    meter: tuple[int, int] = (4, 4)
    tempo_bpm: float = 80.0
    title: str = ""
    voice_names: tuple[str, ...] = field(default=())

    def __post_init__(self):
        voices = [sorted(Note(*note) for note in voice) for voice in self.voices]
        object.__setattr__(self, "voices", voices)
        object.__setattr__(self, "key", Key(*self.key))
        object.__setattr__(self, "meter", tuple(self.meter))
        self._validate()

    def _validate(self) -> None:
        if self.key.root not in range(12) or self.key.mode not in SCALES:
            raise ValueError(f"key {tuple(self.key)}: expected a root from 0 to 11 and major or minor")
        if len(self.meter) != 2 or min(self.meter) < 1:
            raise ValueError(f"meter {self.meter}: expected two positive numbers, such as (3, 4)")
        for number, voice in enumerate(self.voices, start=1):
            for note in voice:
                if note.start_ticks < 0 or note.duration_ticks < 1 or not 0 <= note.pitch <= 127:
                    raise ValueError(f"voice {number}, {note}: expected start_ticks >= 0, "
                                     "duration_ticks >= 1, pitch 0 to 127")

    @property
    def bar_ticks(self) -> int:
        return bar_ticks(self.meter)

    @property
    def length_ticks(self) -> int:
        """The end of the last sounding note."""
        return max((note.end_ticks for voice in self.voices for note in voice), default=0)

    @property
    def length_bars(self) -> int:
        """Bars, the last one counted whole."""
        return -(-self.length_ticks // self.bar_ticks)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for every voice: those given, and the usual ones for the rest."""
        usual = _USUAL_NAMES.get(len(self.voices), ())
        numbered = tuple(f"Voice {number}" for number in range(1, len(self.voices) + 1))
        return tuple((*self.voice_names, *(usual or numbered)[len(self.voice_names):])[:len(self.voices)])

    @property
    def note_count(self) -> int:
        return sum(len(voice) for voice in self.voices)

    def events(self) -> list[tuple[int, int, Note]]:
        """(start_ticks, voice 1.., note) in the tokenizers' order: by time, then from the top voice."""
        rows = [(note.start_ticks, number, note)
                for number, voice in enumerate(self.voices, start=1) for note in voice]
        return sorted(rows)

    def keys_by_bar(self, changes: Sequence[tuple[int, Key]] = ()) -> list[Key]:
        """The key of every bar: the piece's own until the first of `changes`, (tick, key) rows.

        A change counts from the bar in which it lies.
        """
        keys = [self.key] * max(1, self.length_bars)
        for ticks, key in sorted(changes):
            bar = ticks // self.bar_ticks
            keys[bar:] = [key] * len(keys[bar:])
        return keys

    def between(self, start_ticks: int, end_ticks: int) -> Piece:
        """The notes that begin in [start_ticks, end_ticks), moved so that start_ticks is 0."""
        voices = [[note._replace(start_ticks=note.start_ticks - start_ticks)
                   for note in voice if start_ticks <= note.start_ticks < end_ticks] for voice in self.voices]
        return replace(self, voices=voices)

    def transposed(self, semitones: int) -> Piece:
        """The same piece `semitones` higher, in the key that follows from it."""
        voices = [[note._replace(pitch=note.pitch + semitones) for note in voice] for voice in self.voices]
        return replace(self, voices=voices, key=Key((self.key.root + semitones) % 12, self.key.mode))
