"""Figures of a set of pieces, the same for generated and for real ones: what the model card's table holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mlxgen.music.piece import Piece
from mlxgen.music.theory import SCALES, beat_ticks
from mlxgen.music.vocab import Vocab

from .labels import DISSONANT, GRID_TICKS, SILENT, sounding_grid

# Lowest and highest pitch of each voice of four, from the top (the ranges of the decode-time rules).
FOUR_VOICE_RANGES = ((60, 84), (48, 72), (48, 69), (36, 60))
CONTEXT_NGRAMS = 512


def range_misses(piece: Piece) -> int:
    """Notes outside their voice's range in a four-voice piece; 0 for others."""
    if len(piece.voices) != 4:
        return 0
    return sum(
        not low <= note.pitch <= high
        for (low, high), voice in zip(FOUR_VOICE_RANGES, piece.voices, strict=True)
        for note in voice
    )


def crossing_share(piece: Piece) -> float:
    """Share of sounding sixteenths in which some voice is above one that is named higher."""
    grid = sounding_grid(piece)[:, ::2]
    crossed = np.zeros(grid.shape[1], dtype=bool)
    for upper in range(len(grid)):
        for lower in range(upper + 1, len(grid)):
            both = (grid[upper] != SILENT) & (grid[lower] != SILENT)
            crossed |= both & (grid[lower] > grid[upper])
    sounding = (grid != SILENT).any(axis=0)
    return float(crossed.sum() / max(sounding.sum(), 1))


def strong_beat_dissonance(piece: Piece) -> float:
    """Share of dissonant intervals between voice pairs on the first beat of bars."""
    downbeats = sounding_grid(piece)[:, :: piece.bar_ticks // GRID_TICKS]
    hits = total = 0
    for upper in range(len(downbeats)):
        for lower in range(upper + 1, len(downbeats)):
            both = (downbeats[upper] != SILENT) & (downbeats[lower] != SILENT)
            hits += int(DISSONANT[np.abs(downbeats[upper][both] - downbeats[lower][both]) % 12].sum())
            total += int(both.sum())
    return hits / max(total, 1)


def key_share(piece: Piece) -> float:
    """Share of sounding time in the key's scale (harmonic and natural minor both count)."""
    steps = set(SCALES[piece.key.mode]) | ({11} if piece.key.mode == "minor" else set())
    inside = outside = 0
    for voice in piece.voices:
        for note in voice:
            if (note.pitch - piece.key.root) % 12 in steps:
                inside += note.duration_ticks
            else:
                outside += note.duration_ticks
    return inside / max(inside + outside, 1)


def ends_on_tonic(piece: Piece) -> bool:
    """The last bass note is the tonic and no voice that sounds with it leaves the tonic triad."""
    bass = [note for note in piece.voices[-1]]
    if not bass or bass[-1].pitch % 12 != piece.key.root:
        return False
    final = [int(pitch) for pitch in sounding_grid(piece)[:, -1] if pitch != SILENT]
    return all((pitch - piece.key.root) % 12 in (0, 3, 4, 7) for pitch in final)


def notes_per_beat(piece: Piece) -> float:
    return piece.note_count / max(piece.length_ticks / beat_ticks(piece.meter), 1)


def set_figures(pieces: Iterable[Piece]) -> dict[str, float]:
    """Rates over a set: per 1,000 notes where a note is the chance, else means over pieces."""
    from mlxgen.scoring.music import make_music
    from mlxgen.scoring.score import score
    from mlxgen.scoring.voice_leading import parallel_fifths, parallel_octaves

    pieces = [piece for piece in pieces if piece.note_count >= 8]
    if not pieces:
        raise ValueError("no pieces with notes; expected at least one")
    notes = sum(piece.note_count for piece in pieces)
    music = [make_music(piece) for piece in pieces]
    return {
        "pieces": len(pieces),
        "notes": notes,
        "bars": float(np.mean([piece.length_bars for piece in pieces])),
        "parallel_fifths_per_1000": 1000 * sum(parallel_fifths(one).total for one in music) / notes,
        "parallel_octaves_per_1000": 1000 * sum(parallel_octaves(one).total for one in music) / notes,
        "out_of_range_per_1000": 1000 * sum(map(range_misses, pieces)) / notes,
        "crossing_share": float(np.mean([crossing_share(piece) for piece in pieces])),
        "downbeat_dissonance": float(np.mean([strong_beat_dissonance(piece) for piece in pieces])),
        "notes_per_beat": float(np.mean([notes_per_beat(piece) for piece in pieces])),
        "in_key_share": float(np.mean([key_share(piece) for piece in pieces])),
        "final_tonic_share": float(np.mean([ends_on_tonic(piece) for piece in pieces])),
        "score_median": float(np.median([score(piece).composite for piece in pieces])),
    }


def longest_match(ids: np.ndarray, corpus: np.ndarray, limit: int = CONTEXT_NGRAMS) -> tuple[int, int]:
    """(length, start) of the longest run of `ids` that stands anywhere in `corpus`, by bisection.

    Scale-degree ids: a match is a match in any key. Runs are compared by a 64-bit polynomial hash.
    """
    low, high, start = 0, min(limit, len(ids)), 0
    while low < high:
        middle = (low + high + 1) // 2
        found = np.flatnonzero(np.isin(_run_hashes(ids, middle), _run_hashes(corpus, middle)))
        if len(found):
            low, start = middle, int(found[0])
        else:
            high = middle - 1
    return low, start


def _run_hashes(ids: np.ndarray, length: int) -> np.ndarray:
    """One uint64 for every run of `length` ids: differences of prefix sums at one power of an odd base."""
    base, inverse = np.uint64(6364136223846793005), np.uint64(pow(6364136223846793005, -1, 1 << 64))
    with np.errstate(over="ignore"):
        powers = np.concatenate([[np.uint64(1)], np.cumprod(np.full(len(ids), base, dtype=np.uint64))])
        back = np.concatenate([[np.uint64(1)], np.cumprod(np.full(len(ids), inverse, dtype=np.uint64))])
        sums = np.concatenate(
            [[np.uint64(0)], np.cumsum((ids.astype(np.uint64) + np.uint64(1)) * powers[:-1])]
        )
        return (sums[length:] - sums[:-length]) * back[: len(ids) - length + 1]


def copied_notes(ids: list[int], corpus: np.ndarray, vocab: Vocab) -> int:
    """Notes in the longest run of tokens that the piece shares with the corpus."""
    array = np.array(ids)
    length, start = longest_match(array, corpus)
    durations = list(vocab.family("Dur_").values())
    return int(np.isin(array[start : start + length], durations).sum())
