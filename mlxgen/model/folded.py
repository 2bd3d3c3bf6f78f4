"""A norm, a product and what follows it, for a CPU: the norm's weights are part of the matrix.

    norm(x) @ W + b = (x @ W') / sqrt(S) + b    with W' = sqrt(d) diag(weights) W, S = sum(x^2 + eps)

A small operation costs a CPU two microseconds whatever it does. So of a single token the division is left to
the kernel after the product, which has to be run anyway, with the bias and the softplus of PoPE. Rows are
divided before: a kernel that reads a number a row is no vector code.
"""

from __future__ import annotations

import mlx.core as mx

from mlxgen.model.exponentials import gate_at_once, gate_from_polynomials, softplus_where


def fold(weights: mx.array, matrix: mx.array) -> mx.array:
    """W' of a norm's weights (d,) and W (d, n)."""
    return weights[:, None] * matrix * len(weights) ** 0.5


def is_single(x: mx.array) -> bool:
    return x.size == x.shape[-1]


def sum_squares(x: mx.array, eps: float) -> mx.array:
    """S of every token (..., 1); of a single one a scalar: the kernel that reads it stays vector code."""
    return (mx.square(x) + eps).sum(axis=None if is_single(x) else -1, keepdims=not is_single(x))


def normalise(x: mx.array, eps: float) -> mx.array:
    return x * mx.rsqrt(sum_squares(x, eps))


@mx.compile
def finish_lifted(product: mx.array, total: mx.array, bias: mx.array, lifted: mx.array) -> mx.array:
    return softplus_where(product * mx.rsqrt(total) + bias, lifted)


@mx.compile
def finish(product: mx.array, total: mx.array, bias: mx.array) -> mx.array:
    return product * mx.rsqrt(total) + bias


@mx.compile
def finish_gate(gate: mx.array, up: mx.array, total: mx.array) -> mx.array:
    inverse = mx.rsqrt(total)
    return gate_from_polynomials(gate * inverse, up * inverse)


lift = mx.compile(softplus_where)


def make_heads(x: mx.array, matrix: mx.array, bias: mx.array, lifted: mx.array | None,
               eps: float) -> mx.array:
    """norm(x) @ W + b (..., n), under softplus where `lifted` (1, n) is 1; None: nowhere."""
    if is_single(x):
        product, total = x @ matrix, sum_squares(x, eps)
        return (finish(product, total, bias) if lifted is None
                else finish_lifted(product, total, bias, lifted))
    joined = mx.addmm(bias, normalise(x, eps), matrix)
    return joined if lifted is None else lift(joined, lifted)


def make_gated(x: mx.array, matrix: mx.array, eps: float) -> mx.array:
    """silu(gate) * up, [gate, up] = norm(x) @ W: (..., n / 2)."""
    if is_single(x):
        return finish_gate(*mx.split(x @ matrix, 2, axis=-1), sum_squares(x, eps))
    return gate_at_once(*mx.split(normalise(x, eps) @ matrix, 2, axis=-1))
