"""Figures of a set of pieces, the same for generated and for real ones: what the model card's table holds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from mlxgen.music.decode import decode
from mlxgen.music.encode import encode_events
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


def home_key_share(piece: Piece, music) -> float:
    """Share of time in which the key that the scorer hears is the declared one."""
    home = piece.key.root + 12 * (piece.key.mode == "minor")
    length = music.texture.length
    return float(length[music.keys == home].sum() / max(length.sum(), 1))


def closes(piece: Piece) -> bool:
    """Whether the last chord is the end of an authentic cadence: dominant before it, tonic in the bass."""
    from mlxgen.compose.ending import find_cadences

    last_ticks = max(note.start_ticks for voice in piece.voices for note in voice)
    return any(cadence.tick == last_ticks for cadence in find_cadences(piece, piece.key))


def grammar_error(ids: list[int], vocab: Vocab) -> bool:
    """Whether these ids, prompt and all, are not what the encoder writes for the music they decode to, or a
    voice sounds over itself.

    It knows nothing of the grammar that masks the draws: a note without a voice or a duration, a bar that
    does not add up, an order of events that is not the encoder's, all read back differently. A piece may be
    cut short: what comes after the last whole note is not looked at.
    """
    begin = max(at for at, token in enumerate(ids) if vocab.name(token).startswith("KEY_")) + 1
    events = [token for token in ids[begin:] if token != vocab["EOS"]]
    durations = set(vocab.family("Dur_").values())
    whole = max((at + 1 for at, token in enumerate(events) if token in durations), default=0)
    piece = decode(ids, vocab)
    overlaps = any(
        left.end_ticks > right.start_ticks for voice in piece.voices for left, right in pairwise(voice)
    )
    return overlaps or events[:whole] != encode_events(piece, vocab)[:whole]


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
        "home_key_share": float(np.mean([home_key_share(*pair) for pair in zip(pieces, music, strict=True)])),
        "closing_share": float(np.mean([closes(piece) for piece in pieces])),
        "score_median": float(np.median([score(piece).composite for piece in pieces])),
    }


def longest_matches(all_ids: list[np.ndarray], corpus: np.ndarray, limit: int = CONTEXT_NGRAMS):
    """(length, start) for each of `all_ids`: the longest run that stands anywhere in `corpus`, by bisection.

    Scale-degree ids: a match is a match in any key. Runs are compared by a 64-bit polynomial hash; the
    corpus is hashed once for each length that some bisection asks about.
    """
    low, start = [0] * len(all_ids), [0] * len(all_ids)
    high = [min(limit, len(ids)) for ids in all_ids]
    while searching := [at for at in range(len(all_ids)) if low[at] < high[at]]:
        middles = {at: (low[at] + high[at] + 1) // 2 for at in searching}
        for middle in sorted(set(middles.values())):
            known = np.sort(_run_hashes(corpus, middle))
            for at in (at for at in searching if middles[at] == middle):
                own = _run_hashes(all_ids[at], middle)
                place = np.minimum(np.searchsorted(known, own), max(len(known) - 1, 0))
                found = np.flatnonzero(known[place] == own) if len(known) else []
                if len(found):
                    low[at], start[at] = middle, int(found[0])
                else:
                    high[at] = middle - 1
    return list(zip(low, start, strict=True))


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


def copied_notes(all_ids: list[list[int]], corpus: np.ndarray, vocab: Vocab) -> list[int]:
    """Notes in the longest run of tokens that each piece shares with the corpus."""
    arrays = [np.array(ids) for ids in all_ids]
    durations = list(vocab.family("Dur_").values())
    return [
        int(np.isin(array[start : start + length], durations).sum())
        for array, (length, start) in zip(arrays, longest_matches(arrays, corpus), strict=True)
    ]
