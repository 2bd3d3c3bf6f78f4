"""The register of the grammar: one integer a row, read by gates and written by moves; layout in grammar.py.

For each of four voices six bits say how many units are left of its note, and one bit whether a subject is
open in it. One integer and few operations, so that a compiled step handles it in a kernel or two: all counts
fall at once, each with a guard bit above it that a borrow clears.
"""

from __future__ import annotations

import mlx.core as mx

from mlxgen.sampling.grammar import (
    ALWAYS,
    COUNT_BITS,
    FLAG_BITS,
    GATE_FLAGS,
    GATE_VOICES,
    LONGEST,
    MAX_VOICES,
)

START_REGISTER = 0
ONES = sum(1 << COUNT_BITS * voice for voice in range(MAX_VOICES))
GUARDS = ONES << COUNT_BITS - 1
FLAGS = (1 << MAX_VOICES) - 1 << FLAG_BITS


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
