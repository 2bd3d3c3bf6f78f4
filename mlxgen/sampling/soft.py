"""Upstream's decode-time rules as they are there: biases and masks on raw logits, each selectable by name.

`tests/test_rules.py` holds them against upstream's own output, step by step. Their memory is two
integers a candidate, advanced from ids alone. The window of 32 ids over which upstream looks for
attacks at one instant is taken as the instant itself: no instant that upstream's encoder writes is longer.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxgen.music.theory import degree_to_pitch
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context
from mlxgen.sampling.grammar import MAX_VOICES
from mlxgen.sampling.lookup import look_up, look_up_row, make_table
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

# What a row remembers, two integers: its last six ids, ten bits each, the newest lowest; and, from the lowest
# bit: the voice being written (3 bits), the octave pending and its sign, both plus one (4, 2), how many ids
# there were (3), the voices that have sounded and those that attacked at this instant (4, 4), notes since the
# voice was named (3).
RECENT, ID_BITS = 6, 10
NO_ID = (1 << ID_BITS) - 1
OCTAVE, SIGN, COUNT, SOUNDED, INSTANT, NOTES = 3, 7, 9, 12, 16, 20
START = (sum(NO_ID << ID_BITS * place for place in range(RECENT)), 1 | 1 << SIGN)
# A row of one table says what is pending, of the other the rest: warm (four ids or more: the top bit of their
# count), sounded, attacked, enough notes for a separator (the top bit of theirs).
_PENDING_BITS, _WARM, _ENOUGH, _SITUATION_BITS = 9, 11, 22, 9
_MOST_NOTES = 4


class SoftTables(NamedTuple):
    """What upstream's rules do, by what is remembered, for one context and one set of rules."""

    ids: mx.array  # (1, V) int32: 0, 1, 2, ...
    # (1, V) int32: voice 0 (none) to 4, octave + 1 (0: none), sign + 1, kind; 3, 4, 2, 3 bits
    facts: mx.array
    pending: mx.array  # (512, V) in one row, float16: -inf where the range forbids
    # (1024, V) in one row, float32: the offsets and bans of all rules but range, repeat and pattern
    situation: mx.array
    repeat: mx.array  # what the last id gets
    pattern: mx.array  # what each id of a repeated pattern gets


# kinds of ids
OTHER, DURATION, LINE, TIME, SEPARATOR, SPECIAL, END = range(7)
KIND = 9


def _kind(name: str) -> int:
    if name.startswith("Dur_"):
        return DURATION
    if name.startswith("TimeShift_"):
        return TIME
    if name == "BAR" or name.startswith("BEAT_"):
        return LINE
    return {"VOICE_SEP": SEPARATOR, "PAD": SPECIAL, "BOS": SPECIAL, "EOS": END}.get(name, OTHER)


@lru_cache(maxsize=16)
def _facts(vocab: Vocab) -> tuple[int, ...]:
    """For every id what `SoftTables.facts` says."""
    if len(vocab) > NO_ID:
        raise ValueError(f"soft rules: a vocabulary of {len(vocab)}; expected at most {NO_ID}")
    facts = []
    for name in vocab.names:
        family, _, suffix = name.partition("_")
        number = int(suffix) if suffix.isdigit() else None
        voice = number if family == "VOICE" and number else 0
        octave = number + 1 if family == "OCT" and number is not None else 0
        sign = {"SHARP": 1, "FLAT": -1}.get(name, 0)
        facts.append(voice | octave << OCTAVE | sign + 1 << SIGN | _kind(name) << KIND)
    return tuple(facts)


def _outside(vocab: Vocab, context: Context) -> np.ndarray:
    """(512, V): -inf for OCT wholly outside a voice's range, for DEG outside it with what is pending."""
    table = np.zeros((4, 16, 8, len(vocab)), dtype=bool)  # sign + 1, octave + 1, voice
    for voice in range(1, MAX_VOICES + 1):
        declared = voice <= context.voice_count(vocab)
        low, high = upstream_range(context.form, voice) if declared else (vocab.min_pitch, vocab.max_pitch)
        for octave, token in vocab.family("OCT_").items():
            lowest, highest = (degree_to_pitch(int(octave), d, s, context.key) for d, s in ((1, 0), (7, 1)))
            table[:, :, voice, token] = highest < low or lowest > high
        for pitch, token in vocab.family("Pitch_").items():
            table[:, :, voice, token] = not low <= int(pitch) <= high
        for degree, token in vocab.family("DEG_").items():
            for octave, sign in product(range(15), (-1, 0, 1)):
                pitch = degree_to_pitch(octave, int(degree), sign, context.key)
                table[sign + 1, octave + 1, voice, token] = not low <= pitch <= high
    return np.where(table.reshape(-1, len(vocab)), -np.inf, 0.0)


def _situations(vocab: Vocab, context: Context, rules: frozenset[str]) -> np.ndarray:
    """(1024, V): what all rules but range, repeat and pattern add, by warm, sounded, attacked, enough."""
    facts = np.array(_facts(vocab))
    voice, sign, kind = facts & 7, (facts >> SIGN & 3) - 1, facts >> KIND
    rows = np.arange(1 << _SITUATION_BITS + 1)[:, None]
    warm, sounded, instant, enough = rows & 1, rows >> 1 & 15, rows >> 5 & 15, rows >> 9
    together = sum(instant >> bit & 1 for bit in range(MAX_VOICES))
    offsets = np.zeros((len(rows), len(vocab)))
    if "chromatic" in rules:
        offsets -= sign != 0
    if "lockstep" in rules and context.form == "fugue":
        attack = np.select([together >= 3, together == 2], [-1.1, -0.25], 0.0)
        offsets += warm * np.where(voice > 0, attack, 0.35 * (np.isin(kind, (LINE, TIME)) & (together >= 3)))
    if "coverage" in rules:
        missing = (1 << max(2, min(context.voice_count(vocab), MAX_VOICES))) - 1 & ~sounded
        offsets += 1.5 * ((voice > 0) & (missing >> np.maximum(voice - 1, 0) & 1 > 0))
        offsets[(missing != 0) & (kind == END)] = -np.inf
    if "special" in rules:
        offsets[(warm > 0) & (kind == SPECIAL)] = -np.inf
    if "separator" in rules:
        offsets[(warm > 0) & (enough == 0) & (kind == SEPARATOR)] = -np.inf
    return offsets


@lru_cache(maxsize=16)
def make_soft_tables(vocab: Vocab, context: Context,
                     rules: frozenset[str] = frozenset(UPSTREAM_RULES)) -> SoftTables:
    pending = _outside(vocab, context) if "range" in rules else np.zeros((1 << _PENDING_BITS, len(vocab)))
    return SoftTables(mx.array([list(range(len(vocab)))], dtype=mx.int32),
                      make_table(_facts(vocab), mx.int32), make_table(pending, mx.float16),
                      make_table(_situations(vocab, context, rules), mx.float32),
                      mx.array(-1.0 if "repeat" in rules else 0.0),
                      mx.array(-2.0 if "pattern" in rules else 0.0))


def apply_soft(logits: mx.array, recent: mx.array, state: mx.array, tables: SoftTables) -> mx.array:
    """(B, V) logits, recent (B, 1) int64 and state (B, 1) int32, the two integers remembered -> (B, V) with
    the rules of the tables applied."""
    ids, size = tables.ids, logits.shape[-1]
    pending = look_up_row(tables.pending, state & (1 << _PENDING_BITS) - 1, size)
    row = state >> _WARM & (1 << _SITUATION_BITS) - 1 | state >> _ENOUGH << _SITUATION_BITS
    half = ID_BITS * RECENT // 2
    again = recent >> half == (recent & (1 << half) - 1)  # of a row without ids too: it then names none
    last = ids == (recent & NO_ID)
    before, first = ((ids == (recent >> ID_BITS * place & NO_ID)).astype(mx.float32) for place in (1, 2))
    logits = logits + tables.repeat * (((state & 1 << _WARM) != 0) & last)
    logits = logits + pending + look_up_row(tables.situation, row, size)
    return tables.pattern * (again * ((first + last) + before)) + logits


def advance_soft(recent: mx.array, state: mx.array, ids: mx.array,
                 tables: SoftTables) -> tuple[mx.array, mx.array]:
    """Recent and state after one more id a row; ids (B, 1)."""
    fact = look_up(tables.facts, ids)
    recent = (recent & (1 << ID_BITS * (RECENT - 1)) - 1) << ID_BITS | ids
    voice, octave, sign, kind = fact & 7, fact >> OCTAVE & 15, fact >> SIGN & 3, fact >> KIND
    named, parted, ended, shifted = voice > 0, kind == SEPARATOR, kind == DURATION, kind == TIME
    before, notes, count = state & 7, state >> NOTES, state >> COUNT & 7
    drops = named | parted | ended | shifted
    moved = shifted | (kind == LINE) | parted
    own = mx.left_shift(1, mx.maximum(mx.where(named, voice, before) - 1, 0))
    instant = mx.where(moved, 0, state >> INSTANT & 15) | mx.where(named, own, 0)
    pending = (mx.where(octave > 0, octave, mx.where(drops, 0, state >> OCTAVE & 15)) << OCTAVE
               | mx.where(sign != 1, sign, mx.where((octave > 0) | drops, 1, state >> SIGN & 3)) << SIGN)
    heard = (state >> SOUNDED & 15 | mx.where(ended, own, 0)) << SOUNDED | instant << INSTANT
    counted = (mx.where(named | parted, 0, mx.minimum(notes + ended, _MOST_NOTES)) << NOTES
               | mx.minimum(count + 1, RECENT) << COUNT)
    state = (pending | heard) | (counted | mx.where(named, voice, before))
    return recent, state


def advance_soft_row(memory: tuple[int, ...], token: int, vocab: Vocab) -> tuple[int, ...]:
    """The same for one row in plain integers."""
    recent, state = memory
    fact = _facts(vocab)[token]
    named, octave, sign, kind = fact & 7, fact >> OCTAVE & 15, fact >> SIGN & 3, fact >> KIND
    voice, old_octave, old_sign = state & 7, state >> OCTAVE & 15, state >> SIGN & 3
    notes, sounded, instant = state >> NOTES, state >> SOUNDED & 15, state >> INSTANT & 15
    if kind == DURATION:
        notes, sounded = min(notes + 1, _MOST_NOTES), sounded | 1 << voice - 1
    if named or octave or kind in (SEPARATOR, DURATION, TIME):
        old_octave, old_sign = octave, 1
    if named or kind == SEPARATOR:
        notes = 0
    if kind in (TIME, LINE, SEPARATOR):
        instant = 0
    if named:
        voice, instant = named, instant | 1 << named - 1
    if sign != 1:
        old_sign = sign
    recent = (recent & (1 << ID_BITS * (RECENT - 1)) - 1) << ID_BITS | token
    return recent, (voice | old_octave << OCTAVE | old_sign << SIGN | notes << NOTES | sounded << SOUNDED
                    | instant << INSTANT | min((state >> COUNT & 7) + 1, RECENT) << COUNT)
