"""Upstream's decode-time rules as they are there: biases and masks on raw logits, each selectable by name.

`tests/test_rules.py` holds them against upstream's own output, step by step. Their memory is one row of
integers a candidate (SLOTS), advanced from ids alone. The window of 32 ids over which upstream looks for
attacks at one instant is taken as the instant itself: no instant that upstream's encoder writes is longer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxgen.music.theory import degree_to_pitch
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context
from mlxgen.sampling.grammar import MAX_VOICES
from mlxgen.sampling.ranges import upstream_range

# range      no octave and degree outside the voice's range
# chromatic  SHARP and FLAT -1
# repeat     the last id -1
# pattern    a pattern of three ids that was just repeated: -2 an id
# special    no PAD, no BOS
# separator  no VOICE_SEP before four notes
# lockstep   fugues: pressure against more than two attacks at one instant
# coverage   no EOS before every voice has sounded, and +1.5 for the voices that have not
UPSTREAM_RULES = ("range", "chromatic", "repeat", "pattern", "special", "separator", "lockstep", "coverage")

RECENT = 6
# what a row remembers: the last six ids (-1: none), then these
VOICE, OCTAVE, SIGN, NOTES, SOUNDED, INSTANT, COUNT = range(RECENT, RECENT + 7)
SLOTS = RECENT + 7
START = (*[-1] * RECENT, 1, -1, 0, 0, 0, 0, 0)
MIN_NOTES_BEFORE_SEPARATOR = 4


class SoftTables(NamedTuple):
    """What upstream's rules need to know of the ids, and two range tables, for one context."""

    voice: mx.array  # (V,) 1..4 for VOICE_n, else 0
    octave: mx.array  # (V,) the number for OCT_n, else -1
    sign: mx.array  # (V,) 1 SHARP, -1 FLAT, else 0
    kind: mx.array  # (V,) one of the kinds below
    outside: mx.array  # (voices * octaves * signs, V): 1 where the range forbids, by what is pending
    fugue: mx.array  # 1.0 for a fugue, else 0.0
    required: mx.array  # a bit for each voice that must sound before the end


# kinds of ids
OTHER, DURATION, LINE, TIME, SEPARATOR, SPECIAL, END = range(7)
_OCTAVES, _SIGNS = 12, 3  # octave slot 0: none pending


def _kind(name: str) -> int:
    if name.startswith("Dur_"):
        return DURATION
    if name.startswith("TimeShift_"):
        return TIME
    if name == "BAR" or name.startswith("BEAT_"):
        return LINE
    return {"VOICE_SEP": SEPARATOR, "PAD": SPECIAL, "BOS": SPECIAL, "EOS": END}.get(name, OTHER)


@lru_cache(maxsize=16)
def _facts(vocab: Vocab) -> list[tuple[int, int, int, int]]:
    """For every id: voice (0 none), octave (-1 none), sign, kind."""
    facts = []
    for name in vocab.names:
        family, _, suffix = name.partition("_")
        number = int(suffix) if suffix.isdigit() else None
        facts.append((number if family == "VOICE" and number else 0,
                      number if family == "OCT" and number is not None else -1,
                      {"SHARP": 1, "FLAT": -1}.get(name, 0), _kind(name)))
    return facts


def _outside(vocab: Vocab, context: Context) -> np.ndarray:
    """(5, octaves, signs, V): OCT wholly outside a voice's range, DEG outside it with what is pending."""
    table = np.zeros((MAX_VOICES + 1, _OCTAVES, _SIGNS, len(vocab)), dtype=np.int8)
    for voice in range(1, MAX_VOICES + 1):
        declared = voice <= context.voice_count(vocab)
        low, high = upstream_range(context.form, voice) if declared else (vocab.min_pitch, vocab.max_pitch)
        for octave, token in vocab.family("OCT_").items():
            lowest, highest = (degree_to_pitch(int(octave), d, s, context.key) for d, s in ((1, 0), (7, 1)))
            table[voice, :, :, token] = highest < low or lowest > high
        for pitch, token in vocab.family("Pitch_").items():
            table[voice, :, :, token] = not low <= int(pitch) <= high
        for degree, token in vocab.family("DEG_").items():
            for octave in range(_OCTAVES - 1):
                for sign in (-1, 0, 1):
                    pitch = degree_to_pitch(octave, int(degree), sign, context.key)
                    table[voice, octave + 1, sign + 1, token] = not low <= pitch <= high
    return table


@lru_cache(maxsize=16)
def make_soft_tables(vocab: Vocab, context: Context) -> SoftTables:
    outside = _outside(vocab, context).reshape(-1, len(vocab))
    vectors = (mx.array(vector, dtype=mx.int32) for vector in zip(*_facts(vocab), strict=True))
    required = max(2, min(context.voice_count(vocab), MAX_VOICES))
    return SoftTables(*vectors, mx.array(outside), mx.array(float(context.form == "fugue")),
                      mx.array((1 << required) - 1, dtype=mx.int32))


def apply_soft(logits: mx.array, memory: mx.array, tables: SoftTables, rules: frozenset[str]) -> mx.array:
    """(B, V) logits and (B, SLOTS) memory -> (B, V) with the named rules applied."""
    slot = [memory[:, index:index + 1] for index in range(SLOTS)]
    ids = mx.arange(logits.shape[-1])[None]
    biases = [mx.zeros((1, 1))]
    bans = [mx.array([[False]])]
    warm = slot[COUNT] >= 4
    if "chromatic" in rules:
        biases.append(mx.where(tables.sign != 0, -1.0, 0.0)[None])
    if "repeat" in rules:
        biases.append(mx.where(warm & (ids == slot[RECENT - 1]), -1.0, 0.0))
    if "pattern" in rules:
        again = (slot[COUNT] >= 6) & (slot[0] == slot[3]) & (slot[1] == slot[4]) & (slot[2] == slot[5])
        biases += [mx.where(again & (ids == slot[place]), -2.0, 0.0) for place in (3, 4, 5)]
    if "lockstep" in rules:
        together = sum(slot[INSTANT] >> bit & 1 for bit in range(MAX_VOICES))
        moves_on = (tables.kind == LINE) | (tables.kind == TIME)
        attack = mx.where(together >= 3, -1.1, mx.where(together == 2, -0.25, 0.0))
        pressure = mx.where(tables.voice > 0, attack, mx.where(moves_on & (together >= 3), 0.35, 0.0))
        biases.append(mx.where(warm, tables.fugue * pressure, 0.0))
    if "coverage" in rules:
        missing = tables.required & ~slot[SOUNDED]
        silent = (tables.voice > 0) & ((missing >> mx.maximum(tables.voice - 1, 0) & 1) > 0)
        biases.append(mx.where(silent, 1.5, 0.0))
        bans.append((missing != 0) & (tables.kind == END))
    if "special" in rules:
        bans.append(warm & (tables.kind == SPECIAL))
    if "separator" in rules:
        bans.append(warm & (tables.kind == SEPARATOR) & (slot[NOTES] < MIN_NOTES_BEFORE_SEPARATOR))
    if "range" in rules:
        row = (slot[VOICE] * _OCTAVES + slot[OCTAVE] + 1) * _SIGNS + slot[SIGN] + 1
        bans.append(mx.take(tables.outside, row.squeeze(-1), axis=0) != 0)
    banned = bans[0]
    for ban in bans[1:]:
        banned = banned | ban
    return mx.where(banned, -mx.inf, logits + sum(biases))


def advance_soft(memory: mx.array, ids: mx.array, tables: SoftTables) -> mx.array:
    """(B, SLOTS) memory after one more id a row; ids (B, 1)."""
    voice, octave, sign, kind = (mx.take(vector, ids) for vector in (
        tables.voice, tables.octave, tables.sign, tables.kind))
    old_voice, old_octave, old_sign, notes, sounded, instant, count = (
        memory[:, index:index + 1] for index in range(RECENT, SLOTS))
    named, parted, ended = voice > 0, kind == SEPARATOR, kind == DURATION
    drops = named | parted | ended | (kind == TIME)
    moved = (kind == TIME) | (kind == LINE) | parted
    new = (mx.where(named, voice, old_voice),
           mx.where(octave >= 0, octave, mx.where(drops, -1, old_octave)),
           mx.where(sign != 0, sign, mx.where((octave >= 0) | drops, 0, old_sign)),
           mx.where(named | parted, 0, notes + ended),
           mx.where(ended, sounded | mx.left_shift(1, old_voice - 1), sounded),
           mx.where(moved, 0, mx.where(named, instant | mx.left_shift(1, mx.maximum(voice - 1, 0)), instant)),
           mx.minimum(count + 1, RECENT))
    return mx.concatenate([memory[:, 1:RECENT], ids, *(part.astype(mx.int32) for part in new)], axis=1)


def advance_soft_row(memory: tuple[int, ...], token: int, vocab: Vocab) -> tuple[int, ...]:
    """The same for one row in plain integers."""
    named, octave, sign, kind = _facts(vocab)[token]
    voice, old_octave, old_sign, notes, sounded, instant, count = memory[RECENT:]
    if kind == DURATION:
        notes, sounded = notes + 1, sounded | 1 << voice - 1
    if named or kind in (SEPARATOR, DURATION, TIME):
        old_octave, old_sign = -1, 0
    if named or kind == SEPARATOR:
        notes = 0
    if kind in (TIME, LINE, SEPARATOR):
        instant = 0
    if named:
        voice, instant = named, instant | 1 << named - 1
    if octave >= 0:
        old_octave, old_sign = octave, 0
    return (*memory[1:RECENT], token, voice, old_octave, sign or old_sign, notes, sounded, instant,
            min(count + 1, RECENT))
