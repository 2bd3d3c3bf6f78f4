"""Fingerprints: hashed spans of music, the same in every key, by which a copy of a training piece is known.

Eight successive changes of the sounding chord (intervals over the bass, and the bass' step) are one span; a
quarter of all spans, chosen by their hash, is kept (the sampling of S. Schleimer, D. Wilkerson and A. Aiken,
Winnowing, 2003).
"""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.texture import SILENT, Texture

SPAN = 8
KEEP = 4                # one span in KEEP is kept
PRIME = np.uint64(0x9E3779B97F4A7C15)


def _mixed(code: np.ndarray) -> np.ndarray:
    code = (code ^ (code >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return code ^ (code >> np.uint64(29))


def fingerprints(texture: Texture) -> tuple[np.ndarray, np.ndarray]:
    """(K,) uint32 fingerprints of the scored music and (K,) the tick where each span begins."""
    empty = np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.int64)
    rows = np.flatnonzero((texture.sounding.sum(axis=1) >= 2) & texture.new)
    pitch = texture.pitch[rows]
    if len(rows) <= SPAN:
        return empty
    changed = np.append(True, (pitch[1:] != pitch[:-1]).any(axis=1))
    pitch, ticks = pitch[changed], texture.onset[rows[changed]]
    if len(ticks) <= SPAN:
        return empty
    present = pitch != SILENT
    low = np.where(present, pitch, 999).min(axis=1)
    mask = np.bitwise_or.reduce(np.where(present, 1 << ((pitch - low[:, None]) % 12), 0), axis=1)
    token = (mask[1:] * 128 + np.diff(low) + 64).astype(np.uint64)
    code = np.zeros(len(token) - SPAN + 1, dtype=np.uint64)
    for place in range(SPAN):
        code = _mixed(code * PRIME + token[place:place + len(code)] + np.uint64(1))
    kept = code % np.uint64(KEEP) == 0
    return (code[kept] >> np.uint64(32)).astype(np.uint32), ticks[1:len(code) + 1][kept]
