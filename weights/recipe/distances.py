"""How far music is from real music: Wasserstein distances over nine properties, no scorer involved.

After Fang et al. 2020 (bench/fang.py has their grade itself, for chorales only); here any number of voices
and any form, in standard deviations of the real sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from mlxgen.music.piece import Piece
from mlxgen.music.theory import TICKS_PER_QUARTER

from .labels import GRID_TICKS, SILENT, sounding_grid

QUANTILES = (np.arange(200) + 0.5) / 200


def piece_properties(piece: Piece) -> dict[str, list[float]]:
    """Nine properties of a piece, each a sample of numbers."""
    grid = sounding_grid(piece)[:, :: TICKS_PER_QUARTER // GRID_TICKS]
    chords = [sorted({int(pitch) % 12 for pitch in column if pitch != SILENT}) for column in grid.T]
    spans = [(int(column[0] - column[-1])) for column in grid.T if (column != SILENT).all()]
    notes = [note for voice in piece.voices for note in voice]
    outer, inner = (piece.voices[0], piece.voices[-1]), piece.voices[1:-1] or piece.voices

    def leaps(voices) -> list[float]:
        return [float(right.pitch - left.pitch) for voice in voices for left, right in pairwise(voice)]

    return {
        "degree": [float((note.pitch - piece.key.root) % 12) for note in notes],
        "duration": [float(np.log2(note.duration_ticks / 60)) for note in notes],
        "place": [float(note.start_ticks % piece.bar_ticks) / piece.bar_ticks for note in notes],
        "outer_leap": leaps(outer),
        "inner_leap": leaps(inner),
        "register": [float(note.pitch) for note in notes],
        "chord_size": [float(len(chord)) for chord in chords],
        "bass_degree": [float((note.pitch - piece.key.root) % 12) for note in piece.voices[-1]],
        "span": [float(span) for span in spans],
    }


def wasserstein(left: list[float], right: list[float]) -> float:
    """The 1-Wasserstein distance of two samples: the area between their quantile functions."""
    if not left or not right:
        return 0.0
    return float(np.abs(np.quantile(left, QUANTILES) - np.quantile(right, QUANTILES)).mean())


def pooled(pieces: Iterable[Piece]) -> dict[str, list[float]]:
    """The samples of all pieces as one."""
    table: dict[str, list[float]] = {}
    for piece in pieces:
        for name, values in piece_properties(piece).items():
            table.setdefault(name, []).extend(values)
    return table


class RealMusic:
    """A set of real pieces, to measure distances from."""

    def __init__(self, pieces: Iterable[Piece]):
        table = pooled(pieces)
        if not table:
            raise ValueError("no real pieces; expected at least one")
        self._known = {
            name: (np.quantile(values, QUANTILES), float(np.std(values)) or 1.0)
            for name, values in table.items()
            if values
        }

    def distance(self, pieces: Iterable[Piece]) -> float:
        """Mean over properties of the pooled pieces' distance, in standard deviations of the real sample."""
        table = pooled(pieces)
        return float(
            np.mean(
                [
                    np.abs(np.quantile(table[name], QUANTILES) - quantiles).mean() / spread
                    for name, (quantiles, spread) in self._known.items()
                    if table.get(name)
                ]
            )
        )
