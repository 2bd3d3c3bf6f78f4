"""Soft rules of ours that look at how voices move: parallels, clashes, crossings, the pace of the harmony.

`parallels`: two voices a fifth, an octave or a unison apart do not move so that they are so again.
`clashes`: no semitone, in any octave, against what a voice named higher sings. Those named lower are written
later and may yet move: to a leading tone their last tonic is no clash.
`tessitura`: tessitura.py. `home`: home.py.
`crossings`: a voice does not go above what a voice named higher sings.
`tension`: where the prompt asks for less or more harmonic tension than is usual for the form, seconds,
tritones and sevenths are less or more likely, instead of what `clashes` says.
`harmony`: where the prompt says HARMONIC_RHYTHM_SLOW, what sounded just before, in any voice and octave, is
more likely to be sung; where it says FAST, less.

A voice is one integer, its lane: the pitch it sings, the pitch it sang when the clock last stood still, the
pitch being spelled, and whether it is the voice being written. Voices are written one after another within an
instant, so when one chooses its degree, those that moved before it at this instant are known: their two
pitches differ. A lane forgets nothing at a rest: a voice is compared with what it sang last.

All are biases, not masks: where everything else is worse, a parallel stands.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxgen.music.theory import SCALES
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.character import AMOUNTS, steps_above, usual_words
from mlxgen.sampling.context import Context
from mlxgen.sampling.home import make_home
from mlxgen.sampling.lookup import look_up, look_up_row, make_table
from mlxgen.sampling.registers import MAX_VOICES
from mlxgen.sampling.tessitura import make_tessitura

MOTION_RULES = ("parallels", "clashes", "crossings", "harmony", "tension", "tessitura", "home")
PARALLELS = -10.0  # logits: leaves fewer fifths than real chorales have and about as many octaves
CLASHES = {"chorale": -1.2, "fugue": -1.0, "motet": -1.0}  # other forms have no more than real ones
CROSSINGS = -0.7  # for every voice crossed: as often as in real fugues
TENSIONS = {-1: -1.0, 1: 0.4}  # for every dissonance, where less or more than the form's usual is asked for
HARMONY = {"slow": 1.5, "fast": -1.0}
PERFECT = (0, 7)  # semitones within the octave
SEMITONE, DISSONANCES = (1, 11), (1, 2, 6, 10, 11)

# a lane: pitch (7 bits, 0: none yet), pitch before (7), pitch being spelled (8), voice being written (1)
BEFORE, SPELLED, WRITTEN = 7, 14, 22
PITCH, _SPELLED = 127, 255
START_LANES = (0,) * MAX_VOICES

# what an id does: voice number (3 bits), flags, and from bit 8 the semitones that it adds, with their sign
VOICE, SINGS, OPENS, SHIFTS, LASTS = 7, 8, 16, 32, 64
SEMITONES = 8
NO_LEVEL = -1000
# semitones from below the tonic: leading tones (minor: 7, major: #4), and the seventh or the second lowered
ALTERED = {"major": {"SHARP": 5, "FLAT": 9}, "minor": {"SHARP": 10, "FLAT": 0}}
# what a pitch does to four voices adds up: voices that sang it just before, voices crossed, a
# semitone off, in parallel
CROSSED_BIT, CLASHED_BIT, AGAIN_BIT = 3, 6, 9
KEPT, CROSSED, CLASHED, AGAIN = 7, 1 << CROSSED_BIT, 1 << CLASHED_BIT, 1 << AGAIN_BIT
STAYS = 8 * AGAIN  # beside that: the pitch is what the voice sang before
# a row of `meets`: what another voice sings (7 bits), whether it is named higher, and how the two moved here:
# 0, or from a distance of PERFECT[0] (1) or PERFECT[1] (2)
ABOVE, WATCHED, MEETINGS = PITCH + 1, 2 * (PITCH + 1), 6 * (PITCH + 1)


class LaneTables(NamedTuple):
    """What the rule knows of the ids of one context."""

    facts: mx.array  # (1, V) int32
    levels: mx.array  # (V,) int32: semitones above what is spelled; NO_LEVEL of ids that sing nothing
    counted: mx.array  # (V,) int32: which of what is found counts for an id
    numbers: mx.array  # (4,) int32: 1 to 4
    # (7 * 128, 128) int32, by a row and a pitch sung: what that does to another voice, see ABOVE; in the rows
    # from MEETINGS on, by what a voice sang before, whether it is sung again
    meets: mx.array
    kept: mx.array | None  # MEETINGS; None: what was sung before does not matter
    motion: mx.array  # (1, 2 * STAYS) logits by what is found, and whether the voice stays where it was
    usual: mx.array  # (8 * 256, V) in one row, logits of `tessitura` and `home`, by voice and what is spelled


@lru_cache(maxsize=16)
def lane_facts(vocab: Vocab, context: Context) -> tuple[int, ...]:
    """What each id does to the lanes. A degree counts from below the tonic, so that no flat is negative."""
    scale, facts = SCALES[context.key.mode], []
    for name in vocab.names:
        family, _, suffix = name.partition("_")
        number = int(suffix) if suffix.isdigit() else 0
        if family == "VOICE" and 0 < number <= MAX_VOICES:
            facts.append(number | OPENS)
        elif family == "OCT":
            facts.append(OPENS | 12 * number + context.key.root + 1 << SEMITONES)
        elif family == "DEG":
            facts.append(SINGS | scale[number - 1] - 1 << SEMITONES)
        elif family == "Pitch":
            facts.append(SINGS | number << SEMITONES)
        elif name in ("SHARP", "FLAT"):
            facts.append((1 if name == "SHARP" else -1) << SEMITONES)
        else:
            facts.append({"TimeShift": SHIFTS, "Dur": LASTS}.get(family, 0))
    return tuple(facts)


def make_lane_tables(vocab: Vocab, context: Context, rules: frozenset[str]) -> LaneTables:
    """`rules`: those of MOTION_RULES that hold."""
    harmony = HARMONY.get(context.harmonic_rhythm, 0.0) if "harmony" in rules else 0.0
    facts = np.array(lane_facts(vocab, context))
    signs, levels = _levels(vocab, context)
    counted = np.where(facts & SINGS, -1, signs * (CLASHED - CROSSED))
    tension = steps_above(AMOUNTS, context.harmonic_tension, usual_words(context).harmonic_tension)
    tension *= "tension" in rules
    clashes = TENSIONS[int(np.sign(tension))] if tension else (
        CLASHES.get(context.form, 0.0) if "clashes" in rules else 0.0)
    meets = _meetings(DISSONANCES if tension else SEMITONE)
    return LaneTables(make_table(facts, mx.int32), mx.array(levels, dtype=mx.int32),
                      mx.array(counted, dtype=mx.int32),
                      mx.array(list(range(1, MAX_VOICES + 1)), dtype=mx.int32),
                      mx.array(meets, dtype=mx.int32),
                      mx.array(MEETINGS, dtype=mx.int32) if harmony else None,
                      make_table(_motion(PARALLELS * ("parallels" in rules), clashes,
                                         CROSSINGS * ("crossings" in rules), harmony), mx.float32),
                      make_table(_usual(vocab, context, "tessitura" in rules, "home" in rules), mx.float32))


def _motion(parallels: float, clashes: float, crossings: float, harmony: float) -> np.ndarray:
    """`LaneTables.motion`."""
    found, stays = np.arange(STAYS), np.arange(2)[:, None]
    moved = (found >= AGAIN) & (stays == 0)
    logits = np.where(moved, parallels, np.where(found & KEPT, harmony, 0.0))
    return logits + clashes * (found >> CLASHED_BIT & KEPT) + crossings * (found >> CROSSED_BIT & KEPT)


def _levels(vocab: Vocab, context: Context) -> tuple[np.ndarray, np.ndarray]:
    """(V,) whether an id is a sign, and `LaneTables.levels`: a sign counts as what it mostly alters, since
    what is taken from degrees and not from it would be won by it."""
    facts = np.array(lane_facts(vocab, context))
    usual = np.array([ALTERED[context.key.mode].get(name, NO_LEVEL) for name in vocab.names])
    return usual != NO_LEVEL, np.where(facts & SINGS, facts >> SEMITONES, usual)


@lru_cache(maxsize=2)
def _meetings(clashing: tuple[int, ...]) -> np.ndarray:
    """`LaneTables.meets`, `clashing` the distances that clash. A pitch of 0 is none."""
    other, pitch = np.arange(PITCH + 1)[:, None], np.arange(PITCH + 1)
    away, both = np.abs(pitch - other) % 12, (pitch > 0) & (other > 0)
    clashed = CLASHED * np.isin(away, clashing)
    again = [np.zeros_like(away), *(AGAIN * (away == distance) for distance in PERFECT)]
    settled = np.zeros_like(away), clashed + CROSSED * (pitch > other)  # by whether the other is named higher
    met = [both * (more + met) for more in again for met in settled]
    return np.concatenate([*met, 1 * (both & (away == 0))])


@lru_cache(maxsize=16)
def _usual(vocab: Vocab, context: Context, tessitura: bool, home: bool) -> np.ndarray:
    facts, (signs, levels) = np.array(lane_facts(vocab, context)), _levels(vocab, context)
    opens = (facts & OPENS > 0) & (facts >> SEMITONES > 0)
    adds = np.where(opens, facts >> SEMITONES, levels)
    usual = make_tessitura(context.form if tessitura else None, adds, levels != NO_LEVEL, opens)
    return usual + make_home(context.form if home else None, context.key, adds, facts & SINGS > 0, signs)


def apply_motion(logits: mx.array, lanes: mx.array, tables: LaneTables) -> mx.array:
    """(B, V) logits and (B, 4) lanes -> (B, V), biased where a pitch makes parallels, crosses or stays."""
    lane = tables.numbers << 15 | lanes >> BEFORE & (1 << 15) - 1
    # (B, 1): the lane of the voice being written, what it sang before lowest
    writing = mx.max(mx.where(lanes >> WRITTEN != 0, lane, 0), axis=1, keepdims=True)
    # what several kernels need is spelled differently in each, or it would be a kernel of its own
    now, before = lanes & PITCH, (lanes & PITCH << BEFORE) >> BEFORE
    own, spelled = writing & PITCH, (writing & _SPELLED << 7) >> 7
    distance = mx.abs(own - before) % 12
    silent = lanes < 1 << WRITTEN  # not being written
    moved = (own * before > 0) & (now != before) & silent
    watched = mx.where(distance == PERFECT[0], WATCHED, mx.where(distance == PERFECT[1], 2 * WATCHED, 0))
    above = ABOVE * (tables.numbers < (writing >> 15))
    row = moved * watched + silent * (now + above)
    if tables.kept is not None:
        row = mx.concatenate([row, before + tables.kept], axis=1)
    found = mx.sum(mx.take(tables.meets, row, axis=0), axis=1)  # (B, PITCH + 1)
    pitch = mx.clip(spelled + tables.levels, 0, PITCH)  # (B, V)
    stays = STAYS * ((pitch - writing & PITCH) == 0)
    motion = look_up(tables.motion, mx.take_along_axis(found, pitch, axis=1) & tables.counted | stays)
    return logits + (motion + look_up_row(tables.usual, writing >> 7, logits.shape[-1]))


def advance_lanes(lanes: mx.array, ids: mx.array, tables: LaneTables) -> mx.array:
    """(B, 4) lanes after one more id a row; ids (B, 1)."""
    fact = look_up(tables.facts, ids)
    now, before = lanes & PITCH, lanes >> BEFORE & PITCH
    spelled, written = lanes >> SPELLED & _SPELLED, lanes >> WRITTEN
    voice, semitones, sings = fact & VOICE, fact >> SEMITONES, (fact & SINGS) != 0
    written = mx.where(voice > 0, (tables.numbers == voice).astype(mx.int32), written)
    sung = mx.clip(spelled + semitones, 1, PITCH)
    spelled = mx.where((fact & OPENS) != 0, 0, spelled) + mx.where(sings, 0, semitones)
    before = mx.where((fact & SHIFTS) != 0, now, before)
    now = mx.where(sings & (written != 0), sung, now)
    return now | before << BEFORE | (spelled & _SPELLED) << SPELLED | written << WRITTEN


def advance_lanes_row(lanes: tuple[int, ...], fact: int) -> tuple[int, ...]:
    """The same for one row in plain integers, given what the id does (`lane_facts`)."""
    voice, semitones = fact & VOICE, fact >> SEMITONES
    new = []
    for number, lane in enumerate(lanes, start=1):
        now, before = lane & PITCH, lane >> BEFORE & PITCH
        spelled, written = lane >> SPELLED & _SPELLED, lane >> WRITTEN
        if voice:
            written = int(number == voice)
        if fact & SHIFTS:
            before = now
        if fact & SINGS and written:
            now = min(max(spelled + semitones, 1), PITCH)
        if fact & OPENS:
            spelled = 0
        if not fact & SINGS:
            spelled += semitones
        new.append(now | before << BEFORE | (spelled & _SPELLED) << SPELLED | written << WRITTEN)
    return tuple(new)
