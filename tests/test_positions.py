"""Angles are exact at any position, and the arithmetic is upstream's."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_config

from mlxgen.model.exponentials import apply_softplus
from mlxgen.model.positions import make_beta, make_positions


def place(positions, x: mx.array, rows: mx.array) -> mx.array:
    """(..., T, heads, D) at their positions: (..., T, heads, width)."""
    lifted = apply_softplus(x) if positions.lifted else x
    return positions.place(lifted[..., None, :], rows[:, None]).reshape(*x.shape[:-1], -1)


def score(positions, q, k, at_query: int, at_key: int) -> float:
    query = place(positions, mx.array(q)[None, None, None], positions.make_rows([at_query]))
    key = place(positions, mx.array(k)[None, None, None], positions.make_rows([at_key]))
    return float((query * key).sum())


@pytest.mark.parametrize("kind", ["pope-gqa", "rope-gqa"])
@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 10**18), behind=st.integers(0, 4096), seed=st.integers(0, 99))
def test_scores_depend_on_the_difference_alone(kind, start, behind, seed):
    positions = make_positions(make_config(kind))
    q, k = np.random.default_rng(seed).normal(size=(2, 8)).astype(np.float32)
    far, near = score(positions, q, k, start + behind, start), score(positions, q, k, behind, 0)
    assert far == pytest.approx(near, abs=3e-6)


@pytest.mark.parametrize("kind, width", [("pope-gqa", 8), ("rope-gqa", 8)])
def test_rows_are_the_float64_angles(kind, width):
    config = make_config(kind)
    count = width if kind.startswith("pope") else width // 2
    frequencies = config.rope_theta ** (-np.arange(count) / count)
    rows = np.array(make_positions(config).make_rows([0, 1, 4095, 50_000_000]))
    for row, position in zip(rows, (0, 1, 4095, 50_000_000), strict=True):
        assert np.abs(row[0] - np.cos(position * frequencies)).max() < 2e-7
        assert np.abs(row[1] - np.sin(position * frequencies)).max() < 2e-7


def test_a_float32_product_would_be_wrong_where_the_phase_is_not():
    position = 50_000_003
    exact = math.cos(position)
    row = np.array(make_positions(make_config("pope-mha")).make_rows([position]))
    assert abs(row[0, 0, 0] - exact) < 2e-7
    assert abs(math.cos(float(np.float32(position))) - exact) > 1e-2


def test_pope_by_hand():
    """Two dimensions, theta 100: w = 1, 0.1."""
    config = make_config("pope-mha", embed_dim=4, num_heads=2, num_kv_heads=2, rope_theta=100.0)
    positions = make_positions(config)
    placed = np.array(place(positions, mx.array([[[[0.0, 1.0]]]]), positions.make_rows([2])))[0, 0, 0]
    a, b = math.log(2), math.log(1 + math.e)
    expected = [a * math.cos(2), b * math.cos(0.2), a * math.sin(2), b * math.sin(0.2)]
    assert placed == pytest.approx(expected, abs=1e-6)
    assert positions.scale == pytest.approx(0.5)


def test_rope_turns_first_half_with_second():
    config = make_config("rope-mha", embed_dim=8, num_heads=2, num_kv_heads=2, rope_theta=100.0)
    positions = make_positions(config)
    placed = place(positions, mx.array([[[[1.0, 0.0, 0.0, 1.0]]]]), positions.make_rows([1]))
    expected = [math.cos(1), -math.sin(0.1), math.sin(1), math.cos(0.1)]
    assert np.array(placed)[0, 0, 0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["pope-gqa", "rope-gqa"])
def test_turning_a_key_is_placing_it_later(kind):
    positions = make_positions(make_config(kind))
    x = mx.array(np.random.default_rng(0).normal(size=(1, 5, 3, 8)).astype(np.float32))
    placed = place(positions, x, positions.make_rows(range(5))).swapaxes(1, 2)
    turned = positions.turn(placed, positions.make_rows([10**12]))
    later = place(positions, x, positions.make_rows(range(10**12, 10**12 + 5))).swapaxes(1, 2)
    assert float(mx.abs(turned - later).max()) < 1e-6


def test_drope_keeps_the_activation_and_the_scale():
    pope, rope = make_positions(make_config("pope-drope")), make_positions(make_config("rope-drope"))
    x = mx.array([[[[-1.0, 0.5]]]])
    rows = pope.make_rows([7])
    assert rows.shape == (1, 2, 0)
    assert np.allclose(np.array(place(pope, x, rows)), np.log1p(np.exp(np.array(x))), atol=1e-6)
    assert pope.scale == pytest.approx(16**-0.5)
    assert np.array_equal(np.array(place(rope, x, rows)), np.array(x))


def test_beta_grows_past_the_training_length_only():
    config = make_config("pope-drope", train_seq_len=100, drope_scale_c=0.4)
    assert make_beta(config, [1, 100, 271.8281828]) == pytest.approx([1, 1, 1.4])
    assert make_beta(make_config("pope-mha"), [500]) is None
