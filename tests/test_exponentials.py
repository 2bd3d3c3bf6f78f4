"""The exponentials of the CPU step: exact enough everywhere, and one kernel each."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cost import count_graph
from mlxgen.model import exponentials, folded, panels

EPS = 1e-6
FAR = np.geomspace(30, 1e5, 500)
EVERYWHERE = np.concatenate([np.linspace(-30, 30, 200_001), FAR, -FAR])


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(np.minimum(-x, 700)))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def make_array(numbers: np.ndarray) -> mx.array:
    return mx.array(numbers.astype(np.float32))


@pytest.mark.parametrize("size", [EVERYWHERE.size, 64])
def test_softplus_and_silu_are_as_good_as_float32_is(size):
    x = make_array(EVERYWHERE[:: EVERYWHERE.size // size])
    exact = np.array(x).astype(np.float64)
    step = np.spacing(np.maximum(np.abs(exact), 1).astype(np.float32))
    for result, truth in ((exponentials.softplus_from_polynomials(x), softplus(exact)),
                          (exponentials.gate_at_once(x, mx.ones_like(x)), silu(exact))):
        assert (np.abs(np.array(result) - truth) < 3e-7 + step).all()


def test_what_is_not_lifted_stays_as_it_is():
    x = make_array(EVERYWHERE)
    assert mx.array_equal(folded.lift(x, mx.zeros_like(x)), x)
    assert mx.array_equal(folded.lift(x, mx.ones_like(x)), exponentials.softplus_from_polynomials(x))


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 200))
def test_decay_is_what_it_says(distance):
    fallen = float(exponentials.decay(mx.array(distance * exponentials.UNIT)))
    assert fallen == pytest.approx(np.exp(-np.float64(distance)), abs=1.7e-6)


def test_decay_ends_at_nothing():
    assert float(exponentials.decay(mx.array(np.inf))) == 0


def test_each_is_one_kernel():
    """MLX cuts what is deeper than it fuses in two, and says nothing."""
    row = mx.random.normal((1, 96))
    mx.eval(row)
    for kernel, arguments in ((exponentials.softplus_from_polynomials, [row]),
                              (exponentials.gate_at_once, [row, row + 0]),
                              (folded.lift, [row, row + 0]),
                              (panels.finish_lifted, [row, row + 0, row + 0])):
        mx.eval(arguments)
        assert count_graph(kernel(*arguments)) == {"Compiled": 1}, kernel


@pytest.mark.parametrize("shape", [(1,), (1, 1), (3,), (2, 5)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
def test_a_folded_norm_is_the_norm(shape, scale):
    random = np.random.default_rng(len(shape))
    d, n = 32, 24
    x, norm, matrix, bias = (random.normal(size=size) for size in ((*shape, d), d, (d, n), (1, n)))
    x = x * scale
    normed = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * norm @ matrix
    lifted = np.arange(n)[None] < 16
    weights = folded.fold(make_array(norm), make_array(matrix))
    heads = folded.make_heads(make_array(x), weights, make_array(bias), make_array(lifted), EPS)
    plain = folded.make_heads(make_array(x), weights, make_array(bias), None, EPS)
    gated = folded.make_gated(make_array(x), weights, EPS)
    assert np.allclose(heads, np.where(lifted, softplus(normed + bias), normed + bias), atol=3e-5)
    assert np.allclose(plain, normed + bias, atol=3e-5)
    assert np.allclose(gated, silu(normed[..., :12]) * normed[..., 12:], atol=1e-4)
