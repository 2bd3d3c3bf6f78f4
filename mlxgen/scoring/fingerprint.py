"""Fingerprints: hashed spans of music, the same in every key, by which music of training pieces is known.

A span is a run of successive changes of the sounding chord (intervals over the bass, and the bass' step); of
all spans a share, chosen by their hash, is kept (the sampling of S. Schleimer, D. Wilkerson and A. Aiken,
Winnowing, 2003). Long spans know a copy; short ones music put together from pieces.
"""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.texture import SILENT, Texture

LONG_SPAN, LONG_KEEP = 8, 4     # changes of chord; one span in so many is kept
SHORT_SPAN, SHORT_KEEP = 4, 2
PRIME = np.uint64(0x9E3779B97F4A7C15)


def _mixed(code: np.ndarray) -> np.ndarray:
    code = (code ^ (code >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return code ^ (code >> np.uint64(29))


def chord_changes(texture: Texture) -> tuple[np.ndarray, np.ndarray]:
    """(K,) uint64 tokens of the scored music's changes of chord and (K,) their ticks."""
    rows = np.flatnonzero((texture.voices_sounding >= 2) & texture.new)
    pitch = texture.pitch[rows]
    if len(rows) < 2:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    changed = np.append(True, (pitch[1:] != pitch[:-1]).any(axis=1))
    pitch, ticks = pitch[changed], texture.onset[rows[changed]]
    low = texture.lowest[rows[changed]]
    mask = np.bitwise_or.reduce(np.where(pitch != SILENT, 1 << ((pitch - low[:, None]) % 12), 0), axis=1)
    return (mask[1:] * 128 + np.diff(low) + 64).astype(np.uint64), ticks[1:]


def fingerprints(
    changes: tuple[np.ndarray, np.ndarray], span: int, keep: int
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) uint32 fingerprints of runs of `span` changes, one in `keep` of all, and (K,) their ticks."""
    token, ticks = changes
    if len(token) < span:
        return np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.int64)
    code = np.zeros(len(token) - span + 1, dtype=np.uint64)
    for place in range(span):
        code = _mixed(code * PRIME + token[place:place + len(code)] + np.uint64(1))
    kept = code % np.uint64(keep) == 0
    return (code[kept] >> np.uint64(32)).astype(np.uint32), ticks[:len(code)][kept]


def long_prints(changes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return fingerprints(changes, LONG_SPAN, LONG_KEEP)


def short_prints(changes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return fingerprints(changes, SHORT_SPAN, SHORT_KEEP)
