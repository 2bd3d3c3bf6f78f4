"""Pieces as long as their prompt says, that end where music ends.

Bars are counted: an end comes neither before the fewest bars nor long after the most. And it comes on a
close: the tonic chord over its root, on the first or the middle beat of a bar, from a dominant (the bass on 5
with or without the leading tone, on 7 or on 2 with it), all voices to the same end. When three quarters of
the bars are written such an end is pressed for, and dominants are drawn to it: to its tones, in minor to the
major third (as nine of ten of Bach's chorales in minor end; not in quartets), and to notes as long as the
highest voice's. Any other end is unlikely until the piece is far too long.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxgen.music.encode import pitch_ids
from mlxgen.music.theory import beat_ticks, degree_to_pitch
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import ANY_LENGTH, Context
from mlxgen.sampling.grammar import Grammar
from mlxgen.sampling.lookup import look_up, look_up_row, make_table
from mlxgen.sampling.motion import BEFORE, PITCH, SPELLED, WRITTEN
from mlxgen.sampling.registers import MAX_VOICES, Layout

UNFIT = -6.0  # logits: an end that is no close
PRESS = 12.0  # for a close in the last bar aimed at; the pressure begins with the last quarter
HOME, TOWARDS = 5.0, 1.5  # for the tonic chord there, where a dominant was before; for a dominant in time
RAISED = 2.0  # beside HOME: for the raised third in minor
ATTACK = 2.0  # for every voice to sing the tonic chord
HELD, BRIEF, BROAD = 4.0, -4.0, 1.5  # for notes to the highest voice's end; below a beat; from two beats on
SPAN_BARS = 12  # from the fewest bars to the most aimed at: a quartet's 64 are twice the model's context
LATE_BARS, LATE_PRESS = 2, 3.0  # so many bars after the last any end on a strong beat will do, more every bar
# What the voices add up to: how many sing outside the tonic chord (the lowest: not its root); how many left
# the leading tone, how many something that is not the dominant's; whether the lowest is being written,
# whether it left 5, whether 7 or 2; how many end at another time than the lowest.
LEADING, OUTSIDE, BASS, FIFTH, STEP, UNEVEN = 8, 64, 512, 1024, 2048, 4096


class LengthTables(NamedTuple):
    end: mx.array  # (1, V) bool: EOS
    bar: mx.array  # the id of BAR
    fewest: mx.array  # bars
    early: mx.array  # from which a close is pressed for
    late: mx.array
    slope: mx.array  # logits a bar
    stress: mx.array  # (1, S) int32: Grammar.stress, and 4 where a piece may end well
    roles: mx.array  # (1, 4 * 128 * 128) int32: what a voice adds, by the pitches it sang before and sings
    voices: mx.array  # (1, 4) int32: where a voice's begin
    bass: mx.array  # (1, 4) int32: BASS for the lowest, 0 for the others
    upper: mx.array  # (1, 4) int32: UNEVEN for the other voices that there are
    counts: mx.array  # (1, 4): where each voice's count stands in the grammar's register
    last: mx.array  # where the lowest voice's does
    # (4 + 2 * counts, V) in one row, logits of an upper voice and of the lowest: none, to a dominant, and to
    # the tonic chord by what is left of the highest voice's note
    bent: mx.array


def aimed_bars(context: Context) -> tuple[int, int]:
    """Fewest and most bars to end in: those that the prompt names, of long ones the first."""
    fewest, most = context.length_bars
    return (fewest, most) if fewest == 1 or most == ANY_LENGTH[1] else (fewest, min(most, fewest + SPAN_BARS))


def make_length_tables(vocab: Vocab, context: Context, grammar: Grammar) -> LengthTables:
    (fewest, most), end = aimed_bars(context), vocab["EOS"]
    early = most - most // 4
    bars = (mx.array(number, dtype=mx.int32) for number in (fewest, early, most + LATE_BARS))
    lowest = min(context.voice_count(vocab), MAX_VOICES) - 1
    voices = np.arange(MAX_VOICES)[None]
    stress = grammar.stress + 4 * (grammar.gates_ask[:, end] != 0)
    bent = [np.zeros((2, len(vocab))), TOWARDS * _tones(vocab, context, (5, 7, 2), 5),
            _ways_home(vocab, context, grammar)]
    return LengthTables(mx.array(np.arange(len(vocab))[None] == end), mx.array(vocab["BAR"], dtype=mx.int32),
                        *bars, mx.array(PRESS / (most - early + 1)),
                        make_table(stress, mx.int32),
                        make_table(_roles(context, lowest)),
                        mx.array(voices << 2 * BEFORE, dtype=mx.int32),
                        mx.array(BASS * (voices == lowest), dtype=mx.int32),
                        mx.array(UNEVEN * (voices < lowest), dtype=mx.int32),
                        *(mx.array(grammar.layout.step * which, dtype=grammar.layout.counted_as)
                          for which in (voices, lowest)),
                        make_table(np.concatenate(bent), mx.float32))


def _roles(context: Context, lowest: int) -> np.ndarray:
    degree = (np.arange(PITCH + 1) - context.key.root) % 12
    third = (4,) if context.key.mode == "major" else (3, 4)  # a piece in minor may close in major
    arrives = np.tile(~np.isin(degree, (0, 7, *third)), (MAX_VOICES, 1)).astype(np.int32)
    leaves = np.tile(LEADING * (degree == 11) + OUTSIDE * ~np.isin(degree, (7, 2, 5, 10)), (MAX_VOICES, 1))
    arrives[lowest] = degree != 0
    leaves[lowest] += FIFTH * (degree == 7) + STEP * np.isin(degree, (11, 2))
    arrives[:, 0] = leaves[:, 0] = 0  # a voice that has not sung
    arrives[lowest, 0] = 1
    return (leaves[:, :, None] + arrives[:, None]).reshape(-1).astype(np.int32)


def _ways_home(vocab: Vocab, context: Context, grammar: Grammar) -> np.ndarray:
    """(2 * counts, V): what bends an upper voice and the lowest to the tonic chord, by the units that are
    left of the highest voice's note (less than a beat: it says nothing)."""
    home = HOME * _tones(vocab, context, (1, 3, 5), 1)
    home[:, [token for number, token in vocab.family("VOICE_").items() if number.isdigit()]] = ATTACK
    if context.key.mode == "minor" and context.form != "quartet":
        home[0, _raised_thirds(vocab, context)] = HOME + RAISED
    ways, beat = np.repeat(home[None], grammar.layout.longest + 1, axis=0), beat_ticks(context.meter)
    for ticks, token in vocab.family("Dur_").items():
        brief, broad = int(ticks) < beat, int(ticks) >= 2 * beat
        ways[:-(-beat // grammar.unit_ticks), :, token] = BRIEF if brief else BROAD if broad else 0.0
        if not brief:
            ways[int(ticks) // grammar.unit_ticks, :, token] = HELD
    return ways.reshape(-1, len(vocab))


def _raised_thirds(vocab: Vocab, context: Context) -> list[int]:
    """The ids that lead to the major third of a minor key."""
    if vocab.kind != "absolute":
        return [vocab["SHARP"]]
    pitches = [degree_to_pitch(octave, 3, 1, context.key) for octave in range(9)]
    return [vocab[f"Pitch_{pitch}"] for pitch in pitches if vocab.min_pitch <= pitch <= vocab.max_pitch]


def _tones(vocab: Vocab, context: Context, chord: tuple[int, ...], bass: int) -> np.ndarray:
    """(2, V): 1 for what spells a degree of the chord in an upper voice, or the one for the lowest."""
    tones = np.zeros((2, len(vocab)), dtype=np.float32)
    for row, degrees in enumerate((chord, (bass,))):
        for degree in degrees:
            sign = int(degree == 7 and context.key.mode == "minor")
            for octave in range(9):
                pitch = degree_to_pitch(octave, degree, sign, context.key)
                if vocab.min_pitch <= pitch <= vocab.max_pitch:
                    ids = pitch_ids(pitch, context.key, vocab)
                    tones[row, [token for token in ids if token not in vocab.family("OCT_").values()]] = 1.0
    return tones


def apply_length(logits: mx.array, bars: mx.array, place: mx.array, register: mx.array, lanes: mx.array,
                 tables: LengthTables, layout: Layout) -> mx.array:
    """(B, V) logits, (B, 1) bars begun, (B, 1) grammar states, (B, 1) registers, (B, 4) lanes -> (B, V)."""
    stress = look_up(tables.stress, place)  # (B, 1)
    added = look_up(tables.roles, lanes & (1 << SPELLED) - 1 | tables.voices)
    left = register.astype(layout.counted_as)
    uneven = (left >> tables.counts & layout.longest) != (left >> tables.last & layout.longest)
    added = added + mx.where(uneven, tables.upper, 0)
    found = mx.sum(added + (lanes >> WRITTEN) * tables.bass, axis=1, keepdims=True)
    together, found = found < UNEVEN, found & UNEVEN - 1
    leading, outside = (found & OUTSIDE - LEADING) > 0, (found & BASS - OUTSIDE) > 0
    dominant = mx.where(leading, found >= FIFTH, (found >= FIFTH) & (found < STEP) & ~outside)
    close = dominant & together & (stress > 3) & ((found & LEADING - 1) == 0)
    pressed = tables.slope * mx.maximum(bars - tables.early + 1, 0)
    late = mx.where(stress > 3, LATE_PRESS, 0.0) * mx.maximum(bars - tables.late + 1, 0)
    push = mx.where(close, pressed, mx.where(bars < tables.late, UNFIT, late))
    push = mx.where(tables.end, mx.where(bars < tables.fewest, -mx.inf, push), 0.0)
    home = 2 + (left & layout.longest)
    way = mx.where(dominant & ((stress & 1) != 0), home, mx.where((stress & 2) != 0, 1, 0))
    row = mx.where(bars >= tables.early, 2 * way + mx.where((found & BASS) != 0, 1, 0), 0)
    return logits + push + look_up_row(tables.bent, row, logits.shape[-1])
