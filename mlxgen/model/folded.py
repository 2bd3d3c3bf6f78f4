"""A norm and the product after it, for a CPU: the norm's weights are part of the matrix.

    norm(x) @ W + b = (x / sqrt(S)) @ W' + b    with W' = sqrt(d) diag(weights) W, S = sum(x^2 + eps)

A small operation costs a CPU two microseconds whatever it does.
"""

from __future__ import annotations

import mlx.core as mx

from mlxgen.model.exponentials import gate_at_once, softplus_where


def fold(weights: mx.array, matrix: mx.array) -> mx.array:
    """W' of a norm's weights (d,) and W (d, n)."""
    return weights[:, None] * matrix * len(weights) ** 0.5


def normalize(x: mx.array, eps: float) -> mx.array:
    """x / sqrt(S) of every token."""
    return x * mx.rsqrt((mx.square(x) + eps).sum(axis=-1, keepdims=True))


lift = mx.compile(softplus_where)


def make_heads(x: mx.array, matrix: mx.array, bias: mx.array, lifted: mx.array | None,
               eps: float) -> mx.array:
    """norm(x) @ W + b (..., n), under softplus where `lifted` (1, n) is 1; None: nowhere."""
    joined = mx.addmm(bias, normalize(x, eps), matrix)
    return joined if lifted is None else lift(joined, lifted)


def make_gated(x: mx.array, matrix: mx.array, eps: float) -> mx.array:
    """silu(gate) * up, [gate, up] = norm(x) @ W: (..., n / 2)."""
    return gate_at_once(*mx.split(normalize(x, eps) @ matrix, 2, axis=-1))
