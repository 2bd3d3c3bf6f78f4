"""Counterpoint: how voices move against each other and how they treat dissonance."""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music
from mlxgen.scoring.texture import SILENT, following

DISSONANT = np.isin(np.arange(12), (1, 2, 6, 10, 11))
PERFECT = np.isin(np.arange(12), (0, 7))
STEP = 2


def mean_surprisal(music: Music, channel: str) -> Measure:
    """Nats per event of a channel, over the scored events."""
    new = music.events[channel].new
    nats = music.nats[channel][new]
    return Measure(float(nats.sum()), len(nats))


def rare_events(music: Music, channel: str) -> Measure:
    """Events of a channel more surprising than all but 2 % of the corpus', with their places and nats."""
    events, nats = music.events[channel], music.nats[channel]
    hit = np.flatnonzero(events.new & (nats > music.reference.rare(music.family, channel)))
    voices = events.voices[hit]
    return Measure(
        len(hit),
        int(events.new.sum()),
        events.ticks[hit],
        voices if voices.shape[1] == 2 or channel in ("melody", "degree", "rhythm") else None,
        nats[hit],
    )


def pair_surprisal(music: Music) -> Measure:
    """Mean surprisal of two voices' motion: interval reached and both steps, given the interval left. 0..
    nats."""
    return mean_surprisal(music, "pair")


def rare_motions(music: Music) -> Measure:
    """Share of two-voice motions rarer than the corpus' 98th percentile. 0..1."""
    return rare_events(music, "pair")


def sonority_surprisal(music: Music) -> Measure:
    """Mean surprisal of the intervals over the bass at each attack, given the place in the beat. 0.. nats."""
    return mean_surprisal(music, "sonority")


def rare_sonorities(music: Music) -> Measure:
    """Share of attacks whose sonority is rarer than the corpus' 98th percentile. 0..1."""
    return rare_events(music, "sonority")


def motion_variety(music: Music) -> Measure:
    """Share of similar motion among two-voice motions where both voices move. 0..1; fauxbourdon 1, strict
    contrary 0.

    The four motions are Fux's; oblique motion says nothing about a pair's independence and is left out.
    """
    texture = music.texture
    if texture.slice_count < 2 or not len(texture.pairs):
        return NOTHING
    product = np.sign(texture.moved[:, texture.pairs[:, 0]]) * np.sign(texture.moved[:, texture.pairs[:, 1]])
    product = product[texture.new]
    return Measure(float((product > 0).sum()), float((product != 0).sum()))


def independence(music: Music) -> Measure:
    """Share of the sounding voices that attack at a moment of attack, on average. 0..1; 1 is chords only."""
    texture = music.texture
    moments = texture.attack.any(axis=1) & texture.new & (texture.voices_sounding >= 2)
    if not moments.any():
        return NOTHING
    share = texture.attack[moments].sum(axis=1) / texture.voices_sounding[moments]
    return Measure(float(share.sum()), len(share))


def unprepared_dissonance(music: Music) -> Measure:
    """Attacked dissonances both reached and left by leap, per note.

    A note attacked at a second, seventh or tritone (modulo the octave) from another sounding voice needs a
    step, a hold or a repetition on at least one side: passing and neighbour notes, suspensions,
    appoggiaturas and escapes have one.
    """
    texture, notes = music.texture, music.texture.notes
    if texture.slice_count < 2 or not len(texture.pairs):
        return NOTHING
    upper, lower = texture.pitch[:, texture.pairs[:, 0]], texture.pitch[:, texture.pairs[:, 1]]
    clash = (upper != SILENT) & (lower != SILENT) & DISSONANT[(upper - lower) % 12]
    harsh = np.zeros(texture.pitch.shape, dtype=bool)
    for pair, (above, below) in enumerate(texture.pairs):
        harsh[:, above] |= clash[:, pair]
        harsh[:, below] |= clash[:, pair]
    dissonant = harsh[texture.note_slices, notes.voice] & texture.new_notes
    into, out = np.abs(notes.interval), np.abs(following(notes.interval, 0))
    known = ~notes.first & ~following(notes.first, True)
    index = np.flatnonzero(dissonant & known & (into > STEP) & (out > STEP))
    return Measure(len(index), texture.note_count, notes.start[index], notes.voice[index, None])


def bare_sonorities(music: Music) -> Measure:
    """Share of the time with two voices or more in which only unisons, octaves and fifths sound. 0..1.

    Open fifths end phrases of old music; elsewhere a chord has its third.
    """
    texture = music.texture
    rows = np.flatnonzero(texture.new & (texture.voices_sounding >= 2))
    pitch = texture.pitch[rows]
    bare = ((pitch == SILENT) | PERFECT[(pitch - texture.lowest[rows, None]) % 12]).all(axis=1)
    beats = texture.length[rows] / texture.beat_ticks
    return Measure(float(beats[bare].sum()), float(beats.sum()), texture.onset[rows[bare]])
