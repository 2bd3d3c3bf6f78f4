"""A soft rule of ours for imitation: where the prompt says IMITATION_HIGH, voices enter one after another and
each answers with what the first sang.

The subject is the first NOTES notes of the voice that sings first, with their durations; a theme given as the
opening is one. No other voice comes before the last to enter has sung as many; then the next is called, and
its first note is bent to the subject's pitch class, of every second entry to the fifth above it. From there
each note of the entry is bent to the interval and the duration that the subject has. All of it is bias: the
model may leave the subject and come back to it, and what fits the other voices is still its choice.

What all voices did is one integer a row and what is asked of them one row of a table, so that a step spends
few operations on it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxgen.music.encode import pitch_ids
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context
from mlxgen.sampling.grammar import MAX_VOICES
from mlxgen.sampling.lookup import look_up, look_up_row, make_table
from mlxgen.sampling.motion import LASTS, SEMITONES, SINGS, SPELLED, VOICE

NOTES = 10  # of a subject
FOLLOW, CALL, WAIT = 4.0, 4.0, -8.0  # logits: to the subject's next note; to go on or enter; before its time
FOLLOWS_OF_FORM = {"fugue": 5.0}  # instead of FOLLOW: pace and home pull elsewhere there

# Entries, an integer: from the lowest bit, 14 bits a voice: its first pitch (7 bits, 0: has not entered),
# notes sung (4, one more than a subject has at most), its number 1 to 4 among those that entered (3); then
# the voice being written (2, from 0), and how many have entered (3).
COUNT, ORDER, ENTRY_BITS = 7, 11, 14
WRITING, ENTERED = MAX_VOICES * ENTRY_BITS, MAX_VOICES * ENTRY_BITS + 2
_PITCH, _COUNT, _ENTRY = 127, 15, (1 << ENTRY_BITS) - 1
_VOICE = MAX_VOICES - 1
# A note of the subject: pitch (7 bits), and the id of its duration. None stands before the first and behind
# the last, so that no place has to be checked.
LENGTH = 7
START_ENTRIES = 0
START_SUBJECT = (0,) * (NOTES + 3)
# what is asked of a voice: nothing any more, to come in time, to go on, to be waited for
DONE, ABSENT, FOLLOWS, LEADS = range(4)


class AnswerTables(NamedTuple):
    """What the rule knows of the ids of one context."""

    ids: mx.array  # (1, V) int32: 0, 1, 2, ...
    places: mx.array  # (1, NOTES + 3) int32: 0, 1, 2, ...
    looked_at: mx.array  # (1, 2) int32: places of the coming note and of the one just sung, less the count
    calls: mx.array  # (256, V) in one row, logits, by what is asked of each voice, two bits a voice
    spellings: mx.array  # (256, V) in one row, logits for what spells a pitch, then without its octave
    follow: mx.array  # logits of the subject's next duration


def asks_for_answers(context: Context) -> bool:
    """Whether the rule holds; where it does not, entries and subject stand still and cost nothing."""
    return context.imitation == "high" and not context.sequential


@lru_cache(maxsize=16)
def _spellings(vocab: Vocab, context: Context) -> np.ndarray:
    octaves = set(vocab.family("OCT_").values())
    signs = {vocab[name] for name in ("SHARP", "FLAT") if name in vocab}
    table = np.zeros((2, _PITCH + 1, len(vocab)), dtype=np.float32)
    for pitch in range(vocab.min_pitch, vocab.max_pitch + 1):
        for token in pitch_ids(pitch, context.key, vocab):
            weight = 2.0 if token in signs else 1.0
            table[0, pitch, token] = weight
            if token not in octaves:
                table[1, pitch % 12::12, token] = weight
    return table.reshape(-1, len(vocab))


def _calls(vocab: Vocab) -> np.ndarray:
    """(256, V): the offsets of the voices' names in each of the 4^4 situations."""
    tokens = [vocab.family("VOICE_").get(str(number)) for number in range(1, MAX_VOICES + 1)]
    table = np.zeros((1 << 2 * MAX_VOICES, len(vocab)), dtype=np.float32)
    for row in range(len(table)):
        asked = [row >> 2 * voice & 3 for voice in range(MAX_VOICES)]
        entry = WAIT if FOLLOWS in asked or LEADS in asked else CALL
        offsets = {DONE: 0.0, ABSENT: 0.0 if set(asked) == {ABSENT} else entry, FOLLOWS: CALL, LEADS: 0.0}
        for token, what in zip(tokens, asked, strict=True):
            if token is not None:
                table[row, token] = offsets[what]
    return table


@lru_cache(maxsize=16)
def make_answer_tables(vocab: Vocab, context: Context) -> AnswerTables:
    count = [list(range(most)) for most in (len(vocab), len(START_SUBJECT))]
    follow = FOLLOWS_OF_FORM.get(context.form, FOLLOW)
    return AnswerTables(*(mx.array([numbers], dtype=mx.int32) for numbers in (*count, [1, 0])),
                        make_table(_calls(vocab)), make_table(follow * _spellings(vocab, context)),
                        mx.array(follow))


def _own(entries):
    """The entry of the voice being written, 0 before it entered, and where it lies; integers or arrays."""
    shift = ENTRY_BITS * (entries >> WRITING & _VOICE)
    return entries >> shift & _ENTRY, shift


def _situation(entries: mx.array) -> mx.array:
    """(B, 1) entries -> (B, 1) rows of `AnswerTables.calls`."""
    asked = []
    for voice in range(MAX_VOICES):
        entry = entries >> ENTRY_BITS * voice & _ENTRY
        short = mx.where(entry >> ORDER > 1, FOLLOWS, LEADS)
        short = mx.where((entry >> COUNT & _COUNT) < NOTES, short, DONE)
        asked.append(mx.where(entry == 0, ABSENT, short) << 2 * voice)
    return asked[0] | asked[1] | asked[2] | asked[3]


def apply_answers(logits: mx.array, entries: mx.array, subject: mx.array, tables: AnswerTables) -> mx.array:
    """(B, V) logits, (B, 1) int64 entries, (B, NOTES + 3) subject -> (B, V), biased towards answers."""
    own, _ = _own(entries)  # (B, 1)
    first, count = own & _PITCH, own >> COUNT & _COUNT
    notes = mx.take_along_axis(subject, count + tables.looked_at, axis=1)  # (B, 2)
    coming, sung = mx.split(notes, 2, axis=1)
    coming, sung, opening = coming & _PITCH, sung >> LENGTH, subject[:, 1:2] & _PITCH
    fifth = 7 * (entries >> ENTERED & 1).astype(mx.int32)
    wanted = mx.where(count > 0, first + coming - opening, opening + fifth)
    known = (coming > 0) & (wanted > 0) & (wanted <= _PITCH)
    row = mx.where(known, wanted + mx.where(count > 0, 0, _PITCH + 1), 0)
    pull = look_up_row(tables.spellings, row, logits.shape[-1])
    pull = pull + mx.where((tables.ids == sung) & (sung > 0), tables.follow, 0.0)
    return logits + pull + look_up_row(tables.calls, _situation(entries), logits.shape[-1])


def advance_answers(entries: mx.array, subject: mx.array, ids: mx.array, lanes: mx.array, facts: mx.array,
                    tables: AnswerTables) -> tuple[mx.array, mx.array]:
    """Entries and subject after one more id a row; ids (B, 1), lanes as they were before it, facts (1, V) of
    `motion.lane_facts`."""
    fact = look_up(facts, ids)
    pitch = mx.clip((lanes[:, :1] >> SPELLED & 255) + (fact >> SEMITONES), 1, _PITCH)
    (own, shift), entered = _own(entries), entries >> ENTERED
    sings, lasts, voice = (fact & SINGS) != 0, (fact & LASTS) != 0, fact & VOICE
    leads, count = (own >> ORDER == 1) | (entered == 0), own >> COUNT & _COUNT
    begun = mx.where(own == 0, pitch | entered + 1 << ORDER, own)
    begun = begun + mx.where(count <= NOTES, 1 << COUNT, 0)
    sung = (entries ^ mx.left_shift(own ^ begun, shift)) + mx.where(own == 0, 1 << ENTERED, 0)
    named = entries & ~(_VOICE << WRITING) | mx.left_shift(voice.astype(mx.int64) - 1, WRITING)
    entries = mx.where(sings, sung, mx.where(voice > 0, named, entries))
    here = mx.where(sings, count + 1, mx.where(lasts & (count > 0), count, -1))
    noted = mx.where(sings, pitch, mx.where(subject >> LENGTH == 0, subject | ids << LENGTH, subject))
    return entries, mx.where((tables.places == here) & leads & (tables.places <= NOTES), noted, subject)


def advance_answers_row(entries: int, subject: tuple[int, ...], token: int, lanes: tuple[int, ...],
                        fact: int) -> tuple[int, tuple[int, ...]]:
    """The same for one row in plain integers."""
    if fact & VOICE:
        return entries & ~(_VOICE << WRITING) | (fact & VOICE) - 1 << WRITING, subject
    if not fact & (SINGS | LASTS):
        return entries, subject
    (own, shift), entered = _own(entries), entries >> ENTERED
    leads = own >> ORDER == 1 or entered == 0
    count, notes = own >> COUNT & _COUNT, list(subject)
    if fact & SINGS:
        pitch = min(max((lanes[0] >> SPELLED & 255) + (fact >> SEMITONES), 1), _PITCH)
        begun = (own or pitch | entered + 1 << ORDER) + (1 << COUNT if count <= NOTES else 0)
        entries = (entries ^ (own ^ begun) << shift) + (0 if own else 1 << ENTERED)
        if leads and count < NOTES:
            notes[count + 1] = pitch
    elif leads and 0 < count <= NOTES and notes[count] >> LENGTH == 0:
        notes[count] |= token << LENGTH
    return entries, tuple(notes)
