"""Boundary: how surprising a bar line is to cross, against the other bar lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxgen.music.piece import Piece
from mlxgen.scoring.keys import key_likelihoods
from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music, make_music, once
from mlxgen.scoring.texture import Texture

FEATURES = ("harmony", "pair", "pair peak", "melody", "melody peak", "degree", "leap", "key", "register")


@dataclass(frozen=True)
class BarLines:
    """Every bar line with music on both sides: (L,) ticks and (L, F) features, NaN where one has no event."""

    ticks: np.ndarray
    features: np.ndarray


def _crossing(texture: Texture) -> tuple[np.ndarray, np.ndarray]:
    """(K,) notes that are their voice's first in a bar and follow an earlier one, and (K,) their bars."""
    notes = texture.notes
    bar = notes.start // texture.bar_ticks
    kept = np.flatnonzero(~notes.first & (bar != np.concatenate([bar[:1], bar[:-1]])))
    return kept, bar[kept]


def _mean_at(bars: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """(count,) mean of values by bar; NaN without values."""
    size = np.bincount(bars, minlength=count)[:count]
    total = np.bincount(bars, weights=values, minlength=count)[:count]
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)


def _peak_at(bars: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, bars, values)
    return np.where(np.isfinite(peak), peak, np.nan)


def _key_jump(music: Music, count: int) -> np.ndarray:
    """(count,) nats per voice-beat by which two bars after a line prefer another key than two before."""
    texture = music.texture
    slices, voices = np.nonzero(texture.sounding)
    bar = texture.onset[slices] // texture.bar_ticks
    code = bar * 12 + texture.pitch[slices, voices] % 12
    beats = texture.length[slices] / texture.beat_ticks
    weights = np.bincount(code, weights=beats, minlength=(count + 2) * 12)[: (count + 2) * 12].reshape(-1, 12)
    scores = key_likelihoods(weights, music.reference.profiles)  # (bars, 24)
    padded = np.vstack([np.zeros((2, 24)), scores])
    before = padded[:count] + padded[1 : count + 1]  # bars b-2 and b-1
    after = scores[:count] + scores[1 : count + 1]
    amount = np.maximum((weights[:count] + weights[1 : count + 1]).sum(axis=1), 1.0)
    rows = np.arange(count)
    return (after.max(axis=1) - after[rows, before.argmax(axis=1)]) / amount


def _register_jump(texture: Texture, count: int) -> np.ndarray:
    """(count,) semitones between a voice's mean pitch in the bar before a line and in the bar after, mean of
    voices."""
    notes = texture.notes
    shape = (texture.voice_count, count + 1)
    code = notes.voice * (count + 1) + np.minimum(notes.start // texture.bar_ticks, count)
    size = np.bincount(code, minlength=shape[0] * shape[1]).reshape(shape)
    total = np.bincount(code, weights=notes.pitch, minlength=shape[0] * shape[1]).reshape(shape)
    mean = np.where(size > 0, total / np.maximum(size, 1), np.nan)[:, :count]
    jump = np.abs(np.diff(mean, axis=1))
    known = ~np.isnan(jump)
    value = np.where(known, jump, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.concatenate([[np.nan], np.where(known.any(axis=0), value, np.nan)])


def bar_line_features(music: Music) -> BarLines:
    """Local surprisal at each bar line: the chord, pair motions and melodic steps that cross it, leaps, key,
    register.

    An event crosses a line when it is the first of its voice or pair after it. Shapes: see BarLines.
    """
    texture = music.texture
    count = int(texture.onset[-1] // texture.bar_ticks) + 1 if texture.slice_count else 0
    if count < 2:
        return BarLines(np.zeros(0, dtype=np.int64), np.zeros((0, len(FEATURES))))
    columns = {}
    chords = music.events["harmony"]
    at_line = chords.ticks % texture.bar_ticks == 0
    columns["harmony"] = _mean_at(
        chords.ticks[at_line] // texture.bar_ticks, music.nats["harmony"][at_line], count
    )
    pairs = music.events["pair"]
    near = pairs.ticks % texture.bar_ticks < texture.beat_ticks
    bars = pairs.ticks[near] // texture.bar_ticks
    columns["pair"] = _mean_at(bars, music.nats["pair"][near], count)
    columns["pair peak"] = _peak_at(bars, music.nats["pair"][near], count)
    kept, bars = _crossing(texture)
    follows = np.cumsum(~texture.notes.first) - 1  # melody and degree events are these notes
    melodic = music.nats["melody"][follows[kept]]
    columns["melody"] = _mean_at(bars, melodic, count)
    columns["melody peak"] = _peak_at(bars, melodic, count)
    columns["degree"] = _mean_at(bars, music.nats["degree"][follows[kept]], count)
    columns["leap"] = _mean_at(bars, np.abs(texture.notes.interval[kept]).astype(float), count)
    columns["key"] = _key_jump(music, count)
    columns["register"] = _register_jump(texture, count)
    table = np.column_stack([columns[name] for name in FEATURES])
    lines = np.arange(1, count)
    heard = ~np.isnan(columns["melody"][1:]) | ~np.isnan(columns["pair"][1:])
    return BarLines(lines[heard] * texture.bar_ticks, table[1:][heard])


@once
def seam_scores(music: Music) -> tuple[np.ndarray, np.ndarray]:
    """(L,) ticks of bar lines and (L,) how much each looks like a seam, in units of the corpus' bar lines (0
    usual).

    A linear discriminant of the features above, each in standard deviations of the family's bar lines; the
    weights tell real bar lines of training pieces from lines where two training pieces, or two places of
    one, were joined.
    """
    lines = bar_line_features(music)
    mean, spread = music.reference.bar_lines[music.family]
    standard = (lines.features - mean) / spread
    standard = np.clip(np.where(np.isnan(standard), 0.0, standard), -4, 8)
    return lines.ticks, standard @ music.reference.seam_weights


def seam(music: Music) -> Measure:
    """The seam between context and chunk: its score less the median of the context's other bar lines, half
    trusted.

    -5..20; real continuations lie around 0. Only with a context.
    """
    if not music.texture.has_context:
        return NOTHING
    ticks, scores = seam_scores(music)
    at = np.flatnonzero(ticks == music.texture.seam_ticks)
    if not len(at):
        return NOTHING
    others = np.delete(scores, at)
    usual = float(np.median(others)) * len(others) / (len(others) + 8) if len(others) else 0.0
    value = float(scores[at[0]]) - usual
    return Measure(value, 1, ticks[at], None, np.array([value]))


def seam_and_lines(music: Music) -> tuple[float | None, np.ndarray]:
    """The seam's score (None without a context, or where no event crosses it) and the (L,) scores of the bar
    lines inside the music."""
    ticks, scores = seam_scores(music)
    at = np.flatnonzero(ticks == music.texture.seam_ticks) if music.texture.has_context else ()
    return (float(scores[at[0]]) if len(at) else None), inner_lines(music)[1]


def inner_lines(music: Music) -> tuple[np.ndarray, np.ndarray]:
    """(L,) ticks and scores of the bar lines inside the music, behind its context."""
    ticks, scores = seam_scores(music)
    inside = ticks > music.texture.seam_ticks
    return ticks[inside], scores[inside]


def _beyond_worst(score: float, lines: int, music: Music) -> float:
    """A score less what the worst of so many real bar lines scores, which grows about as a + b log L (extreme
    values of a thin tail); a and b are measured."""
    offset, slope = music.reference.worst_line[music.family]
    return score - offset - slope * np.log(lines)


def worst_bar_line(music: Music) -> Measure:
    """The least natural bar line inside the music, less what the worst of that many real bar lines scores.
    -5..20.
    """
    ticks, scores = inner_lines(music)
    if len(ticks) < 2:
        return NOTHING
    value = _beyond_worst(float(scores.max()), len(ticks), music)
    worst = np.argsort(-scores, kind="stable")[:3]
    return Measure(value, 1, ticks[worst], None, scores[worst])


def odd_bar(music: Music) -> Measure:
    """The bar that fits its neighbours least: mean score of the two lines around it, less what the worst of
    that many real bar lines scores. -5..20. One bar in another key has a seam on both sides."""
    ticks, scores = inner_lines(music)
    if len(ticks) < 3:
        return NOTHING
    around = (scores[1:] + scores[:-1]) / 2
    at = int(around.argmax())
    value = _beyond_worst(float(around[at]), len(ticks), music)
    return Measure(value, 1, ticks[at : at + 1], None, around[at : at + 1])


def mean_bar_line(music: Music) -> Measure:
    """Mean seam score of all bar lines inside the music: shuffled bars make every line a seam. -1..5."""
    _, scores = inner_lines(music)
    return Measure(float(scores.sum()), len(scores))


def find_seams(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """(L,) ticks and (L,) scores of a piece's bar lines, less the piece's median half trusted: what `bench`
    counts."""
    ticks, scores = seam_scores(make_music(piece))
    usual = np.median(scores) * len(scores) / (len(scores) + 8) if len(scores) else 0.0
    return ticks, scores - usual
