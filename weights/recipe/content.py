"""What a piece is whatever its key and note values: shingles of sonorities, to find the same music.

The sounding chord at every change, as intervals above the bass, with the bass motion to the next; three
changes in a row are a shingle. Transposition, upbeats, repeated notes and note values do not alter it;
another harmonisation does.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable

from mlxgen.music.piece import Piece

from .labels import SILENT, sounding_grid

SHINGLE = 3
SAME_PIECE = 0.5


def shingles(piece: Piece) -> frozenset[tuple]:
    """The piece's sonority shingles; empty for fewer than three chords."""
    chords: list[tuple[int, ...]] = []
    for column in sounding_grid(piece).T.tolist():
        chord = tuple(pitch for pitch in column if pitch != SILENT)
        if len(chord) > 1 and (not chords or chord != chords[-1]):
            chords.append(chord)
    shapes = [tuple(pitch - chord[-1] for pitch in chord[:-1]) for chord in chords]
    motions = [right[-1] - left[-1] for left, right in itertools.pairwise(chords)]
    return frozenset(
        (*shapes[at : at + SHINGLE], *motions[at : at + SHINGLE - 1])
        for at in range(len(chords) - SHINGLE + 1)
    )


class ContentIndex:
    """Finds pieces whose shingles overlap: |common| / |smaller| >= SAME_PIECE counts as the same music."""

    def __init__(self):
        self._owners: dict[tuple, list[str]] = defaultdict(list)
        self._sizes: dict[str, int] = {}

    def add(self, name: str, own: Iterable[tuple]) -> None:
        own = list(own)
        self._sizes[name] = len(own)
        for shingle in own:
            self._owners[shingle].append(name)

    def find(self, own: frozenset[tuple]) -> tuple[str, float] | None:
        """(name, overlap) of the nearest piece at or above SAME_PIECE, or None."""
        common = Counter(name for shingle in own for name in self._owners.get(shingle, ()))
        best = max(
            ((count / max(min(self._sizes[name], len(own)), 1), name) for name, count in common.items()),
            default=(0.0, ""),
        )
        return (best[1], best[0]) if best[0] >= SAME_PIECE else None


def content_hash(name: str) -> str:
    """A fixed shuffle of names: the same for every run and machine."""
    return hashlib.sha256(name.encode()).hexdigest()
