"""The register of the grammar: small counters packed in one integer a row, advanced by each move.

Bits 0-31: for each of four voices, in units, what is left of its note (255: there is no such voice). Then the
shortest of these; the shortest among the voices still to come at this instant; 1 unless a subject is open in
the voice that has just sounded; and from bit 56 on, a flag a voice: a subject is open there.
One integer and not an array, so that a compiled step handles a row's counters in one kernel.
"""

from __future__ import annotations

import mlx.core as mx

from mlxgen.sampling.grammar import (
    ATTACK,
    CLOSE,
    CLOSED_BITS,
    FLAG_BITS,
    LATER_BITS,
    MAX_VOICES,
    OPEN,
    RESET,
    SHIFT,
    SHORTEST_BITS,
)

ABSENT = 255


def advance_register(register: int, move: int) -> int:
    """The register after a move, in plain integers."""
    amount, kind, voice = move >> 16 & 255, move >> 24 & 7, move >> 27 & 7
    left = [register >> 8 * index & 255 for index in range(MAX_VOICES)]
    flags = register >> FLAG_BITS & 15
    if kind == SHIFT:
        left = [value if value == ABSENT else max(value - amount, 0) for value in left]
    elif kind == RESET:
        left = [value if value == ABSENT else 0 for value in left]
        flags = 0
    elif kind == ATTACK:
        left[voice - 1] = amount
    elif kind == OPEN:
        flags |= 1 << voice - 1
    elif kind == CLOSE:
        flags &= ~(1 << voice - 1)
    last = voice if kind in (ATTACK, CLOSE) else 0
    later = min(left[last:], default=ABSENT)
    closed = int(last == 0 or not flags >> last - 1 & 1)
    packed = sum(value << 8 * index for index, value in enumerate(left))
    packed |= min(left) << SHORTEST_BITS | later << LATER_BITS
    return packed | closed << CLOSED_BITS | flags << FLAG_BITS


def advance_registers(register: mx.array, move: mx.array) -> mx.array:
    """The same for (B, 1) int64 registers and (B, 1) int32 moves, elementwise."""
    amount, kind, voice = move >> 16 & 255, move >> 24 & 7, move >> 27 & 7
    amount = amount.astype(mx.int64)
    elapsed = mx.where(kind == SHIFT, amount, mx.where(kind == RESET, ABSENT, 0)).astype(mx.int64)
    last = mx.where((kind == ATTACK) | (kind == CLOSE), voice, 0)
    packed = shortest = later = None
    for index in range(MAX_VOICES):
        value = register >> 8 * index & 255
        value = mx.where(value == ABSENT, value, mx.maximum(value - elapsed, 0))
        value = mx.where((kind == ATTACK) & (voice == index + 1), amount, value)
        still = mx.where(last <= index, value, ABSENT)
        packed = value if packed is None else packed | value << 8 * index
        shortest = value if shortest is None else mx.minimum(shortest, value)
        later = still if later is None else mx.minimum(later, still)
    bit = mx.where(voice > 0, mx.left_shift(1, mx.maximum(voice - 1, 0)), 0).astype(mx.int64)
    flags = register >> FLAG_BITS & 15
    flags = mx.where(kind == OPEN, flags | bit, mx.where(kind == CLOSE, flags & ~bit, flags))
    flags = mx.where(kind == RESET, 0, flags).astype(mx.int64)
    closed = mx.where((last > 0) & ((flags & bit) != 0), 0, 1).astype(mx.int64)
    packed = packed | shortest << SHORTEST_BITS | later << LATER_BITS
    return packed | closed << CLOSED_BITS | flags << FLAG_BITS
