"""The register of the grammar: one integer a row, read by gates and written by moves.

For each of four voices a few bits say how many units are left of its note, and one bit whether a subject is
open in it. One integer and few operations, so that a compiled step handles it in a kernel or two: all counts
fall at once, each with a guard bit above it that a borrow clears. Where the bits lie follows from the finest
note value (`Layout`): upstream's 32nds need six bits a voice and fit 32; with triplets it is eight and 40.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

import mlx.core as mx
import numpy as np

from mlxgen.music.vocab import Vocab

MAX_VOICES = 4
START_REGISTER = 0
COARSEST_TICKS = 60  # a 32nd: the shortest beat of a meter
# a move: units that pass (8 bits), the next state (16), a value (8) for the register, where, its width
STATE, VALUE, AT, WIDTH = 8, 24, 32, 38


@dataclass(frozen=True)
class Layout:
    """bits: of a voice's count.

    A register: what is left of voice n from bit `step` (n - 1) on with a guard bit above it; the flags from
    bit `flags` on. A gate: a limit (0 forbids); for each voice that it asks about the bit above its guard;
    from bit `gate_flags` on the flags that it needs. So one subtraction compares all voices with the limit.
    """

    bits: int = 6

    @property
    def longest(self) -> int:
        """Units that a count can hold."""
        return (1 << self.bits) - 1

    @property
    def always(self) -> int:
        """A limit above every count."""
        return 1 << self.bits

    @property
    def step(self) -> int:
        return self.bits + 1

    @property
    def flags(self) -> int:
        return self.step * MAX_VOICES

    @property
    def ones(self) -> int:
        """The lowest bit of every count."""
        return sum(1 << self.step * voice for voice in range(MAX_VOICES))

    @property
    def gate_voices(self) -> int:
        """The bits of all voices."""
        return self.ones << self.step

    @property
    def gate_flags(self) -> int:
        return self.step + 1

    @property
    def gate_type(self) -> type:
        return np.int32 if self.counted_as == mx.int32 else np.int64

    @property
    def counted_as(self) -> mx.Dtype:
        """The narrowest integers that hold a register."""
        return mx.int32 if self.flags + MAX_VOICES <= 32 else mx.int64

    def gate(self, limit: int | None = None, voices: Iterable[int] = (), flags: Iterable[int] = ()) -> int:
        """Allowed while the shortest count of `voices` is below `limit` and a subject is open in `flags`."""
        limit = self.always if limit is None else limit
        asked = sum(1 << self.step * voice for voice in voices)
        if not asked and limit == self.always:
            asked = self.gate_voices
        return limit | asked | sum(1 << voice - 1 for voice in flags) << self.gate_flags

    def attack(self, state: int, voice: int, units: int) -> int:
        return pack_move(state, 0, units, self.step * (voice - 1), self.longest)

    def mark(self, state: int, voice: int, is_open: bool) -> int:
        return pack_move(state, 0, int(is_open), self.flags + voice - 1, 1)

    def reset(self, state: int) -> int:
        """Every voice is silent, no subject is open."""
        return pack_move(state, self.longest, 0, self.flags, (1 << MAX_VOICES) - 1)

    def advance(self, register, move):
        """The register after a move: plain integers, or (B, 1) int64 arrays elementwise."""
        elapsed, value = move & 255, move >> VALUE & 255
        at, width = move >> AT & 63, move >> WIDTH & 255
        flags = (1 << MAX_VOICES) - 1 << self.flags
        guards = self.ones << self.bits
        lowered = (register | guards) - elapsed * self.ones  # a field that would fall below 0 loses its guard
        kept = lowered & guards
        left = lowered & (kept - (kept >> self.bits))
        return (left | (register & flags)) & ~(width << at) | (value << at)

    def pass_gates(self, gates: mx.array, register: mx.array) -> mx.array:
        """(B, V) gates against (B, 1) int64 registers: (B, V) bool."""
        register = register.astype(self.counted_as)
        limits = (gates & (2 * self.always - 1)) * self.ones
        reached = (register | self.ones << self.bits) - limits << 1  # the bit above a guard: not below
        below = gates & self.gate_voices & ~reached
        missing = gates >> self.gate_flags & 15 & ~(register >> self.flags)
        return (below != 0) & (missing == 0)

    def passes(self, gate: int, register: int) -> bool:
        """The same for one gate, in plain integers."""
        limit, needed = gate & (2 * self.always - 1), gate >> self.gate_flags & 15
        below = any(register >> self.step * voice & self.longest < limit for voice in range(MAX_VOICES)
                    if gate >> self.step * (voice + 1) & 1)
        return below and register >> self.flags & needed == needed


LAYOUTS = (Layout(6), Layout(8))


def unit_of(vocab: Vocab) -> int:
    """Ticks that all bins and beats are multiples of."""
    return gcd(*vocab.duration_bins, *vocab.time_shift_bins, COARSEST_TICKS)


def layout_of(vocab: Vocab) -> Layout:
    """The narrowest layout that holds the vocabulary's longest note. ValueError where none does."""
    unit, longest = unit_of(vocab), max(*vocab.duration_bins, *vocab.time_shift_bins)
    for layout in LAYOUTS:
        if longest // unit <= layout.longest:
            return layout
    raise ValueError(f"bins up to {longest} ticks in steps of {unit}: at most {LAYOUTS[-1].longest}")


def pack_move(state: int, elapsed: int = 0, value: int = 0, at: int = 0, width: int = 0) -> int:
    """To `state`; all counts fall by `elapsed`; then the register's bits `width` << `at` become `value`."""
    return elapsed | state << STATE | value << VALUE | at << AT | width << WIDTH


def next_state(move):
    """Of a move: plain integers or arrays."""
    return move >> STATE & 0xFFFF
