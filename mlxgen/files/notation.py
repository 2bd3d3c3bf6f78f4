"""What an engraver decides: notes cut at bar lines into values that can be written, rests, clefs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from mlxgen.files.voices import GRID_TICKS, on_grid
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key, Spelling, bar_ticks, beat_count, beat_ticks, spell_line

# The lengths that one note or rest can have: a 32nd to a breve, plain or dotted.
VALUES_TICKS = (60, 120, 180, 240, 360, 480, 720, 960, 1440, 1920, 2880, 3840)

# name: (the lowest and the highest pitch on its staff)
CLEF_OF_INSTRUMENT = {"violin": "treble", "viola": "alto", "cello": "bass"}
CLEFS = {"treble": (64, 77), "treble 8vb": (52, 65), "alto": (53, 67), "bass": (43, 57)}


class Mark(NamedTuple):
    """A written note or rest (`spelling` None) within one bar; `tied` where it continues the one before."""

    start_ticks: int
    duration_ticks: int
    spelling: Spelling | None
    tied: bool


def _steps(meter: tuple[int, int]) -> tuple[int, ...]:
    """The grids of a bar, from coarse to fine: half bars of 4/4 and alike, beats, and their halves."""
    beat, beats = beat_ticks(meter), beat_count(meter)
    coarse = (2 * beat,) if beats % 2 == 0 and beats > 2 else ()
    finer = tuple(ticks for ticks in (960, 480, 240, 120, 60) if ticks < beat and beat % ticks == 0)
    return (*coarse, beat, *finer)


def _readable(start: int, duration: int, meter: tuple[int, int], resting: bool) -> bool:
    """Whether one value, beginning `start` ticks into a bar, shows where the beats are."""
    if duration not in VALUES_TICKS:
        return False
    beat = beat_ticks(meter)
    compound = beat % 360 == 0
    plain = next(ticks for ticks in VALUES_TICKS if duration in (ticks, ticks * 3 // 2))
    crosses = start // beat != (start + duration - 1) // beat
    if compound and (crosses or duration == beat):  # nothing hides a beat of a compound meter
        return start % beat == 0 and duration % beat == 0
    if resting:  # rests are plain and lie on their own grid
        return duration == plain and start % plain == 0
    return start % max(plain // 2, GRID_TICKS) == 0


def _cut(start: int, end: int, meter: tuple[int, int], resting: bool) -> list[tuple[int, int]]:
    """Cut [start, end), ticks into one bar, into readable values at the strongest beats inside."""
    if _readable(start, end - start, meter, resting):
        return [(start, end)]
    for step in _steps(meter):
        middle = (start // step + 1) * step
        if middle < end:
            return _cut(start, middle, meter, resting) + _cut(middle, end, meter, resting)
    return [(start, end)]


def _pieces(start: int, end: int, meter: tuple[int, int], resting: bool = False) -> list[tuple[int, int]]:
    """Cut [start, end) at bar lines and then into readable values."""
    length = bar_ticks(meter)
    cuts = []
    while start < end:
        bar = start // length * length
        stop = min(end, bar + length)
        if resting and (start, stop) == (bar, bar + length) and length in VALUES_TICKS:
            cuts.append((start, stop))
        else:
            cuts += [(bar + left, bar + right)
                     for left, right in _cut(start - bar, stop - bar, meter, resting)]
        start = stop
    return cuts


def one_at_a_time(voice: list[Note]) -> list[Note]:
    """The voice as one stem can write it: of notes struck together the highest, each ended by the next."""
    highest = {note.start_ticks: note for note in sorted(voice, key=lambda note: note.pitch)}
    line = [highest[start_ticks] for start_ticks in sorted(highest)]
    ended = [left._replace(duration_ticks=min(left.duration_ticks, right.start_ticks - left.start_ticks))
             for left, right in pairwise(line)]
    return ended + line[-1:]


def engrave(voice: list[Note], piece: Piece, keys: Sequence[tuple[int, Key]] = ()) -> list[Mark]:
    """One voice as written notes and rests that fill whole bars, up to the last bar of the piece.

    Times are moved to the nearest 32nd; what overlaps is written `one_at_a_time`. Notes are spelled in the
    key of the bar in which they begin: the piece's, or from a tick of `keys` on another.
    """
    line = one_at_a_time([on_grid(note.start_ticks, note.end_ticks, note.pitch) for note in voice])
    by_bar = piece.keys_by_bar(keys)
    own_keys = [by_bar[min(note.start_ticks // piece.bar_ticks, len(by_bar) - 1)] for note in line]
    marks: list[Mark] = []
    now_ticks = 0
    for note, spelling in zip(line, spell_line([note.pitch for note in line], own_keys), strict=True):
        marks += [Mark(start, end - start, None, False)
                  for start, end in _pieces(now_ticks, note.start_ticks, piece.meter, resting=True)]
        cuts = _pieces(note.start_ticks, note.end_ticks, piece.meter)
        marks += [Mark(start, end - start, spelling, index > 0) for index, (start, end) in enumerate(cuts)]
        now_ticks = note.end_ticks
    whole_ticks = max(1, piece.length_bars) * piece.bar_ticks
    return marks + [Mark(start, end - start, None, False)
                    for start, end in _pieces(now_ticks, whole_ticks, piece.meter, resting=True)]


def choose_clef(voice: list[Note], name: str = "") -> str:
    """The clef of the instrument that the voice is named after, else the one that needs the fewest ledger
    lines.
    """
    for instrument, clef in CLEF_OF_INSTRUMENT.items():
        if name.lower().startswith(instrument):
            return clef

    def outside(clef: str) -> float:
        lowest, highest = CLEFS[clef]
        return sum(max(lowest - note.pitch, note.pitch - highest, 0) for note in voice)

    usual = min(("treble", "bass"), key=outside)
    # A tenor's clef is worth it only where it spares plenty of ledger lines.
    return "treble 8vb" if outside("treble 8vb") + len(voice) < outside(usual) else usual
