"""Structure: keys, harmony in time, cadences, and repetition that has stopped being form."""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.counterpoint import mean_surprisal, rare_events
from mlxgen.scoring.keys import WINDOW_BEATS, key_likelihoods, window_weights
from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music, once
from mlxgen.scoring.statistics import recombination
from mlxgen.scoring.texture import SILENT, Texture

TONIC, DOMINANT, THIRD_OF_DOMINANT = 0, 7, 11
RETURN_BEATS = (3, 4, 5, 6)    # half a phrase


def harmony_surprisal(music: Music) -> Measure:
    """Mean surprisal of the chord on each beat given the last beat's, in the key heard. 0.. nats."""
    return mean_surprisal(music, "harmony")


def rare_chords(music: Music) -> Measure:
    """Share of chord successions rarer than the corpus' 98th percentile. 0..1."""
    return rare_events(music, "harmony")


def key_fit(music: Music) -> Measure:
    """Mean surprisal of sounding pitch classes under the key heard, in nats per voice-beat. 1.5..2.5."""
    texture = music.texture
    slices, voices = np.nonzero(texture.sounding & texture.new[:, None])
    if not len(slices):
        return NOTHING
    key = music.keys[slices]
    nats = -music.reference.profiles[key // 12, (texture.pitch[slices, voices] - key) % 12]
    beats = texture.length[slices] / texture.beat_ticks
    return Measure(float((nats * beats).sum()), float(beats.sum()))


def modulation(music: Music) -> Measure:
    """Changes of the key heard, per four beats. 0..1: wandering is high, a long piece in one key is low."""
    texture = music.texture
    change = (np.diff(music.keys) != 0) & texture.new[1:]
    span = float(texture.length[texture.new].sum()) / (4 * texture.beat_ticks)
    index = np.flatnonzero(change) + 1
    return Measure(len(index), span, texture.onset[index])


def key_unity(music: Music) -> Measure:
    """How much better two keys explain the music than one: the gain in nats of the best place to change from
    any key to any other, per voice-beat. 0..1; real pieces .02, for they leave their key and come back.

    The likelihood ratio test of a change point (D. Hinkley, Biometrika 57, 1970) on pitch classes.
    """
    texture = music.texture
    weights = window_weights(texture)
    if len(weights) < 2:
        return NOTHING
    before = key_likelihoods(weights, music.reference.profiles).cumsum(axis=0)
    gains = before[:-1].max(axis=1) + (before[-1] - before[:-1]).max(axis=1) - before[-1].max()
    at = int(gains.argmax())
    window = WINDOW_BEATS * texture.beat_ticks
    place = (int(texture.onset[0]) // window + at + 1) * window
    return Measure(max(float(gains[at]), 0.0), float(weights.sum()), np.array([place]))


def cadences(music: Music) -> Measure:
    """Authentic cadences, per beat: bass 5 -> 1 in the key heard with the leading note in the first chord,
    onto a chord that holds at least a beat. 0..1.
    """
    texture = music.texture
    if texture.slice_count < 2 or len(texture.sounding_voices) < 2:
        return NOTHING
    low = texture.lowest
    degree = np.where(low != SILENT, (low - music.keys) % 12, -1)
    leading = (texture.sounding & ((texture.pitch - music.keys[:, None]) % 12 == THIRD_OF_DOMINANT)).any(
        axis=1
    )
    moved = low[1:] != low[:-1]
    hit = (degree[1:] == TONIC) & (degree[:-1] == DOMINANT) & leading[:-1] & moved
    arrival = np.flatnonzero(hit & texture.new[1:]) + 1
    change = np.append(np.flatnonzero(np.diff(low)) + 1, texture.slice_count)
    ends = (
        np.append(texture.onset, texture.onset[-1] + texture.length[-1])[
            change[np.searchsorted(change, arrival, side="right")]
        ]
        if len(arrival)
        else arrival
    )
    held = arrival[(ends - texture.onset[arrival]) >= texture.beat_ticks] if len(arrival) else arrival
    return Measure(len(held), int(texture.beat_new.sum()), texture.onset[held])


def flat_leading_notes(music: Music) -> Measure:
    """Roots reached from a whole tone below while the bass falls a fifth (or rises a fourth) onto them, per
    root so reached from below by step: cadences whose leading note is not raised. 0..1; chorales .08.

    No key is asked: music whose leading notes are lowered is heard in another one.
    """
    texture = music.texture
    low = texture.lowest
    if texture.slice_count < 2:
        return NOTHING
    fall = (low[1:] - low[:-1]) % 12 == 5
    at = np.flatnonzero(fall & (low[1:] != SILENT) & (low[:-1] != SILENT) & texture.new[1:]) + 1
    root = texture.pitch[at] % 12 == low[at, None] % 12
    step = np.where(root, texture.moved[at], 0)
    flat, raised = (step == 2).any(axis=1), (step == 1).any(axis=1)
    return Measure(int(flat.sum()), int((flat | raised).sum()), texture.onset[at[flat]])


def harmonic_rhythm(music: Music) -> Measure:
    """Share of beats whose set of pitch classes differs from the last beat's. 0..1."""
    code = music.events["harmony"]
    changes = (code.context != code.outcome)[code.new]
    return Measure(float(changes.sum()), len(changes))


def chord_variety(music: Music) -> Measure:
    """Different chords among all chords on beats, n different of N as log(n) / log(N + 1). 0..1: loops are
    low."""
    code = music.events["harmony"].outcome[music.events["harmony"].new]
    if len(code) < 4:
        return NOTHING
    return Measure(float(np.log(len(np.unique(code))) / np.log(len(code) + 1)) * len(code), len(code))


def freshness(music: Music) -> Measure:
    """How far the music is from a chain of common steps: 8 * share of new chord successions + 6 * share of
    beats whose chord changes + 5 * `phrases` - 9 * `wandering` - 16 * `recombination`. Judged on the low
    side: about 4 in chorales, -4 in chains of beats that each followed the last in some training piece.

    Each term alone overlaps between real music and music picked for likelihood; together they part (AUC .76,
    .81, .81, .87 and .94 alone, .99 together, on chorales that the tables have not seen). The factors are
    those of a linear discriminant on training folds, rounded.
    """
    chords = music.events["harmony"]
    before, after = chords.context[chords.new], chords.outcome[chords.new]
    if len(after) < 8:
        return NOTHING
    changes = before != after
    unseen = music.reference.model(music.family).harmony.unseen(before, after)
    value = (
        8 * (unseen[changes].mean() if changes.any() else 0.0)
        + 6 * changes.mean()
        + 5 * phrases(music).value
        - 9 * wandering(music).value
        - 16 * recombination(music).value
    )
    return Measure(float(value) * len(after), len(after))


@once
def phrases(music: Music) -> Measure:
    """Whether busy and quiet beats come back by the phrase: mean autocorrelation of the attacks per beat at
    two and four bars, less that at one and two beats. -1..1; judged on the low side: a texture that only
    drifts is low.
    """
    texture, notes = music.texture, music.texture.notes
    beat = (notes.start[texture.new_notes] - texture.seam_ticks) // texture.beat_ticks
    bar = max(texture.bar_ticks // texture.beat_ticks, 1)
    count = int(beat.max()) + 1 if len(beat) else 0
    if count <= 4 * bar + 8:
        return NOTHING
    attacks = np.bincount(beat).astype(float)
    attacks -= attacks.mean()
    power = float((attacks * attacks).mean())
    if power < 1e-9:
        return Measure(-1.0 * count, count)
    near, far = (
        [float((attacks[lag:] * attacks[:-lag]).mean()) for lag in lags]
        for lags in ((1, 2), (2 * bar, 4 * bar))
    )
    return Measure((sum(far) - sum(near)) / (2 * power) * count, count)


@once
def wandering(music: Music) -> Measure:
    """Whether lines return within a phrase: the autocorrelation of the beats' pitches three to six beats
    apart, mean of the voices. -1..1.

    Phrases rise and fall back: about -.02 in chorales. Music that only goes from each chord to a next one
    drifts and stays high; a loop is low where its length is not among those lags.
    """
    texture = music.texture
    rows = np.flatnonzero(texture.beat_new)
    if len(rows) < RETURN_BEATS[-1] + 8:
        return NOTHING
    pitch = texture.beats[rows][:, texture.sounding_voices].astype(float)
    sounding = pitch != SILENT
    centre = (pitch * sounding).sum(axis=0) / np.maximum(sounding.sum(axis=0), 1)
    line = np.where(sounding, pitch - centre, 0.0)
    power = (line * line).mean(axis=0)
    moving = power > 1e-9
    if not moving.any():
        return NOTHING
    line, power = line[:, moving], power[moving]
    back = [((line[lag:] * line[:-lag]).mean(axis=0) / power).mean() for lag in RETURN_BEATS]
    return Measure(float(np.mean(back)) * len(rows), len(rows))


def bar_codes(texture: Texture) -> tuple[np.ndarray, np.ndarray]:
    """(bars,) a code of what is attacked in each bar, equal for equal bars, and (bars,) how many notes are
    in it."""
    notes = texture.notes
    bar = notes.start // texture.bar_ticks
    count = int(bar.max()) + 1 if len(bar) else 0
    inside = notes.start % texture.bar_ticks
    code = (
        notes.voice.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        ^ (inside.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F))
        ^ (notes.pitch.astype(np.uint64) * np.uint64(0x165667B19E3779F9))
    )
    code = (code ^ (code >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    code ^= code >> np.uint64(32)
    total = np.zeros(count, dtype=np.uint64)
    np.add.at(total, bar, code)
    return total, np.bincount(bar, minlength=count)


def repetition(music: Music) -> Measure:
    """Bars equal to one of the eight bars before them, per bar. 0..1; a loop 1, real pieces near 0.

    Bars with fewer than three attacks are not counted: held and silent bars repeat nothing.
    """
    texture = music.texture
    code, size = bar_codes(texture)
    bars = np.arange(len(code))
    equal = np.zeros(len(code), dtype=bool)
    for lag in range(1, min(8, len(code) - 1) + 1):
        equal[lag:] |= (code[lag:] == code[:-lag]) & (size[lag:] >= 3)
    scored = (bars * texture.bar_ticks >= texture.seam_ticks) & (size >= 3)
    equal &= scored
    return Measure(int(equal.sum()), int(scored.sum()), bars[equal] * texture.bar_ticks)


def recurrence(music: Music) -> Measure:
    """Share of beats whose chord, next chord and the one after stood before in this music at the same
    pitches. 0..1.

    Finds loops whose length is not a number of bars. Judged two-sidedly: real pieces recall some of their
    harmony.
    """
    beats = music.texture.beats
    if len(beats) < 12:
        return NOTHING
    weights = np.array([131**index % 1000003 for index in range(beats.shape[1])])
    code = ((beats + 2) * weights).sum(axis=1)
    triple = code[:-2] * 1000003 + code[1:-1] * 1009 + code[2:]
    changing = (beats[:-1] != beats[1:]).any(axis=1)
    changing = changing[:-1] & changing[1:] & (beats[:-2] != SILENT).any(axis=1)
    _, first = np.unique(triple, return_index=True)
    again = np.ones(len(triple), dtype=bool)
    again[first] = False
    scored = changing & music.texture.beat_new[:-2]
    again &= scored
    return Measure(float(again.sum()), float(scored.sum()), music.texture.beat_times[:-2][again])
