"""A soft rule of ours for imitation: where the prompt says IMITATION_HIGH, voices enter one after another and
each answers with what the first sang.

The subject is the first NOTES notes of the voice that sings first, with their durations; a theme given as the
opening is one. No other voice comes before the last to enter has sung as many; then the next is called, and
its first note is bent to the subject's pitch class, of every second entry to the fifth above it. From there
each note of the entry is bent to the interval and the duration that the subject has. All of it is bias: the
model may leave the subject and come back to it, and what fits the other voices is still its choice.
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
from mlxgen.sampling.motion import SEMITONES, SINGS, SPELLED, WRITTEN, lane_facts

NOTES = 10  # of a subject
FOLLOW, CALL, WAIT = 4.0, 4.0, -8.0  # logits: to the subject's next note; to go on or enter; before its time

# an entry, one a voice: its first pitch (7 bits, 0: has not entered), notes sung (6), its number 1 to 4 (3)
COUNT, ORDER = 7, 13
_PITCH, _MOST = 127, 63
# a note of the subject: pitch (7 bits), and the id of its duration
LENGTH = 7
START_ENTRIES = (0,) * MAX_VOICES
START_SUBJECT = (0,) * NOTES


class AnswerTables(NamedTuple):
    """What the rule knows of the ids of one context."""

    facts: mx.array  # (V,) int32: motion.lane_facts
    is_duration: mx.array  # (V,) bool
    places: mx.array  # (1, NOTES) int32: 0, 1, 2, ...
    voices: mx.array  # (4, V): 1.0 where the id names the voice
    spellings: mx.array  # (256, V): 1.0 for what spells a pitch, 2.0 for its accidental; then without octave


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


@lru_cache(maxsize=16)
def make_answer_tables(vocab: Vocab, context: Context) -> AnswerTables:
    voices = np.zeros((MAX_VOICES, len(vocab)), dtype=np.float32)
    for number, token in vocab.family("VOICE_").items():
        if number.isdigit() and 1 <= int(number) <= MAX_VOICES:
            voices[int(number) - 1, token] = 1.0
    durations = np.isin(np.arange(len(vocab)), list(vocab.family("Dur_").values()))
    return AnswerTables(mx.array(lane_facts(vocab, context), dtype=mx.int32), mx.array(durations),
                        mx.arange(NOTES, dtype=mx.int32)[None], mx.array(voices),
                        mx.array(_spellings(vocab, context)))


def apply_answers(logits: mx.array, entries: mx.array, subject: mx.array, lanes: mx.array,
                  tables: AnswerTables) -> mx.array:
    """(B, V) logits, (B, 4) entries, (B, NOTES) subject, (B, 4) lanes -> (B, V), biased towards answers."""
    own = mx.max(entries * (lanes >> WRITTEN), axis=1, keepdims=True)  # (B, 1), 0 before a voice's entry
    first, count, entered = own & _PITCH, own >> COUNT & _MOST, entries >> ORDER
    last = mx.max(entered, axis=1, keepdims=True)
    # the pitch that comes next, and the duration of the one just sung
    coming = mx.max(mx.where(tables.places == count, subject, 0), axis=1, keepdims=True) & _PITCH
    sung = mx.max(mx.where(tables.places == count - 1, subject, 0), axis=1, keepdims=True) >> LENGTH
    opening = subject[:, :1] & _PITCH
    wanted = mx.where(count > 0, first + coming - opening, opening + 7 * (last & 1))
    known = (coming > 0) & (own >> ORDER != 1) & (wanted > 0) & (wanted <= _PITCH)
    row = mx.where(known, wanted + mx.where(count > 0, 0, _PITCH + 1), 0)
    pull = FOLLOW * mx.take(tables.spellings, row.squeeze(-1), axis=0)
    ids = mx.arange(logits.shape[-1])[None]
    pull = pull + mx.where((ids == sung) & (sung > 0) & (own >> ORDER > 1), FOLLOW, 0.0)
    short = (entries >> COUNT & _MOST) < NOTES  # (B, 4)
    waiting = mx.any((entered > 0) & short, axis=1, keepdims=True)
    absent = mx.where(last == 0, 0.0, mx.where(waiting, WAIT, CALL))
    calls = mx.where(entered == 0, absent, mx.where((entered > 1) & short, CALL, 0.0))
    return logits + pull + calls @ tables.voices


def advance_answers(entries: mx.array, subject: mx.array, ids: mx.array, lanes: mx.array,
                    tables: AnswerTables) -> tuple[mx.array, mx.array]:
    """Entries and subject after one more id a row; ids (B, 1), lanes as they were before it."""
    fact, lasts = mx.take(tables.facts, ids), mx.take(tables.is_duration, ids)
    written = lanes >> WRITTEN
    sings, pitch = (fact & SINGS) != 0, mx.clip((lanes >> SPELLED & 255) + (fact >> SEMITONES), 1, _PITCH)
    own = mx.max(entries * written, axis=1, keepdims=True)
    order = mx.max(entries >> ORDER, axis=1, keepdims=True)
    count = own >> COUNT & _MOST
    leads = (own >> ORDER == 1) | (order == 0)
    begun = mx.where(entries == 0, pitch | order + 1 << ORDER, entries)
    begun = begun + mx.where((begun >> COUNT & _MOST) < _MOST, 1 << COUNT, 0)
    entries = mx.where(sings & (written != 0), begun, entries)
    here = mx.where(sings, count, count - 1)
    timed = mx.where((subject >> LENGTH == 0) & lasts, subject | ids << LENGTH, subject)
    noted = mx.where(sings, pitch[:, :1], timed)
    return entries, mx.where((tables.places == here) & leads & (sings | lasts), noted, subject)


def advance_answers_row(entries: tuple[int, ...], subject: tuple[int, ...], token: int,
                        lanes: tuple[int, ...], fact: int, is_duration: bool
                        ) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same for one row in plain integers."""
    voice = next((place for place, lane in enumerate(lanes) if lane >> WRITTEN), None)
    if voice is None or not (fact & SINGS or is_duration):
        return entries, subject
    own, entered = entries[voice], max(entry >> ORDER for entry in entries)
    leads = own >> ORDER == 1 or entered == 0
    count = own >> COUNT & _MOST
    new, notes = list(entries), list(subject)
    if fact & SINGS:
        pitch = min(max((lanes[voice] >> SPELLED & 255) + (fact >> SEMITONES), 1), _PITCH)
        begun = own or pitch | entered + 1 << ORDER
        new[voice] = begun + (1 << COUNT if begun >> COUNT & _MOST < _MOST else 0)
        if leads and count < NOTES:
            notes[count] = pitch
    elif leads and 0 < count <= NOTES and notes[count - 1] >> LENGTH == 0:
        notes[count - 1] |= token << LENGTH
    return tuple(new), tuple(notes)
