"""Wrong notes: would a pitch close by fit better, given everything around the note?

A rare chord makes all its notes rare, a wrong note only itself: so each note is compared with the pitches up
to SPAN semitones from it, in its line, in the sounding chord and against every other voice, before and after.
The channels of the event model say how likely each would be; a conditional logit (D. McFadden, 1974) fitted
on real notes alone says how much each channel counts. No corruption is ever shown to it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlxgen.scoring.events import fold, place, step_class
from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music
from mlxgen.scoring.texture import SILENT, Texture, following

SPAN = 3
SHIFTS = np.arange(-SPAN, SPAN + 1)
FEATURES = ("line", "sonority", "into", "out of", "motions", "repeats", "is repeated")
ALTERED = 0.05  # how many notes of a spoiled piece are taken to be altered
LARGEST_NATS = 12.0  # nothing is surer than this to be wrong
PLACED_NATS = 4.0  # from here on a note is pointed at
WIDEST = 256
# By difference of two pitches + WIDEST: what depends on an alternative is one look-up.
_DIFFERENCES = np.arange(-WIDEST, WIDEST)
_FOLD, _STEP, _BIT = fold(_DIFFERENCES), step_class(_DIFFERENCES), 1 << (_DIFFERENCES % 12)


class _Beside(NamedTuple):
    """The U other voices of n notes. All arrays (U, n)."""

    voice: np.ndarray
    upper: np.ndarray  # bool: the note's own voice is the upper of the two
    outer: np.ndarray  # bool: the two are the highest and the lowest voice


def _beside(texture: Texture, own: np.ndarray) -> _Beside:
    """The other voices of notes in the voices `own` (n,)."""
    voices = texture.sounding_voices
    table = np.zeros((len(voices) - 1, texture.voice_count), dtype=np.int64)
    for voice in voices:
        table[:, voice] = voices[voices != voice]
    other = table[:, own]
    high, low = np.minimum(own, other), np.maximum(own, other)
    return _Beside(other, own < other, (high == voices[0]) & (low == voices[-1]))


def _motions(
    music: Music, beside: _Beside, slices: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A voice moves from `before` to `after` (n, 1 or K) as the slices (n,) begin (0: no motion is known):
    (n, K) log-probabilities of its motions against the other voices, summed, and (n, K) how many there are.
    """
    texture, table = music.texture, music.model.dense["pair"].log_probability
    step = after - before
    steps, moving = _STEP.take(step + WIDEST), step != 0
    total, count = np.zeros(step.shape), np.zeros(step.shape, dtype=np.int64)
    for voice, upper, outer in zip(*beside, strict=True):  # arrays of one other voice stay in the cache
        left = texture.pitch[np.maximum(slices - 1, 0), voice]
        right = texture.pitch[slices, voice]
        known = (slices > 0) & (left != SILENT) & (right != SILENT)
        moved = np.where(known, right - left, 0)
        sign, weight = np.where(upper, 1, -1)[:, None], np.where(upper, 5, 1)[:, None]
        here = _FOLD.take(sign * (before - left[:, None]) + WIDEST)  # (n, 1 or K)
        there = _FOLD.take(sign * (after - right[:, None]) + WIDEST)
        context = (here + (outer * 36)[:, None]) * table.shape[1]
        outcome = there * 25 + (_STEP.take(moved + WIDEST) * np.where(upper, 1, 5))[:, None]
        counted = known[:, None] & (moving | (moved != 0)[:, None])
        total += table.take(context + outcome + steps * weight) * counted
        count += counted
    return total, count


def _sonorities(music: Music, beside: _Beside, slices: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """(n, K) log-probability of the sonority as a note of `pitch` (n, K) begins; 0 where it sounds alone."""
    texture, table = music.texture, music.model.dense["sonority"].log_probability
    other = texture.pitch[slices, beside.voice]
    heard = other != SILENT
    low = np.minimum(np.where(heard, other, WIDEST).min(axis=0, initial=WIDEST)[:, None], pitch)
    sounding = _BIT.take(pitch - low + WIDEST)
    for one, sounds in zip(other, heard, strict=True):
        sounding |= _BIT.take(np.where(sounds[:, None], one[:, None] - low, 0) + WIDEST)
    nats = table[place(texture, texture.onset[slices])[:, None], sounding >> 1]
    return np.where(heard.any(axis=0)[:, None], nats, 0.0)


def alternatives(music: Music) -> np.ndarray:
    """(n, K, F): how each channel likes the n scored notes, and the pitches SHIFTS from them in their place.

    The columns are FEATURES: log-probabilities, then counts of what the channels cannot see.
    """
    texture, notes = music.texture, music.texture.notes
    index = np.flatnonzero(texture.new_notes)
    pitch = notes.pitch[index, None] + SHIFTS
    begin, last = texture.note_slices[index], following(notes.first, True)[index]
    after = np.minimum(index + 1, len(notes.pitch) - 1)
    before, behind = notes.pitch[index - 1][:, None], notes.pitch[after][:, None]
    beside = _beside(texture, notes.voice[index])
    tied = ~notes.first[index] & (notes.gap[index] == 0)
    into, entering = _motions(music, beside, np.where(tied, begin, 0), before, pitch)
    left = np.where(~last & (notes.gap[after] == 0), texture.note_slices[after], 0)
    out_of, leaving = _motions(music, beside, left, pitch, behind)
    degree = (pitch - music.keys[begin][:, None]) % 12
    line = music.model.dense["line"].log_probability[music.events["line"].context[index][:, None], degree]
    columns = (
        line,
        _sonorities(music, beside, begin, pitch),
        into,
        out_of,
        entering + leaving,
        (pitch == before) & ~notes.first[index, None],
        (pitch == behind) & ~last[:, None],
    )
    return np.stack([np.broadcast_to(column, pitch.shape) for column in columns], axis=-1, dtype=np.float64)


def note_nats(music: Music) -> np.ndarray:
    """(n,) -log of the probability of each scored note among its alternatives. 0.. nats."""
    if not music.texture.note_count or not music.texture.slice_count:
        return np.zeros(0)
    liked = alternatives(music) @ music.reference.note_weights[music.family]  # (n, K)
    highest = liked.max(axis=1)
    return np.log(np.exp(liked - highest[:, None]).sum(axis=1)) + highest - liked[:, SPAN]


def wrong_notes(music: Music) -> Measure:
    """Mean over the notes of the log-likelihood that one in twenty is altered, against that none is:
    log(.95 + .05 / (K p)) for a note of probability p among its K alternatives. -.05..; real pieces -.02.

    The places are the notes of PLACED_NATS or more, the least likely first.
    """
    nats = note_nats(music)
    if not len(nats):
        return NOTHING
    altered = np.exp(np.minimum(nats, LARGEST_NATS)) / len(SHIFTS)
    total = float(np.log(1 - ALTERED + ALTERED * altered).sum())
    at = np.flatnonzero(nats >= PLACED_NATS)
    notes, index = music.texture.notes, np.flatnonzero(music.texture.new_notes)[at]
    return Measure(total, len(nats), notes.start[index], notes.voice[index, None], nats[at])
