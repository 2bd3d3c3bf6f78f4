"""A texture as coded events: what the event model counts and what it is surprised by.

Every channel is a pair of integer arrays, context and outcome, with the tick and the voices of each event.
Channels:

harmony: per beat, the chord (pitch classes over the tonic, and the bass degree) after the last beat's;
sonority: per attack, the intervals sounding over the bass, on and off the beat;
pair: per voice pair and motion, the new interval and both steps, given the interval before;
melody: per note, the interval, given the interval before and the role of the voice;
degree: per note, the scale degree, given the one before and the mode;
line: per note, the scale degree, given the ones before and after it, the mode and the place in the beat;
rhythm: per note, the duration, given the one before and the place in the beat;
ending: once, the last chord's bass and kind in the key that rules what comes before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxgen.music.theory import TICKS_PER_QUARTER
from mlxgen.scoring.texture import SILENT, Texture, following

LARGEST_LEAP = 13  # wider intervals count as this one
INTERVALS = 2 * LARGEST_LEAP + 1
DURATION_EDGES = np.array(
    [90, 150, 210, 300, 420, 600, 840, 1200, 1680, 2400]
)  # ticks between duration classes
DURATIONS = len(DURATION_EDGES) + 1
POSITIONS = 5  # on the beat, and three sixteenths, and anything else
STEPS = 5  # leap down, step down, hold, step up, leap up
PLACES = 4
NO_NOTE = 12  # a degree that is not there: before a voice's first note, after its last
KINDS = (0b000010010001, 0b000010001001)  # degrees over the bass of major and minor triads; then all else


@dataclass(frozen=True)
class Channel:
    """Events of one kind. All arrays (K,): `context` and `outcome` codes, when, which voices, and whether
    scored."""

    context: np.ndarray
    outcome: np.ndarray
    ticks: np.ndarray
    voices: np.ndarray  # (K, 1 or 2); -1 where the event belongs to all voices
    new: np.ndarray


def _bit(pitch_class: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(X, V) pitch classes -> (X,) 12-bit sets."""
    return np.bitwise_or.reduce(np.where(present, 1 << pitch_class, 0), axis=1)


def chord_codes(pitch: np.ndarray, low: np.ndarray, tonic: np.ndarray) -> np.ndarray:
    """(X, V) pitches, (X,) the lowest of each and (X,) tonics -> codes (X,) = bass degree * 4096 +
    pitch-class set over the tonic."""
    return (low - tonic) % 12 * 4096 + _bit((pitch - tonic[:, None]) % 12, pitch != SILENT)


def harmony(texture: Texture, keys: np.ndarray) -> Channel:
    """Chords on beats. Codes are mode * 49152 + chord; beats with fewer than two voices are left out."""
    at, beats = texture.beat_slices, texture.beats
    key = keys[at]
    code = chord_codes(beats, texture.lowest[at], key % 12) + key // 12 * 49152
    kept = np.flatnonzero(texture.voices_sounding[at] >= 2)
    code, ticks = code[kept], texture.beat_times[kept]
    before, after = code[:-1], code[1:]
    # The chord before is heard in the key of the chord after, or a modulation would look like a leap.
    shift = (key[kept][:-1] % 12 - key[kept][1:] % 12) % 12
    before = np.where(key[kept][:-1] == key[kept][1:], before, _retuned(before, shift, key[kept][1:] // 12))
    return Channel(before, after, ticks[1:], np.full((len(after), 1), -1), texture.beat_new[kept][1:])


def _retuned(code: np.ndarray, shift: np.ndarray, mode: np.ndarray) -> np.ndarray:
    bass, mask = code // 4096 % 12, code % 4096
    mask = ((mask << shift) | (mask >> (12 - shift))) & 4095
    return mode * 49152 + (bass + shift) % 12 * 4096 + mask


def sonority(texture: Texture) -> Channel:
    """Interval sets over the bass at every attack; context is the place in the beat."""
    kept = np.flatnonzero(texture.attack.any(axis=1) & (texture.voices_sounding >= 2))
    pitch, low = texture.pitch[kept], texture.lowest[kept]
    outcome = _bit((pitch - low[:, None]) % 12, pitch != SILENT) >> 1
    return Channel(
        place(texture, texture.onset[kept]),
        outcome,
        texture.onset[kept],
        np.full((len(kept), 1), -1),
        texture.new[kept],
    )


def place(texture: Texture, ticks: np.ndarray) -> np.ndarray:
    """0 on the bar line, 1 on a beat, 2 on half a beat, 3 elsewhere."""
    beat = min(texture.beat_ticks, texture.pulse_ticks)
    return np.where(ticks % beat == 0, 1, np.where(ticks * 2 % beat == 0, 2, 3))


def step_class(steps: np.ndarray) -> np.ndarray:
    """Semitones -> 0 leap down, 1 step down, 2 hold, 3 step up, 4 leap up."""
    return np.sign(steps) * (1 + (np.abs(steps) > 2)) + 2


def fold(distance: np.ndarray) -> np.ndarray:
    """Semitones of an upper voice over a lower -> 0..11 simple, 12..23 compound, 24..35 crossed."""
    above = np.where(distance < 12, distance, 12 + distance % 12)
    return np.where(distance < 0, 24 + (-distance) % 12, above)


def pair_motion(texture: Texture) -> Channel:
    """Both voices sounding before and after, at least one moving: the interval reached and both steps, given
    the interval left. Context: outer pair * 24 + interval before; outcome: interval after * 25 + steps."""
    empty = np.zeros(0, dtype=np.int64)
    if texture.slice_count < 2 or not len(texture.pairs):
        return Channel(empty, empty, empty, np.zeros((0, 2), dtype=np.int64), empty.astype(bool))
    upper, lower = texture.pairs[:, 0], texture.pairs[:, 1]
    up_step, low_step = texture.moved[:, upper], texture.moved[:, lower]
    known = texture.sounding[:, upper] & texture.sounding[:, lower]
    hit = known & ((up_step != 0) | (low_step != 0))
    hit[1:] &= known[:-1]
    hit[0] = False
    slices, pairs = np.nonzero(hit)
    distance = texture.pitch[:, upper] - texture.pitch[:, lower]
    folded = fold(distance)
    voices = texture.sounding_voices
    outer = (upper == voices[0]) & (lower == voices[-1])
    context = outer[pairs] * 36 + folded[slices - 1, pairs]
    steps = step_class(up_step[slices, pairs]) * STEPS + step_class(low_step[slices, pairs])
    outcome = folded[slices, pairs] * STEPS * STEPS + steps
    return Channel(context, outcome, texture.onset[slices], texture.pairs[pairs], texture.new[slices])


def roles(texture: Texture) -> np.ndarray:
    """(N,) 0 for the top sounding voice, 2 for the lowest, 1 between."""
    voices = texture.sounding_voices
    top, bottom = (voices[0], voices[-1]) if len(voices) else (0, 0)
    number = texture.notes.voice
    return np.where(number == top, 0, np.where(number == bottom, 2, 1))


def _clipped(interval: np.ndarray) -> np.ndarray:
    return np.clip(interval, -LARGEST_LEAP, LARGEST_LEAP) + LARGEST_LEAP


def melody(texture: Texture) -> Channel:
    """Context: role * INTERVALS + interval before (a voice's second note has the interval 0 before it)."""
    notes = texture.notes
    kept = np.flatnonzero(~notes.first)
    before = _clipped(notes.interval[kept - 1])
    context = roles(texture)[kept] * INTERVALS + before
    return Channel(
        context,
        _clipped(notes.interval[kept]),
        notes.start[kept],
        notes.voice[kept, None],
        texture.new_notes[kept],
    )


def degree(texture: Texture, keys: np.ndarray) -> Channel:
    """Context: mode * 12 + degree before, in the key at the later note."""
    notes = texture.notes
    kept = np.flatnonzero(~notes.first)
    key = keys[texture.note_slices[kept]] if len(kept) else np.zeros(0, dtype=np.int64)
    context = key // 12 * 12 + (notes.pitch[kept - 1] - key) % 12
    return Channel(
        context,
        (notes.pitch[kept] - key) % 12,
        notes.start[kept],
        notes.voice[kept, None],
        texture.new_notes[kept],
    )


def line(texture: Texture, keys: np.ndarray) -> Channel:
    """Every note between its neighbours: passing notes, neighbour notes and leaps each have their degrees.

    Context: ((mode * 2 + off the beat) * 13 + degree before) * 13 + degree after, all in the key at the note.
    """
    notes = texture.notes
    key = keys[texture.note_slices] if len(notes.start) else notes.start
    before = np.where(notes.first, NO_NOTE, (np.roll(notes.pitch, 1) - key) % 12)
    after = np.where(following(notes.first, True), NO_NOTE, (np.roll(notes.pitch, -1) - key) % 12)
    off_beat = place(texture, notes.start) > 1
    return Channel(
        ((key // 12 * 2 + off_beat) * 13 + before) * 13 + after,
        (notes.pitch - key) % 12,
        notes.start,
        notes.voice[:, None],
        texture.new_notes,
    )


def ending(texture: Texture, keys: np.ndarray) -> Channel:
    """The last chord: context is the mode heard longest before it; outcome its bass' degree there * 3 + its
    kind (0 within a major triad, 1 within a minor one, 2 neither)."""
    heard = np.flatnonzero(texture.sounding.any(axis=1))
    if not len(heard):
        empty = np.zeros(0, dtype=np.int64)
        return Channel(empty, empty, empty, np.zeros((0, 1), dtype=np.int64), empty.astype(bool))
    last = heard[-1]
    apart = np.flatnonzero((texture.pitch[:last] != texture.pitch[last]).any(axis=1))
    begin = int(apart[-1]) + 1 if len(apart) else 0
    until = begin or last + 1
    home = int(np.bincount(keys[:until], weights=texture.length[:until], minlength=24).argmax())
    pitch, low = texture.pitch[last : last + 1], texture.lowest[last]
    sounding = int(_bit((pitch - low) % 12, pitch != SILENT)[0])
    kind = next((at for at, triad in enumerate(KINDS) if not sounding & ~triad), len(KINDS))
    at = np.array([begin])
    return Channel(
        np.array([home // 12]),
        np.array([(low - home) % 12 * 3 + kind]),
        texture.onset[at],
        np.full((1, 1), -1),
        texture.new[at],
    )


def rhythm(texture: Texture) -> Channel:
    """Context: place of the attack in the beat (sixteenths) * DURATIONS + duration before."""
    notes = texture.notes
    kept = np.flatnonzero(~notes.first)
    pulse = texture.pulse_ticks
    duration = np.searchsorted(DURATION_EDGES * (pulse / TICKS_PER_QUARTER), notes.duration)
    inside = notes.start[kept] % pulse * 4
    position = np.where(inside % pulse == 0, inside // pulse, POSITIONS - 1)
    return Channel(
        position * DURATIONS + duration[kept - 1],
        duration[kept],
        notes.start[kept],
        notes.voice[kept, None],
        texture.new_notes[kept],
    )


CHANNELS = ("harmony", "sonority", "pair", "melody", "degree", "line", "rhythm", "ending")
SIZES = {
    "sonority": (PLACES, 2048),
    "pair": (72, 36 * STEPS * STEPS),
    "melody": (3 * INTERVALS, INTERVALS),
    "degree": (24, 12),
    "line": (4 * 13 * 13, 12),
    "rhythm": (POSITIONS * DURATIONS, DURATIONS),
    "ending": (2, 36),
}


def make_events(texture: Texture, keys: np.ndarray) -> dict[str, Channel]:
    """All channels of a texture whose slices have the given keys (S,)."""
    return {
        "harmony": harmony(texture, keys),
        "sonority": sonority(texture),
        "pair": pair_motion(texture),
        "melody": melody(texture),
        "degree": degree(texture, keys),
        "line": line(texture, keys),
        "rhythm": rhythm(texture),
        "ending": ending(texture, keys),
    }
