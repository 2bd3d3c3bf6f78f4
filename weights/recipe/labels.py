"""Conditioning labels of a piece: a measured property and the thresholds that make three words of it.

The properties follow upstream's definitions, so that a prompt means the same to both projects; the
thresholds are upstream's too (its corpus' thirds). Everything is read off one grid of sounding pitches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlxgen.music.piece import Piece
from mlxgen.music.theory import SCALES, TICKS_PER_QUARTER, beat_ticks

GRID_TICKS = 60
EIGHTH_TICKS = TICKS_PER_QUARTER // 2
DISSONANT = np.isin(np.arange(12), (1, 2, 6, 10, 11))
MOTIF_INTERVALS = 6
SILENT = -1


def sounding_grid(piece: Piece, step_ticks: int = GRID_TICKS) -> np.ndarray:
    """(voices, steps) MIDI pitch sounding at each step, SILENT where a voice rests."""
    steps = -(-piece.length_ticks // step_ticks)
    grid = np.full((len(piece.voices), max(steps, 1)), SILENT, dtype=np.int16)
    for row, voice in zip(grid, piece.voices, strict=True):
        for note in voice:
            row[note.start_ticks // step_ticks : -(-note.end_ticks // step_ticks)] = note.pitch
    return grid


def synchrony(piece: Piece) -> float:
    """Mean share of voices that attack together, over the eighths in which any voice attacks."""
    slots = [{note.start_ticks // EIGHTH_TICKS for note in voice} for voice in piece.voices]
    active = set().union(*slots)
    return sum(len(own) for own in slots) / (len(active) * len(slots)) if active else 0.0


def imitation(piece: Piece, least_moves: int = 0) -> float:
    """Motifs of six melodic intervals answered in another voice a quarter or more away, per note.

    An answer may differ by a semitone in one interval (a tonal answer). `least_moves`: intervals of a motif
    that are no unison; with 0, as the labels count, any voice that repeats a note answers any other.
    """
    tables: list[dict[tuple[int, ...], list[int]]] = []
    for voice in piece.voices:
        table: dict[tuple[int, ...], list[int]] = {}
        intervals = [right.pitch - left.pitch for left, right in itertools.pairwise(voice)]
        for start in range(len(intervals) - MOTIF_INTERVALS + 1):
            motif = tuple(intervals[start : start + MOTIF_INTERVALS])
            if MOTIF_INTERVALS - motif.count(0) >= least_moves:
                table.setdefault(motif, []).append(voice[start].start_ticks)
        tables.append(table)
    answers = 0
    for index, table in enumerate(tables):
        for other in tables[index + 1 :]:
            answers += sum(_answers(motif, times, other) for motif, times in table.items())
    return answers / max(piece.note_count, 1)


def _answers(motif: tuple[int, ...], times: list[int], other: dict[tuple[int, ...], list[int]]) -> int:
    variants = {motif} | {
        (*motif[:at], motif[at] + by, *motif[at + 1:]) for at in range(MOTIF_INTERVALS) for by in (-1, 1)
    }
    return sum(
        abs(answer - start) >= TICKS_PER_QUARTER
        for variant in variants
        if variant in other
        for answer in other[variant]
        for start in times
    )


def harmonic_changes(piece: Piece) -> float:
    """Changes of the sounding pitch-class set from beat to beat, per bar."""
    grid = sounding_grid(piece)[:, :: beat_ticks(piece.meter) // GRID_TICKS]
    sets = [frozenset(int(pitch) % 12 for pitch in column if pitch != SILENT) for column in grid.T]
    changes = sum(bool(now) and now != before for before, now in itertools.pairwise(sets))
    return changes / max(piece.length_bars, 1)


def dissonance(piece: Piece) -> float:
    """Share of seconds, sevenths and tritones among the intervals of voice pairs, at attacks of either."""
    grid = sounding_grid(piece)
    attacks = np.zeros_like(grid, dtype=bool)
    for row, voice in zip(attacks, piece.voices, strict=True):
        row[[note.start_ticks // GRID_TICKS for note in voice]] = True
    dissonant = counted = 0
    for upper in range(len(grid)):
        for lower in range(upper + 1, len(grid)):
            at = (attacks[upper] | attacks[lower]) & (grid[upper] != SILENT) & (grid[lower] != SILENT)
            classes = np.abs(grid[upper][at] - grid[lower][at]) % 12
            dissonant += int(DISSONANT[classes].sum())
            counted += int(at.sum())
    return dissonant / counted if counted else 0.0


def chromatic_share(piece: Piece) -> float:
    """Share of notes outside the key's scale, harmonic minor in minor keys."""
    steps = set(SCALES["major"]) if piece.key.mode == "major" else (set(SCALES["minor"]) - {10}) | {11}
    outside = sum((note.pitch - piece.key.root) % 12 not in steps for voice in piece.voices for note in voice)
    return outside / max(piece.note_count, 1)


class Label(NamedTuple):
    """Conditioning field, measure, and words from low to high with the thresholds between them."""

    measure: Callable[[Piece], float]
    words: tuple[str, str, str]
    thresholds: tuple[float, float]

    def word(self, value: float) -> str:
        return self.words[sum(value > threshold for threshold in self.thresholds)]


LABELS = {
    "texture": Label(synchrony, ("polyphonic", "mixed", "homophonic"), (0.54, 0.60)),
    "imitation": Label(imitation, ("none", "low", "high"), (0.10, 0.30)),
    "harmonic_rhythm": Label(harmonic_changes, ("slow", "moderate", "fast"), (2.77, 3.18)),
    "harmonic_tension": Label(dissonance, ("low", "moderate", "high"), (0.128, 0.145)),
    "chromaticism": Label(chromatic_share, ("low", "moderate", "high"), (0.05, 0.15)),
}


def measure_labels(piece: Piece) -> tuple[dict[str, str], dict[str, float]]:
    """({field: word}, {field: value}) of one piece."""
    values = {field: label.measure(piece) for field, label in LABELS.items()}
    return {field: LABELS[field].word(value) for field, value in values.items()}, values
