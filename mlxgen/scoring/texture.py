"""Texture: a piece as arrays, cut at every attack and release: a metric is a few gathers, no loop over notes.

A slice is a span in which nothing begins or ends. Slices need no grid: every meter, triplet and tie is exact.
S slices, V voices, N notes in all; voice 0 is the highest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations

import numpy as np

from mlxgen.music.piece import Piece
from mlxgen.music.theory import TICKS_PER_QUARTER, beat_ticks

SILENT = -1
CONTEXT_BARS = 8    # how much of the music before a chunk the slice metrics look back on


def following(values: np.ndarray, last: int | bool) -> np.ndarray:
    """(N,) the next element's value; `last` behind the last one."""
    moved = np.empty_like(values)
    moved[:-1] = values[1:]
    moved[-1:] = last
    return moved


@dataclass(frozen=True)
class Notes:
    """The notes of all voices as columns, voice after voice, each voice in time order. All arrays (N,)."""

    voice: np.ndarray
    start: np.ndarray       # ticks
    duration: np.ndarray    # ticks
    pitch: np.ndarray
    first: np.ndarray       # bool: no earlier note in this voice

    @cached_property
    def end(self) -> np.ndarray:
        return self.start + self.duration

    @cached_property
    def interval(self) -> np.ndarray:
        """Semitones from the voice's previous note; 0 at a voice's first note."""
        steps = np.diff(self.pitch, prepend=self.pitch[:1])
        return np.where(self.first, 0, steps)

    @cached_property
    def gap(self) -> np.ndarray:
        """Ticks of rest before the note; 0 at a voice's first note and where notes touch or overlap."""
        before = np.concatenate([self.start[:1], self.end[:-1]])
        return np.where(self.first, 0, np.maximum(self.start - before, 0))


@dataclass(frozen=True)
class Texture:
    """Slices of one piece, or of a chunk behind the end of its context.

    `seam_ticks` is where the scored music begins: 0 for a whole piece. `offset_bars` is added to bar numbers,
    so that findings count bars from the start of the context.
    """

    notes: Notes
    onset: np.ndarray       # (S,) ticks
    length: np.ndarray      # (S,) ticks
    pitch: np.ndarray       # (S, V) MIDI pitch, SILENT where the voice rests
    attack: np.ndarray      # (S, V) bool: a note begins here
    bar_ticks: int
    beat_ticks: int         # the meter's beat, in the tactus heard
    pulse_ticks: int        # a quarter, in the tactus heard
    seam_ticks: int = 0
    has_context: bool = False
    offset_bars: int = 0
    overlaps: tuple[tuple[int, int], ...] = ()    # (tick, voice): a note begins inside its voice's last one

    @property
    def voice_count(self) -> int:
        return self.pitch.shape[1]

    @property
    def slice_count(self) -> int:
        return len(self.onset)

    @cached_property
    def sounding(self) -> np.ndarray:
        """(S, V) bool."""
        return self.pitch != SILENT

    @cached_property
    def sounding_voices(self) -> np.ndarray:
        """Indexes of the voices that sound at all."""
        return np.flatnonzero(self.sounding.any(axis=0))

    @cached_property
    def voices_sounding(self) -> np.ndarray:
        """(S,) how many voices sound."""
        return self.sounding.sum(axis=1)

    @cached_property
    def lowest(self) -> np.ndarray:
        """(S,) lowest sounding pitch, SILENT where none sounds."""
        low = np.where(self.sounding, self.pitch, 999).min(axis=1, initial=999)
        return np.where(low == 999, SILENT, low)

    @cached_property
    def note_slices(self) -> np.ndarray:
        """(N,) index of the slice that begins with each note."""
        return np.searchsorted(self.onset, self.notes.start)

    @cached_property
    def new(self) -> np.ndarray:
        """(S,) bool: the slice belongs to the scored music, not to the context."""
        return self.onset >= self.seam_ticks

    @cached_property
    def new_notes(self) -> np.ndarray:
        """(N,) bool."""
        return self.notes.start >= self.seam_ticks

    @cached_property
    def note_count(self) -> int:
        """Notes of the scored music."""
        return int(self.new_notes.sum())

    @cached_property
    def bar(self) -> np.ndarray:
        """(S,) bar numbers, 1 for the first."""
        return self.onset // self.bar_ticks + 1 + self.offset_bars

    @cached_property
    def pairs(self) -> np.ndarray:
        """(P, 2) voice pairs (upper, lower); of more than eight voices, each with the three below it."""
        voices = self.sounding_voices
        if len(voices) > 8:
            rows = [(a, b) for at, a in enumerate(voices) for b in voices[at + 1:at + 4]]
        else:
            rows = list(combinations(voices, 2))
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def moved(self) -> np.ndarray:
        """(S, V) semitones from the slice before; 0 where the voice holds, repeats, rests or ends a rest."""
        steps = np.zeros(self.pitch.shape, dtype=np.int64)
        both = self.sounding[1:] & self.sounding[:-1]
        steps[1:] = np.where(both, self.pitch[1:] - self.pitch[:-1], 0)
        return steps

    @cached_property
    def beats(self) -> np.ndarray:
        """(B, V) pitch sounding at every beat from the first slice to the last."""
        return self.pitch[self.beat_slices]

    @cached_property
    def beat_times(self) -> np.ndarray:
        """(B,) ticks of the beats."""
        if not self.slice_count:
            return np.zeros(0, dtype=np.int64)
        step = self.beat_ticks
        first = -(-int(self.onset[0]) // step) * step
        return np.arange(first, int(self.onset[-1] + self.length[-1]), step)

    @cached_property
    def beat_slices(self) -> np.ndarray:
        """(B,) index of the slice that sounds at each beat."""
        return np.searchsorted(self.onset, self.beat_times, side="right") - 1

    @cached_property
    def beat_new(self) -> np.ndarray:
        """(B,) bool."""
        return self.beat_times >= self.seam_ticks


def _columns(piece: Piece) -> list[np.ndarray]:
    """Each voice as (n, 3) ints: start, duration, pitch."""
    return [
        np.fromiter(chain.from_iterable(voice), dtype=np.int64, count=3 * len(voice)).reshape(-1, 3)
        for voice in piece.voices
    ]


def seam_of(context: Piece) -> int:
    """The bar line at which music after `context` begins, in the context's ticks.

    The bar line after the last attack, or a later one up to which every voice still holds: notes tied over
    the seam do not move it.
    """
    starts = [voice[-1].start_ticks for voice in context.voices if voice]
    if not starts:
        return 0
    held = min(max(note.end_ticks for note in voice) for voice in context.voices if voice)
    bar = context.bar_ticks
    return max(max(starts) // bar + 1, held // bar) * bar


def tactus(notes: Notes) -> float:
    """1 where notes last about a beat; 2 or 4 for music written in long values, 1/2 in short ones.

    A chorale in half notes is the same music as one in quarters: both are heard in the second's beat. Long
    notes that begin on any quarter are long notes.
    """
    if not len(notes.duration):
        return 1.0
    quarters = float(notes.duration.mean()) / TICKS_PER_QUARTER
    wanted = 4 if quarters > 3.6 else 2 if quarters > 1.8 else 1
    while wanted > 1 and (notes.start % (wanted * TICKS_PER_QUARTER) == 0).mean() < 0.6:
        wanted //= 2
    return 0.5 if quarters < 0.27 else float(wanted)


@dataclass(frozen=True)
class Past:
    """The music before a chunk: columns (n, 3) of each voice's notes, and the tick at which the chunk begins.
    """

    voices: list[np.ndarray]
    seam_ticks: int
    bar_ticks: int


def make_past(context: Piece | None, seam_ticks: int | None = None) -> Past | None:
    """Columns of a context; None for none, or for one without notes and without a seam."""
    if context is None or not (context.note_count or seam_ticks):
        return None
    return Past(_columns(context), seam_of(context) if seam_ticks is None else seam_ticks, context.bar_ticks)


def make_notes(voices: list[np.ndarray]) -> Notes:
    """Columns (n, 3) of each voice -> Notes."""
    table = np.concatenate(voices) if voices else np.zeros((0, 3), dtype=np.int64)
    number = np.repeat(np.arange(len(voices)), [len(rows) for rows in voices])
    return Notes(number, table[:, 0], table[:, 1], table[:, 2], np.diff(number, prepend=-1) != 0)


def make_texture(piece: Piece, past: Past | None = None, *, context_bars: int = CONTEXT_BARS) -> Texture:
    """Arrays of `piece`, or of `piece` behind the last `context_bars` bars of what came before it.

    The piece's tick 0 falls on the past's `seam_ticks`. Raises ValueError for a meter without length.
    """
    bar = piece.bar_ticks
    if bar <= 0:
        raise ValueError(f"meter {piece.meter}: expected a positive numerator over a power of two")
    voices = _columns(piece)
    if past is None:
        return _cut(voices, piece)
    cut = max(0, past.seam_ticks - context_bars * bar) // bar * bar
    count = max(len(voices), len(past.voices))
    empty = np.zeros((0, 3), dtype=np.int64)
    before = [rows[(rows[:, 0] >= cut) & (rows[:, 0] < past.seam_ticks)] for rows in past.voices]
    before += [empty] * (count - len(before))
    voices += [empty] * (count - len(voices))
    shift = past.seam_ticks - cut
    voices = [np.concatenate([old - np.array([cut, 0, 0]), new + np.array([shift, 0, 0])])
              for old, new in zip(before, voices, strict=True)]
    return _cut(voices, piece, seam_ticks=shift, offset_bars=cut // bar, has_context=True)


def _cut(voices: list[np.ndarray], piece: Piece, **fields) -> Texture:
    notes = make_notes(voices)
    edges = np.unique(np.concatenate([notes.start, notes.end]))
    onset = edges[:-1]
    pitch = np.full((len(onset), max(len(voices), 1)), SILENT, dtype=np.int64)
    attack = np.zeros(pitch.shape, dtype=bool)
    overlaps = []
    for index, rows in enumerate(voices):
        if not len(rows) or not len(onset):
            continue
        at = np.searchsorted(rows[:, 0], onset, side="right") - 1
        sounds = (at >= 0) & (rows[at, 0] + rows[at, 1] > onset)
        pitch[sounds, index] = rows[at[sounds], 2]
        attack[:, index] = sounds & (rows[at, 0] == onset)
        inside = np.flatnonzero(rows[1:, 0] < rows[:-1, 0] + rows[:-1, 1]) + 1
        overlaps += [(int(rows[row, 0]), index) for row in inside]
    factor = tactus(notes)
    beat, pulse = max(beat_ticks(piece.meter), 1), int(TICKS_PER_QUARTER * factor)
    if (factor > 1 and beat < pulse) or (factor < 1 and beat > pulse):
        beat = max(int(beat * factor), 1)       # a meter such as 4/2 already says that its beat is long
    return Texture(notes, onset, np.diff(edges), pitch, attack, piece.bar_ticks, beat,
                   pulse, overlaps=tuple(overlaps), **fields)
