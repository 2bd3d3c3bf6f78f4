"""e^-x, log(1 + e^x) and silu in kernels that a C++ compiler makes vector code of.

MLX's CPU backend takes exponentials and logarithms number by number (11 and 9 ns each on one core of the
Linux CPU), and its minimum and maximum branch for NaN. Here they are quotients of products of quadratics
(0.8 ns), and nothing is deeper than the eleven operations that MLX fuses, the subtraction and the broadcast
before them included. On a GPU MLX's own functions are taken.
"""

from __future__ import annotations

import math

import mlx.core as mx

from mlxgen.model.streams import on_cpu

LOG2_E = math.log2(math.e)


def multiply(quadratics: tuple[tuple[float, float], ...], u: mx.array) -> mx.array:
    """Product of (u + shift)^2 + rest, in pairs, so that the tree is as low as can be."""
    terms = [mx.square(u + shift) + rest for shift, rest in quadratics]
    while len(terms) > 1:
        pairs = [first * second for first, second in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2:]
    return terms[0]


# e^(-u / UNIT) = (product of (u + shift)^2 + rest)^-8 for u >= 0. Absolute error 1.5e-7, and 1.7e-6 with what
# float32 rounds; relative 1.5e-6 where the value is above e^-4, 1.5e-4 above e^-12; it falls for ever. Fitted
# by Lawson's iteration with weights e^(-0.6 u / UNIT).
UNIT = 0.046259239626470675
DECAY = ((-0.5272519822048914, 1.826983734459483), (0.3182089083218503, 0.780930392524439),
         (0.6682076450049427, 0.09200580545999332))


def decay(u: mx.array) -> mx.array:
    """e^(-u / UNIT) for u >= 0, float32; 0 for infinity."""
    power = 1 / multiply(DECAY, u)
    for _ in range(3):
        power = mx.square(power)
    return power


# factor * product of (u + shift)^2 + rest of the first over that of the second list
Quotient = tuple[float, tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]
# log(1 + e^-u) and 1 / (1 + e^u) for u >= 0, the latter to be multiplied by u. Absolute error, of the product
# too, 5.5e-8 and 1.7e-8 for all u; 2.8e-7 and 1.5e-7 with what float32 rounds. Fitted by Lawson's iteration.
SOFTPLUS: Quotient = (
    2.2592387319763554,
    ((-15.185650933265787, 18.72629713827338), (-22.87262703932761, -25.729432040275956)),
    ((-3.5439781035562246, 62.886527279196734), (0.36878267632865214, 38.18063743660972),
     (3.0454671203675017, 2.8325775355577982), (0.4573146457013635, 11.340376173357647)))
SIGMOID: Quotient = (
    45.42511698176456,
    ((-19.173450629320463, 24.016912640956253), (-26.270663748282786, -21.049111899413774)),
    ((-6.769104202762995, 84.09086287482619), (-2.5818975945567324, 49.176333592956674),
     (0.537812373743406, 23.247186693582112), (3.291563817564384, 3.3182410299865297),
     (0.04614092115304344, 9.849564594302901)))


def divide(quotient: Quotient, u: mx.array, times: mx.array | float = 1.0) -> mx.array:
    factor, above, below = quotient
    return multiply(above, u) * (times * factor) / multiply(below, u)


# Softplus and silu are something of |x| that dies out and max(x, 0), exactly (x + |x|) / 2. The shallow term
# comes last: MLX takes |x|, and what x comes from, into a kernel at the depth at which it meets it last.
# `lifted` is 1 for numbers that softplus is for, and 0 for those to be left as they are.


def softplus_where(x: mx.array, lifted: mx.array | float) -> mx.array:
    size = mx.abs(x)
    return divide(SOFTPLUS, size, lifted) + (x + lifted * size) * (1 - 0.5 * lifted)


@mx.compile
def gate_at_once(gate: mx.array, up: mx.array) -> mx.array:
    size = mx.abs(gate)
    return divide(SIGMOID, size, -size) * up + (gate + size) * 0.5 * up


@mx.compile
def softplus_from_polynomials(x: mx.array) -> mx.array:
    return softplus_where(x, 1.0)


@mx.compile
def softplus_from_powers(x: mx.array) -> mx.array:
    return mx.maximum(x, 0) + mx.log2(1 + mx.power(2.0, mx.abs(x) * -LOG2_E)) * (1 / LOG2_E)


@mx.compile
def gate_from_powers(gate: mx.array, up: mx.array) -> mx.array:
    wide = gate.astype(mx.float32)
    return wide / (1 + mx.power(2.0, wide * -LOG2_E)) * up.astype(mx.float32)


def apply_softplus(x: mx.array) -> mx.array:
    """log(1 + e^x) of float32."""
    return softplus_from_polynomials(x) if on_cpu() else softplus_from_powers(x)


def apply_swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up in float32."""
    if on_cpu() and gate.dtype == mx.float32:
        return gate_at_once(gate, up)
    return gate_from_powers(gate, up)
