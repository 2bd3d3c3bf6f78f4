"""The sampler on distributions of four ids, worked out by hand."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest

from mlxgen.sampling.sampler import (
    SamplingParams,
    apply_filters,
    apply_log_probability,
    apply_min_p,
    apply_temperature,
    apply_top_k,
    apply_top_p,
    draw,
    gumbel_noise,
    make_knobs,
    make_row_keys,
)

PROBABILITIES = [0.5, 0.3, 0.15, 0.05]
LOGITS = mx.log(mx.array([PROBABILITIES]))


def kept(logits):
    return [index for index, value in enumerate(logits[0].tolist()) if value > -math.inf]


def test_temperature_divides():
    assert apply_temperature(LOGITS, 0.5)[0, 1].item() == pytest.approx(2 * math.log(0.3))


@pytest.mark.parametrize("top_k, expected", [(0, [0, 1, 2, 3]), (1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]),
                                             (9, [0, 1, 2, 3])])
def test_top_k(top_k, expected):
    assert kept(apply_top_k(LOGITS, top_k)) == expected


@pytest.mark.parametrize("top_p, expected", [(0.4, [0]), (0.49, [0]), (0.51, [0, 1]), (0.79, [0, 1]),
                                             (0.81, [0, 1, 2]), (0.96, [0, 1, 2, 3])])
def test_top_p(top_p, expected):
    assert kept(apply_top_p(LOGITS, top_p)) == expected


def test_top_p_in_any_order():
    shuffled = LOGITS[:, mx.array([2, 0, 3, 1])]
    assert kept(apply_top_p(shuffled, 0.6)) == [1, 3]


@pytest.mark.parametrize("min_p, expected", [(0.0, [0, 1, 2, 3]), (0.11, [0, 1, 2]), (0.29, [0, 1, 2]),
                                             (0.31, [0, 1]), (0.61, [0]), (1.0, [0])])
def test_min_p(min_p, expected):
    assert kept(apply_min_p(LOGITS, min_p)) == expected


def test_forbidden_ids_stay_forbidden():
    masked = mx.where(mx.array([[True, False, True, True]]), LOGITS, -mx.inf)
    for logits in (apply_top_k(masked, 3), apply_top_p(masked, 0.99), apply_min_p(masked, 0.01)):
        assert 1 not in kept(logits)


def test_order_is_temperature_then_min_p():
    """At temperature 0.5 the second id falls to 0.36 of the first; min-p 0.5 keeps it only before that."""
    keeps = apply_filters(LOGITS, make_knobs(SamplingParams(temperature=0.5, min_p=0.5)), False, False)
    assert kept(keeps) == [0]
    keeps = apply_filters(LOGITS, make_knobs(SamplingParams(temperature=1, min_p=0.5)), False, False)
    assert kept(keeps) == [0, 1]


def test_all_filters_together():
    """top-k 3 leaves 0.526 0.316 0.158; top-p 0.6 leaves two of them."""
    params = SamplingParams(temperature=1, top_k=3, top_p=0.6, min_p=0.01)
    assert kept(apply_filters(LOGITS, make_knobs(params), True, True)) == [0, 1]


def test_greedy_ignores_noise():
    noise = mx.array([[0.0, 50.0, 0.0, 0.0]])
    knobs = make_knobs(SamplingParams(temperature=0, min_p=0))
    assert draw(apply_filters(LOGITS, knobs, False, False), noise, knobs).item() == 0
    knobs = make_knobs(SamplingParams(temperature=1, min_p=0))
    assert draw(apply_filters(LOGITS, knobs, False, False), noise, knobs).item() == 1


def test_draws_follow_the_distribution():
    """20,000 positions of one row: each share within 4 standard deviations."""
    count = 20_000
    noise = gumbel_noise(make_row_keys([11]), 0, count, 4)[:, 0]
    drawn = np.array(mx.argmax(LOGITS + noise, axis=-1))
    for token, probability in enumerate(PROBABILITIES):
        spread = math.sqrt(probability * (1 - probability) / count)
        assert abs((drawn == token).mean() - probability) < 4 * spread


def test_noise_of_a_row_is_its_own():
    """The same row alone, in any batch, in any block of positions."""
    alone = gumbel_noise(make_row_keys([5]), 100, 1, 125)[0, 0]
    batch = gumbel_noise(make_row_keys([9, 5, 7]), 64, 64, 125)[100 - 64, 1]
    assert mx.array_equal(alone, batch)


def test_noise_differs_between_neighbours():
    noise = np.array(gumbel_noise(make_row_keys([0, 1]), 0, 50, 500))
    flat = noise.reshape(100, -1)
    correlation = np.corrcoef(flat) - np.eye(100)
    assert np.abs(correlation).max() < 0.25
    assert abs(noise.mean() - 0.5772) < 0.03


def test_positions_far_out():
    near, far = (gumbel_noise(make_row_keys([1]), first, 2, 8) for first in (0, 2**33))
    assert np.isfinite(np.array(far)).all() and mx.array_equal(near, far)  # the counter is 32 bits and wraps


def test_log_probability():
    logprob = apply_log_probability(LOGITS + 7, mx.array([[2]]))
    assert logprob.tolist() == [[pytest.approx(math.log(0.15), abs=1e-5)]]


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"temperature": math.nan}, {"top_k": -1},
                                   {"top_p": 0}, {"top_p": 1.5}, {"min_p": -0.1}, {"min_p": 2}])
def test_params_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        SamplingParams(**wrong)
