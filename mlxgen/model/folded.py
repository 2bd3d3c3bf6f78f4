"""A norm, a product and what follows it, for a CPU: the norm's weights are part of the matrix.

    norm(x) @ W + b = (x @ W') / sqrt(S) + b    with W' = sqrt(d) diag(weights) W, S = sum(x^2 + eps)

A small operation costs a CPU two microseconds whatever it does. So of a single token the product with 1 /
sqrt(S) is left to the kernel after the matrix, which has to be run anyway, with the bias and the softplus of
PoPE. Rows are multiplied before: a kernel that reads a number a row is no vector code.
"""

from __future__ import annotations

import mlx.core as mx

from mlxgen.model.exponentials import gate_at_once, gate_from_polynomials, softplus_where


def fold(weights: mx.array, matrix: mx.array) -> mx.array:
    """W' of a norm's weights (d,) and W (d, n)."""
    return weights[:, None] * matrix * len(weights) ** 0.5


def is_single(x: mx.array) -> bool:
    return x.size == x.shape[-1]


def inverse_root(x: mx.array, eps: float) -> mx.array:
    """1 / sqrt(S) of every token (..., 1); of a single one a scalar: the kernel that reads it stays vector
    code, as it would not with the root inside."""
    inverse = mx.rsqrt((mx.square(x) + eps).sum(axis=-1, keepdims=True))
    return inverse.squeeze() if is_single(x) else inverse


@mx.compile
def finish_lifted(product: mx.array, inverse: mx.array, bias: mx.array, lifted: mx.array) -> mx.array:
    return softplus_where(product * inverse + bias, lifted)


@mx.compile
def finish(product: mx.array, inverse: mx.array, bias: mx.array) -> mx.array:
    return product * inverse + bias


@mx.compile
def finish_gate(gate: mx.array, up: mx.array, inverse: mx.array) -> mx.array:
    return gate_from_polynomials(gate * inverse, up * inverse)


lift = mx.compile(softplus_where)


def make_heads(x: mx.array, matrix: mx.array, bias: mx.array, lifted: mx.array | None,
               eps: float) -> mx.array:
    """norm(x) @ W + b (..., n), under softplus where `lifted` (1, n) is 1; None: nowhere."""
    if is_single(x):
        product, inverse = x @ matrix, inverse_root(x, eps)
        return (finish(product, inverse, bias) if lifted is None
                else finish_lifted(product, inverse, bias, lifted))
    joined = mx.addmm(bias, x * inverse_root(x, eps), matrix)
    return joined if lifted is None else lift(joined, lifted)


def make_gated(x: mx.array, matrix: mx.array, eps: float) -> mx.array:
    """silu(gate) * up, [gate, up] = norm(x) @ W: (..., n / 2)."""
    if is_single(x):
        return finish_gate(*mx.split(x @ matrix, 2, axis=-1), inverse_root(x, eps))
    return gate_at_once(*mx.split((x * inverse_root(x, eps)) @ matrix, 2, axis=-1))
