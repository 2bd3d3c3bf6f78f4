"""The register of the grammar: one integer a row, read by gates and written by moves.

For each of four voices six bits say how many units are left of its note, and one bit whether a subject is
open in it. One integer and few operations, so that a compiled step handles it in a kernel or two: all counts
fall at once, each with a guard bit above it that a borrow clears.
"""

from __future__ import annotations

from collections.abc import Iterable

import mlx.core as mx

MAX_VOICES = 4
ALWAYS = 64  # a limit above every count
LONGEST = 63  # units a voice's count can hold
# a gate, int16: limit (7 bits; 0 forbids), then a bit for each voice that it asks about, then needed flags
GATE_VOICES, GATE_FLAGS = 7, 11
# the register: what is left of voice n from bit 7 (n - 1), 6 bits and a guard bit; its flag at bit 27 + n
COUNT_BITS, FLAG_BITS = 7, 28

START_REGISTER = 0
ONES = sum(1 << COUNT_BITS * voice for voice in range(MAX_VOICES))
GUARDS = ONES << COUNT_BITS - 1
FLAGS = (1 << MAX_VOICES) - 1 << FLAG_BITS


def pack_gate(limit: int = ALWAYS, voices: Iterable[int] = (), flags: Iterable[int] = ()) -> int:
    """Allowed while the shortest count of `voices` is below `limit` and a subject is open in `flags`."""
    asked = sum(1 << voice - 1 for voice in voices)
    return limit | asked << GATE_VOICES | sum(1 << voice - 1 for voice in flags) << GATE_FLAGS


def pack_move(state: int, elapsed: int = 0, value: int = 0, at: int = 0, width: int = 0) -> int:
    """To `state`; all counts fall by `elapsed`; then the register's bits `width` << `at` become `value`."""
    return state | elapsed << 16 | value << 22 | at << 28 | width << 33


def attack(state: int, voice: int, units: int) -> int:
    return pack_move(state, 0, units, COUNT_BITS * (voice - 1), LONGEST)


def mark(state: int, voice: int, is_open: bool) -> int:
    return pack_move(state, 0, int(is_open), FLAG_BITS + voice - 1, 1)


def reset(state: int) -> int:
    """Every voice is silent, no subject is open."""
    return pack_move(state, LONGEST, 0, FLAG_BITS, (1 << MAX_VOICES) - 1)


def advance_register(register, move):
    """The register after a move: plain integers, or (B, 1) int64 arrays elementwise."""
    elapsed, value, at, width = move >> 16 & 63, move >> 22 & 63, move >> 28 & 31, move >> 33 & 63
    lowered = (register | GUARDS) - elapsed * ONES  # a field that would fall below 0 loses its guard
    guards = lowered & GUARDS
    left = lowered & (guards - (guards >> COUNT_BITS - 1))
    return (left | (register & FLAGS)) & ~(width << at) | (value << at)


advance_registers = advance_register


def pass_gates(gates: mx.array, register: mx.array) -> mx.array:
    """(B, V) int16 gates against (B, 1) int64 registers: (B, V) bool."""
    register = register.astype(mx.int32)
    shortest = LONGEST
    for voice in range(MAX_VOICES):
        count = register >> COUNT_BITS * voice & LONGEST
        shortest = mx.minimum(shortest, mx.where((gates & 1 << GATE_VOICES + voice) != 0, count, LONGEST))
    needed = gates >> GATE_FLAGS & 15
    is_open = ((register >> FLAG_BITS & 15) & needed) == needed
    return (shortest < (gates & 127)) & is_open


def passes(gate: int, register: int) -> bool:
    """The same for one gate, in plain integers."""
    counts = [register >> COUNT_BITS * voice & LONGEST for voice in range(MAX_VOICES)
              if gate >> GATE_VOICES + voice & 1]
    needed = gate >> GATE_FLAGS & 15
    return min(counts, default=LONGEST) < gate % (2 * ALWAYS) and register >> FLAG_BITS & needed == needed
