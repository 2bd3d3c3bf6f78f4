"""Theme: does the music come back to what it opened with, more than chance would?"""

from __future__ import annotations

from functools import cache

import numpy as np

from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music
from mlxgen.scoring.texture import Notes

THEME_INTERVALS = 6     # a theme is up to seven notes
SHORTEST = 3
BEST_SHARE = 32         # one place in so many: a fugue's entries are about as rare
SHUFFLES = 16
NULL_SEED = 1725        # Gradus ad Parnassum


def diatonic(interval: np.ndarray) -> np.ndarray:
    """Semitones -> signed diatonic steps, so that a tonal answer or a change of mode is the same theme."""
    size = np.abs(interval)
    steps = np.array([0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6])[size % 12] + 7 * (size // 12)
    return np.sign(interval) * steps


def opening_theme(notes: Notes) -> tuple[np.ndarray, int, int]:
    """(m,) diatonic steps of the first voice that enters, its voice, and how many of its notes are the theme.
    """
    leading = int(np.lexsort((notes.voice, notes.start))[0])
    own = np.flatnonzero(notes.voice == notes.voice[leading])[:THEME_INTERVALS + 1]
    return diatonic(notes.interval[own[1:]]), int(notes.voice[leading]), len(own)


def _runs(notes: Notes, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, length) diatonic steps of every run of notes inside one voice, and (K,) index of the run's second
    note."""
    if len(notes.start) < length:
        return np.zeros((0, length), dtype=np.int8), np.zeros(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(diatonic(notes.interval).astype(np.int8), length)
    whole = ~np.lib.stride_tricks.sliding_window_view(notes.first, length).any(axis=1)
    index = np.flatnonzero(whole)
    return windows[index], index


@cache
def _orders(length: int) -> np.ndarray:
    """(SHUFFLES, length) orders of a theme's steps, always the same ones."""
    return np.random.default_rng(NULL_SEED).random((SHUFFLES, length)).argsort(axis=1)


def theme_recall(music: Music) -> Measure:
    """How much better the music recalls its opening theme than shuffled themes, -1..1.

    Similarity of the best thirty-second of all places with the theme (the first seven notes of the voice
    that enters first), minus the same for 16 fixed shuffles of its steps: what any melody in that style
    would reach. A step counts whole where it is equal, half where it is one degree off. The theme's own
    notes do not count. In a chunk the theme is the context's opening.
    """
    source = music.texture.notes if music.opening is None else music.opening
    if len(source.start) <= SHORTEST:
        return NOTHING
    theme, voice, length = opening_theme(source)
    if len(theme) < SHORTEST or not theme.any():
        return NOTHING
    runs, index = _runs(music.texture.notes, len(theme))
    notes = music.texture.notes
    kept = notes.start[index] >= music.texture.seam_ticks
    if music.opening is None:
        first = np.flatnonzero(notes.voice == voice)[0]
        kept &= (notes.voice[index] != voice) | (index > first + length - 1)
    runs, index = runs[kept], index[kept]
    if len(runs) < 8:
        return NOTHING
    ours, theirs = runs.T[:, None, :], theme.astype(np.int8)[:, None]
    apart = ours - theirs       # (m places, m steps, runs)
    near = ((apart == 1) | (apart == -1)) & ((ours > 0) == (theirs > 0))
    # Two points for an equal step, one for a near one; then every order of the steps picks its own.
    each = 2 * (apart == 0).view(np.int8) + near.view(np.int8)
    orders = np.vstack([np.arange(len(theme)), _orders(len(theme))])    # (1 + SHUFFLES, m)
    points = each[np.arange(len(theme)), orders].sum(axis=1, dtype=np.int8)
    likeness = points / np.float32(2 * len(theme))
    top = max(len(runs) // BEST_SHARE, 1)
    best = np.partition(likeness, len(runs) - top, axis=1)[:, -top:].mean(axis=1)
    places = np.flatnonzero(likeness[0] >= 0.9)
    return Measure(float(best[0] - best[1:].mean()) * len(runs), len(runs), notes.start[index[places] - 1],
                   notes.voice[index[places], None])
