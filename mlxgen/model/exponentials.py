"""e^-x and silu in few fast kernels, log(1 + e^x) in an exact one.

MLX's CPU backend takes exponentials and logarithms number by number (11 and 9 ns each on one core of the
Linux CPU), and fuses at most eleven operations in a chain. Here they are products of quadratics: nothing that
branches, so that a compiler makes vector code of them (1 ns), and never more than eleven in a chain, the
subtraction and the broadcast before them included. On a GPU, and for few numbers, where a second kernel would
cost more than it saves, MLX's own functions are taken.
"""

from __future__ import annotations

import math

import mlx.core as mx

LOG2_E = math.log2(math.e)
MANY = 8192  # numbers from which two kernels without exponentials beat one with them, on a CPU

# e^(-u / UNIT) = (product of (u + shift)^2 + rest)^-8 for u >= 0. Absolute error 1.5e-7, and 1.7e-6 with what
# float32 rounds; relative 1.5e-6 where the value is above e^-4, 1.5e-4 above e^-12; it falls for ever. Fitted
# by Lawson's iteration with weights e^(-0.6 u / UNIT).
UNIT = 0.046259239626470675
DECAY = ((-0.5272519822048914, 1.826983734459483), (0.3182089083218503, 0.780930392524439),
         (0.6682076450049427, 0.09200580545999332))


def decay(u: mx.array) -> mx.array:
    """e^(-u / UNIT) for u >= 0, float32; 0 for infinity."""
    first, second, third = (mx.square(u + shift) + rest for shift, rest in DECAY)
    power = 1 / (first * second * third)
    for _ in range(3):
        power = mx.square(power)
    return power


@mx.compile
def decay_of_size(x: mx.array) -> mx.array:
    return decay(mx.abs(x.astype(mx.float32)) * UNIT)


@mx.compile
def gate_from(gate: mx.array, up: mx.array, t: mx.array) -> mx.array:
    """silu(gate) * up from t = e^-|gate|."""
    wide = gate.astype(mx.float32)
    size = mx.abs(wide)
    silu = (wide + size + (wide - size) * t) / (2 + 2 * t)
    return silu * up.astype(mx.float32)


@mx.compile
def gate_at_once(gate: mx.array, up: mx.array) -> mx.array:
    """2^x because e^x is slow on the Linux CPU."""
    wide = gate.astype(mx.float32)
    return wide / (1 + mx.power(2.0, wide * -LOG2_E)) * up.astype(mx.float32)


def has_many(x: mx.array) -> bool:
    return x.size >= MANY and mx.default_device().type == mx.DeviceType.cpu


def apply_softplus(x: mx.array) -> mx.array:
    """log(1 + e^x) of float32, for use inside mx.compile. Exact to the last bits: of all that is approximated
    here it alone would show in the logits (1.1e-4 instead of 8e-5 off another implementation's).
    """
    return mx.maximum(x, 0) + mx.log2(1 + mx.power(2.0, mx.abs(x) * -LOG2_E)) * (1 / LOG2_E)


def apply_swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up in float32."""
    return gate_from(gate, up, decay_of_size(gate)) if has_many(gate) else gate_at_once(gate, up)
