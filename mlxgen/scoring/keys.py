"""The key as it is heard: one of 24 for every few beats, from the notes alone.

A file's declared key is often missing or only a signature, and music modulates; so harmony and melody are
judged relative to the key that the notes themselves suggest, and a wrong note cannot hide behind a wrong
signature.
"""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.texture import Texture

WINDOW_BEATS = 4
SWITCH_COST = 9.0      # nats; a window of four voices weighs about 16 voice-beats
MAJOR, MINOR = 0, 1

# Krumhansl and Kessler's probe-tone ratings (1982), tonic first: where fitting starts.
PROBE_TONES = np.array([
    [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
    [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
])


def window_weights(texture: Texture) -> np.ndarray:
    """(W, 12): voice-beats of each pitch class in windows of WINDOW_BEATS beats (a slice counts where it
    begins)."""
    if not texture.slice_count:
        return np.zeros((0, 12))
    window = texture.onset // (WINDOW_BEATS * texture.beat_ticks)
    count = int(window[-1]) + 1
    slices, voices = np.nonzero(texture.sounding)
    code = window[slices] * 12 + texture.pitch[slices, voices] % 12
    beats = texture.length[slices] / texture.beat_ticks
    return np.bincount(code, weights=beats, minlength=count * 12).reshape(count, 12)


# (24, 12): the degree that each pitch class is in each key (mode * 12 + tonic)
DEGREES = (np.arange(12)[None] - np.tile(np.arange(12), 2)[:, None]) % 12
MODES = np.repeat((MAJOR, MINOR), 12)


def key_likelihoods(weights: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """(W, 12) weights of pitch classes and (2, 12) log-probabilities of degrees -> (W, 24) log-likelihood of
    each key (mode * 12 + tonic)."""
    return weights @ profiles[MODES[:, None], DEGREES].T


def local_keys(texture: Texture, profiles: np.ndarray, switch_cost: float = SWITCH_COST) -> np.ndarray:
    """(S,) key of each slice, mode * 12 + tonic: the likeliest path over windows (Viterbi), each change of
    key costing `switch_cost` nats."""
    if not texture.slice_count:
        return np.zeros(0, dtype=np.int64)
    scores = key_likelihoods(window_weights(texture), profiles)
    best = scores[0].copy()
    came_from = np.empty((len(scores), 24), dtype=np.int64)
    stay = np.arange(24)
    for row in range(1, len(scores)):
        leader = int(best.argmax())
        switch = best[leader] - switch_cost > best
        came_from[row] = np.where(switch, leader, stay)
        best = np.where(switch, best[leader] - switch_cost, best) + scores[row]
    path = np.empty(len(scores), dtype=np.int64)
    path[-1] = best.argmax()
    for row in range(len(scores) - 1, 0, -1):
        path[row - 1] = came_from[row, path[row]]
    return path[texture.onset // (WINDOW_BEATS * texture.beat_ticks)]
