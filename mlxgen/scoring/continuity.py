"""Continuity: does the music go on as it was, in register, density, texture and predictability?"""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music
from mlxgen.scoring.texture import Texture

SPAN_BARS = 4


def _spans(texture: Texture, ticks: np.ndarray) -> tuple[np.ndarray, int]:
    """(K,) span number of each tick, spans of SPAN_BARS bars laid so that one begins at the seam; and their
    count."""
    size = SPAN_BARS * texture.bar_ticks
    lead = -(-texture.seam_ticks // size) * size - texture.seam_ticks
    end = int(texture.onset[-1] + texture.length[-1]) if texture.slice_count else 0
    return (ticks + lead) // size, -(-(end + lead) // size)


def _neighbours(music: Music, values: np.ndarray, weight: np.ndarray) -> Measure:
    """Mean |difference| of neighbouring spans' values (R, spans); only across the seam when there is a
    context.

    A span counts where its weight (R, spans) is at least 3 notes.
    """
    known = weight >= 3
    both = known[:, 1:] & known[:, :-1]
    change = np.abs(np.diff(values, axis=1))
    if music.texture.has_context:
        first = _spans(music.texture, np.array([music.texture.seam_ticks]))[0][0]
        both &= (np.arange(both.shape[1]) == first - 1)[None]
    return Measure(float(change[both].sum()), int(both.sum()))


def register_drift(music: Music) -> Measure:
    """Semitones by which a voice's mean pitch moves from four bars to the next four. 0..12."""
    texture, notes = music.texture, music.texture.notes
    if not len(notes.start):
        return NOTHING
    span, count = _spans(texture, notes.start)
    code = notes.voice * count + span
    size = np.bincount(code, minlength=texture.voice_count * count).reshape(-1, count)
    total = np.bincount(code, weights=notes.pitch, minlength=texture.voice_count * count).reshape(-1, count)
    return _neighbours(music, total / np.maximum(size, 1), size)


def density_drift(music: Music) -> Measure:
    """|log| ratio of the attacks in four bars and in the next four. 0..2."""
    texture, notes = music.texture, music.texture.notes
    if not len(notes.start):
        return NOTHING
    span, count = _spans(texture, notes.start)
    size = np.bincount(span, minlength=count)[None].astype(float)
    if size.shape[1] > 1 and not music.texture.has_context:
        size = size[:, :-1]  # the last span may be shorter than four bars
    return _neighbours(music, np.log(np.maximum(size, 1.0)), size)


def surprisal_drift(music: Music) -> Measure:
    """Nats per melodic event by which four bars differ from the next four. 0..2."""
    texture, events = music.texture, music.events["degree"]
    if not len(events.ticks):
        return NOTHING
    nats = music.nats["degree"] + music.nats["melody"]
    span, count = _spans(texture, events.ticks)
    size = np.bincount(span, minlength=count)
    total = np.bincount(span, weights=nats, minlength=count)
    return _neighbours(music, (total / np.maximum(size, 1))[None], size[None])


def fresh_start(music: Music) -> Measure:
    """Whether the model is more surprised where the chunk begins than later: a fresh start is, a
    continuation is not.

    z of the first eighth of the token surprisals against the rest; needs `surprisal` with at least 32
    tokens. -5..20.
    """
    tokens = music.surprisal
    if tokens is None or len(tokens) < 32 or not music.texture.has_context:
        return NOTHING
    cut = len(tokens) // 8
    spread = float(tokens.std()) or 1.0
    value = float(tokens[:cut].mean() - tokens[cut:].mean()) / (
        spread * np.sqrt(1 / cut + 1 / (len(tokens) - cut))
    )
    return Measure(value, 1)
