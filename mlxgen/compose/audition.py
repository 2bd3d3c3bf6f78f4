"""A blind listening test as one HTML page: shuffled pairs, votes kept in the browser, exported as JSON."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from itertools import combinations

from mlxgen.compose.page import as_script, escape, make_page, piece_data
from mlxgen.music.piece import Piece


def make_pairs(count: int, seed: int, limit: int | None = None) -> list[tuple[int, int]]:
    """Every pair of `count` pieces in a shuffled order, sides shuffled too; the first `limit` of them."""
    if count < 2:
        raise ValueError(f"{count} pieces: expected 2 or more to compare")
    chance = random.Random(seed)
    pairs = [pair if chance.random() < 0.5 else pair[::-1] for pair in combinations(range(count), 2)]
    chance.shuffle(pairs)
    return pairs[:limit]


def make_audition(files: Sequence[tuple[str, Piece]], *, seed: int = 0, pairs: int | None = None,
                  seconds: float | None = None, title: str = "Which one would you rather hear again?") -> str:
    """The page for (file name, piece) rows.

    `seconds` cuts every piece there, `pairs` limits how many are asked. Raises ValueError for fewer than two
    pieces, and for one without notes.
    """
    chosen = make_pairs(len(files), seed, pairs)
    rows = []
    for name, piece in files:
        if seconds is not None:
            piece = piece.between(0, int(seconds * piece.tempo_bpm / 60 * 480))
        if piece.note_count == 0:
            raise ValueError(f"{name}: no notes to hear")
        rows.append({"file": name, **piece_data(piece)})
    identity = hashlib.sha256(json.dumps([rows, chosen]).encode()).hexdigest()[:12]
    return make_page("audition.html", title=escape(title),
                     data=as_script({"id": identity, "pieces": rows, "pairs": chosen}))
