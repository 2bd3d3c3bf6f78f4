"""Voice leading: the rules of part writing, each counted against how often real pieces break them.

Every metric takes the Music and returns a Measure. A voice "moves" where it attacks a new pitch; a rule
about two voices looks at slices where both move. Rules after J. J. Fux, Gradus ad Parnassum (1725), and the
part-writing chapters of W. Piston, Harmony (1941); the rates they are judged by are measured
(weights/recipe/event_model.py).
"""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.measure import NOTHING, Measure, locate
from mlxgen.scoring.music import Music
from mlxgen.scoring.texture import SILENT, Texture, following

FIFTH, OCTAVE = 7, 0


def _pair_columns(texture: Texture) -> tuple[np.ndarray, ...]:
    """Pitch (S, P) of the upper and the lower voice of each pair, and their steps into each slice."""
    upper, lower = texture.pairs[:, 0], texture.pairs[:, 1]
    return texture.pitch[:, upper], texture.pitch[:, lower], texture.moved[:, upper], texture.moved[:, lower]


def _parallel(texture: Texture, interval_class: int) -> Measure:
    if texture.slice_count < 2 or not len(texture.pairs):
        return NOTHING
    upper, lower, up_step, low_step = _pair_columns(texture)
    distance = np.abs(upper - lower) % 12
    hit = (up_step != 0) & (low_step != 0) & (distance == interval_class)
    hit[1:] &= distance[:-1] == interval_class
    hit &= texture.new[:, None]
    slices, pairs = np.nonzero(hit)
    return Measure(len(slices), texture.note_count, *locate(texture, slices, pairs))


def parallel_fifths(music: Music) -> Measure:
    """Two voices a fifth (or twelfth) apart both move and are a fifth apart again, per note.

    Range 0..; real Bach about 1 per 1000 notes, in any direction of motion.
    """
    return _parallel(music.texture, FIFTH)


def parallel_octaves(music: Music) -> Measure:
    """Two voices in unison or octaves both move and are so again, per note. Range 0..; Bach: .3 per 1000."""
    return _parallel(music.texture, OCTAVE)


def beat_parallels(music: Music) -> Measure:
    """Fifths or octaves on two successive beats, both voices on new pitches, per pair of beats.

    Ornaments between the beats hide such a succession from the eye, not from the ear; real music has more of
    them than of bare parallels.
    Successions already counted note against note are not counted here.
    """
    texture = music.texture
    beats = texture.beats
    if len(beats) < 2 or not len(texture.pairs):
        return NOTHING
    upper, lower = beats[:, texture.pairs[:, 0]], beats[:, texture.pairs[:, 1]]
    sounding = (upper != SILENT) & (lower != SILENT)
    distance = np.where(sounding, np.abs(upper - lower) % 12, -1)
    perfect = ((distance == FIFTH) | (distance == OCTAVE))[1:] & (distance[1:] == distance[:-1])
    hit = perfect & (upper[1:] != upper[:-1]) & (lower[1:] != lower[:-1])
    at = texture.beat_slices[1:]
    direct = (texture.moved[at] != 0) & texture.attack[at]
    both_attack = direct[:, texture.pairs[:, 0]] & direct[:, texture.pairs[:, 1]]
    before = np.maximum(at - 1, 0)
    left = texture.pitch[before]
    previous = np.abs(left[:, texture.pairs[:, 0]] - left[:, texture.pairs[:, 1]])
    hit &= ~(both_attack & (previous % 12 == distance[1:])) & texture.beat_new[1:, None]
    rows, pairs = np.nonzero(hit)
    exposure = int(texture.beat_new[1:].sum())
    return Measure(len(rows), exposure, texture.beat_times[rows + 1], texture.pairs[pairs])


def direct_perfects(music: Music) -> Measure:
    """Hidden fifths and octaves: outer voices move one way into a fifth or octave and the top voice leaps.

    Per note. The nearest legal twins: the top voice comes by step, or the voices move in contrary motion.
    """
    texture = music.texture
    voices = texture.sounding_voices
    if texture.slice_count < 2 or len(voices) < 2:
        return NOTHING
    top, bottom = voices[0], voices[-1]
    up_step, low_step = texture.moved[:, top], texture.moved[:, bottom]
    distance = np.abs(texture.pitch[:, top] - texture.pitch[:, bottom]) % 12
    hit = ((distance == FIFTH) | (distance == OCTAVE)) & (up_step * low_step > 0)
    hit &= (np.abs(up_step) > 2) & texture.new
    hit[1:] &= distance[:-1] != distance[1:]
    slices = np.flatnonzero(hit)
    voices = np.tile((top, bottom), (len(slices), 1))
    return Measure(len(slices), texture.note_count, texture.onset[slices], voices)


def _began(hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, P) bool -> slices and pairs where a run of hits begins."""
    return np.nonzero(hit & ~np.vstack([np.zeros((1, hit.shape[1]), dtype=bool), hit[:-1]]))


def _attacked(texture: Texture, hit: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> int:
    """How many hits (S, P) fall where a voice of the pair attacks: a fault that goes on is more than one that
    is over at once."""
    return int((hit & (texture.attack[:, upper] | texture.attack[:, lower])).sum())


def crossings(music: Music) -> Measure:
    """Attacks in two voices of which the upper sounds below the lower, per note. A unison is legal.

    The places are where they begin to cross.
    """
    texture = music.texture
    if not len(texture.pairs):
        return NOTHING
    upper, lower, _, _ = _pair_columns(texture)
    hit = (upper != SILENT) & (lower != SILENT) & (upper < lower) & texture.new[:, None]
    total = _attacked(texture, hit, texture.pairs[:, 0], texture.pairs[:, 1])
    return Measure(total, texture.note_count, *locate(texture, *_began(hit)))


def overlaps(music: Music) -> Measure:
    """A voice moves past where its neighbour just was (above the upper's last pitch, below the lower's), per
    note.

    The nearest legal twin moves up to that pitch and no further.
    """
    texture = music.texture
    voices = texture.sounding_voices
    if texture.slice_count < 2 or len(voices) < 2:
        return NOTHING
    upper, lower = voices[:-1], voices[1:]
    before, after = texture.pitch[:-1], texture.pitch[1:]
    known = texture.sounding[:-1] & texture.sounding[1:]
    both = known[:, upper] & known[:, lower]
    moved = (texture.moved[1:, upper] != 0) & (texture.moved[1:, lower] != 0)
    hit = (after[:, lower] > before[:, upper]) | (after[:, upper] < before[:, lower])
    hit &= both & moved & (after[:, upper] >= after[:, lower]) & texture.new[1:, None]
    slices, pairs = np.nonzero(hit)
    return Measure(len(slices), texture.note_count, texture.onset[slices + 1],
                   np.column_stack([upper[pairs], lower[pairs]]))


def _melodic(texture: Texture) -> np.ndarray:
    """(N,) bool: a scored note that follows its voice's last note within a beat of rest."""
    notes = texture.notes
    return ~notes.first & texture.new_notes & (notes.gap <= texture.beat_ticks)


def _at_notes(texture: Texture, index: np.ndarray, exposure: float) -> Measure:
    notes = texture.notes
    return Measure(len(index), exposure, notes.start[index], notes.voice[index, None])


def wide_leaps(music: Music) -> Measure:
    """Melodic intervals wider than an octave, or a seventh (10, 11 semitones), per melodic interval."""
    texture = music.texture
    follows = _melodic(texture)
    size = np.abs(texture.notes.interval)
    hit = follows & ((size > 12) | (size == 10) | (size == 11))
    return _at_notes(texture, np.flatnonzero(hit), follows.sum())


def tritone_leaps(music: Music) -> Measure:
    """Melodic tritones (6 semitones), per melodic interval: legal twins are the fourth and the fifth."""
    texture = music.texture
    follows = _melodic(texture)
    return _at_notes(texture, np.flatnonzero(follows & (np.abs(texture.notes.interval) == 6)), follows.sum())


def unrecovered_leaps(music: Music) -> Measure:
    """Leaps of a sixth or more in an upper voice that are not followed by motion back, per melodic interval.

    The bass is exempt: its octave and fifth leaps carry harmony. So is a leap before a rest or at the end.
    """
    texture = music.texture
    notes, follows = texture.notes, _melodic(texture)
    if len(texture.sounding_voices) == 0:
        return NOTHING
    bass = texture.sounding_voices[-1]
    leap = follows & (np.abs(notes.interval) >= 8) & (notes.voice != bass)
    after = following(notes.interval, 0)
    known = following(follows & (notes.gap == 0), False)
    bad = leap & known & (np.sign(after) == np.sign(notes.interval)) & (np.abs(after) > 2)
    return _at_notes(texture, np.flatnonzero(bad), follows.sum())


def wide_spacing(music: Music) -> Measure:
    """Attacks in neighbouring upper voices more than an octave apart (the bass may be further), per note.

    The places are where they begin to be.
    """
    texture = music.texture
    voices = texture.sounding_voices
    if len(voices) < 3:
        return NOTHING
    upper, lower = voices[:-2], voices[1:-1]
    known = texture.sounding[:, upper] & texture.sounding[:, lower] & texture.new[:, None]
    hit = known & (texture.pitch[:, upper] - texture.pitch[:, lower] > 12)
    slices, pairs = _began(hit)
    return Measure(_attacked(texture, hit, upper, lower), texture.note_count, texture.onset[slices],
                   np.column_stack([upper[pairs], lower[pairs]]))


def legality(music: Music) -> Measure:
    """Notes that begin while their voice still holds another, per note: nobody sings two at once."""
    texture = music.texture
    late = [(tick, voice) for tick, voice in texture.overlaps if tick >= texture.seam_ticks]
    rows = np.array(late, dtype=np.int64).reshape(-1, 2)
    return Measure(len(rows), max(texture.note_count, 1), rows[:, 0], rows[:, 1:])


def joint_leaps(music: Music) -> Measure:
    """Three or more voices (both of two) leap more than a third at one moment, per note.

    Real voices leap one or two at a time; where all leap at once, the music has been cut.
    """
    texture = music.texture
    count = len(texture.sounding_voices)
    if texture.slice_count < 2 or count < 2:
        return NOTHING
    leaping = (np.abs(texture.moved) > 4).sum(axis=1)
    slices = np.flatnonzero((leaping >= min(3, count)) & texture.new)
    return Measure(len(slices), texture.note_count, texture.onset[slices])


def tessitura(music: Music) -> Measure:
    """How far notes lie outside their voice's usual range, in semitones per note.

    The usual range is the corpus' 1st to 99th percentile for the top, the inner and the lowest voices of the
    family. The notes' places are reported from an excess of two semitones up.
    """
    texture, notes = music.texture, music.texture.notes
    low, high = music.ranges
    outside = np.maximum(low[music.role] - notes.pitch, 0) + np.maximum(notes.pitch - high[music.role], 0)
    outside = np.where(texture.new_notes, outside, 0)
    index = np.flatnonzero(outside > 2)
    return Measure(float(outside.sum()), texture.note_count, notes.start[index], notes.voice[index, None],
                   outside[index])
