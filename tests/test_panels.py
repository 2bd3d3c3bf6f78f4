"""A single token goes through matrices in panels, and nobody can tell from what comes out."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import KINDS, make_model

from mlxgen.model.panels import WIDTHS, in_panels, multiply


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 90), panels=st.integers(1, 5), width=st.sampled_from(WIDTHS),
       seed=st.integers(0, 1000))
def test_a_product_in_panels_is_the_product(rows, panels, width, seed):
    random = np.random.default_rng(seed)
    matrix = mx.array(random.normal(size=(rows, panels * width)).astype(np.float32))
    row = mx.array(random.normal(size=(1, rows)).astype(np.float32))
    product = multiply(row, in_panels(matrix, width))
    assert product.shape == (1, panels, 1, width)
    assert np.allclose(product.flatten(), (row @ matrix).flatten(), atol=1e-4)


def step_through(model, ids: mx.array) -> mx.array:
    cache = model.make_cache()
    return mx.concatenate([model(ids[:, t: t + 1], cache=cache) for t in range(ids.shape[1])], axis=1)


@pytest.mark.parametrize("sizes", [{}, {"embed_dim": 64, "ffn_dim": 96}, {"embed_dim": 128, "ffn_dim": 64}])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_in_panels_are_steps(kind, sizes):
    model, _ = make_model(kind, **sizes)
    assert model.panels is not None
    ids = mx.array(np.random.default_rng(0).integers(0, 23, (1, 30)))
    steps, whole = step_through(model, ids), model(ids)
    model.panels = None
    assert float(mx.abs(steps - whole).max()) <= 1e-4
    assert 0 < float(mx.abs(steps - step_through(model, ids)).max()) <= 1e-4  # they were taken


def test_sizes_that_no_panel_divides_go_without():
    model, _ = make_model("pope-gqa", ffn_dim=47)
    ids = mx.array(np.random.default_rng(0).integers(0, 23, (1, 30)))
    assert model.panels is None
    assert float(mx.abs(step_through(model, ids) - model(ids)).max()) <= 1e-4
