"""Statistics: how far melody, degrees and rhythm lie from the corpus, on either side.

Too surprising is wrong and too predictable is dull: these metrics are judged by their distance from the
held-out pieces' distribution in both directions.
"""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.counterpoint import mean_surprisal, rare_events
from mlxgen.scoring.events import LARGEST_LEAP
from mlxgen.scoring.fingerprint import long_prints, short_prints
from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music, once


def melody_surprisal(music: Music) -> Measure:
    """Mean surprisal of melodic intervals, given the one before and the voice's role. 0.. nats."""
    return mean_surprisal(music, "melody")


def rare_intervals(music: Music) -> Measure:
    """Share of melodic intervals rarer than the corpus' 98th percentile. 0..1."""
    return rare_events(music, "melody")


def degree_surprisal(music: Music) -> Measure:
    """Mean surprisal of scale degrees in the key heard, given the degree before. 0.. nats."""
    return mean_surprisal(music, "degree")


def rare_degrees(music: Music) -> Measure:
    """Share of scale degrees rarer than the corpus' 98th percentile: chromatic notes astray. 0..1."""
    return rare_events(music, "degree")


def rhythm_surprisal(music: Music) -> Measure:
    """Mean surprisal of durations, given the one before and the place in the beat. 0.. nats."""
    return mean_surprisal(music, "rhythm")


def rare_rhythms(music: Music) -> Measure:
    """Share of durations rarer, at their place in the beat, than the corpus' 98th percentile. 0..1."""
    return rare_events(music, "rhythm")


def _entropy(codes: np.ndarray) -> Measure:
    """Entropy in nats of a sample of codes, corrected for its size (G. Miller, 1955: + (kinds - 1) / 2n)."""
    if len(codes) < 2:
        return NOTHING
    counts = np.bincount(codes)
    counts = counts[counts > 0]
    share = counts / len(codes)
    value = float(-(share * np.log(share)).sum()) + (len(counts) - 1) / (2 * len(codes))
    return Measure(value * len(codes), len(codes))


def interval_variety(music: Music) -> Measure:
    """Entropy of the melodic intervals, Miller-corrected. 0..3.3 nats: low drones and scales, high random
    walks."""
    channel = music.events["melody"]
    return _entropy(channel.outcome[channel.new])


def rhythm_variety(music: Music) -> Measure:
    """Entropy of the durations, Miller-corrected. 0..2.4 nats."""
    channel = music.events["rhythm"]
    return _entropy(channel.outcome[channel.new])


def density(music: Music) -> Measure:
    """log2 of the attacks per beat and voice, over the voices that sound at all. -4..2; drones are low."""
    texture = music.texture
    beats = float(texture.length[texture.new].sum()) / texture.beat_ticks
    voices = len(texture.sounding_voices)
    if beats < 2 or not voices:
        return NOTHING
    return Measure(float(np.log2(max(texture.note_count, 1) / (beats * voices))) * beats, beats)


def silence(music: Music) -> Measure:
    """Share of the time in which a voice rests, mean of the voices that sound at all (context included).
    0..1."""
    texture = music.texture
    voices = texture.sounding_voices
    length = texture.length[texture.new]
    total = float(length.sum()) * len(voices)
    if total <= 0:
        return NOTHING
    resting = ~texture.sounding[texture.new][:, voices]
    beats = total / texture.beat_ticks
    return Measure(float((resting * length[:, None]).sum()) / total * beats, beats)


def holes(music: Music) -> Measure:
    """Rests of up to a bar inside a voice that begin while two others sound, per note: notes left out.

    Range 0..; rare in chorales, usual in motets. Where all voices breathe together nothing is left out.
    """
    texture, notes = music.texture, music.texture.notes
    pause = ~notes.first & texture.new_notes & (notes.gap > 0) & (notes.gap <= texture.bar_ticks)
    index = np.flatnonzero(pause)
    begin = notes.start[index] - notes.gap[index]
    alone = texture.voices_sounding[np.searchsorted(texture.onset, begin)] < 2
    index, begin = index[~alone], begin[~alone]
    return Measure(len(index), texture.note_count, begin, notes.voice[index, None])


def step_share(music: Music) -> Measure:
    """Share of melodic intervals that are steps (1 or 2 semitones). 0..1."""
    channel = music.events["melody"]
    size = np.abs(channel.outcome[channel.new] - LARGEST_LEAP)
    return Measure(float(((size == 1) | (size == 2)).sum()), len(size))


def originality(music: Music) -> Measure:
    """Share of long spans that stand, transposed or not, in a training piece. 0..1; see fingerprint.py."""
    prints, ticks = long_prints(music.changes)
    if not len(prints):
        return NOTHING
    known = music.reference.is_known(prints)
    return Measure(float(known.sum()), len(prints), ticks[known])


@once
def recombination(music: Music) -> Measure:
    """Share of short spans that stand, transposed or not, in a training piece of the family. 0..1.

    Real pieces share some turns with others (chorales: a sixth of them); music put together from pieces
    shares most.
    """
    prints, _ = short_prints(music.changes)
    known = music.reference.is_turn(music.family, prints)
    return Measure(float(known.sum()), len(prints)) if len(prints) else NOTHING
