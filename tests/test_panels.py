"""Few tokens go through matrices in panels, and nobody can tell from what comes out."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import KINDS, make_model

from mlxgen.model.panels import WIDTHS, as_rows, in_panels, multiply


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 70), size=st.sampled_from([1, 7, 90, 704, 1408]), panels=st.integers(1, 5),
       width=st.sampled_from(WIDTHS), seed=st.integers(0, 1000))
def test_a_product_in_panels_is_the_product(rows, size, panels, width, seed):
    random = np.random.default_rng(seed)
    matrix = mx.array(random.normal(size=(size, panels * width)).astype(np.float32))
    left = mx.array(random.normal(size=(rows, size)).astype(np.float32))
    product = multiply(left, in_panels(matrix, width))
    assert product.shape == (1, panels, rows, width)
    assert np.allclose(as_rows(product), left @ matrix, atol=1e-3)


def step_through(model, ids: mx.array) -> mx.array:
    """Logits (B, T, V), a token of every row at a time."""
    cache = model.make_cache(batch=len(ids))
    return mx.concatenate([model(ids[:, t: t + 1], cache=cache) for t in range(ids.shape[1])], axis=1)


@pytest.mark.parametrize("sizes", [{}, {"embed_dim": 64, "ffn_dim": 96}, {"embed_dim": 128, "ffn_dim": 64}])
@pytest.mark.parametrize("rows", [1, 3, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_in_panels_are_steps(kind, rows, sizes):
    model, _ = make_model(kind, **sizes)
    assert model.panels is not None
    ids = mx.array(np.random.default_rng(0).integers(0, 23, (rows, 30)))
    steps, whole = step_through(model, ids), model(mx.concatenate([ids, ids], axis=1))[:, :30]
    model.panels = None
    assert float(mx.abs(steps - whole).max()) <= 1e-4
    assert 0 < float(mx.abs(steps - step_through(model, ids)).max()) <= 1e-4  # they were taken


@pytest.mark.parametrize("length", [1, 2, 16, 60])
def test_short_prompts_are_read_in_panels(length):
    model, _ = make_model("pope-gqa")
    ids = mx.array(np.random.default_rng(length).integers(0, 23, (1, 64)))
    whole, cache = model(ids)[:, :length], model.make_cache()
    read = model(ids[:, :length], cache=cache)
    mx.eval(read)
    model.panels, again = None, model.make_cache()
    assert float(mx.abs(read - whole).max()) <= 1e-4
    assert 0 < float(mx.abs(read - model(ids[:, :length], cache=again)).max()) <= 1e-4


def test_sizes_that_no_panel_divides_go_without():
    model, _ = make_model("pope-gqa", ffn_dim=47)
    ids = mx.array(np.random.default_rng(0).integers(0, 23, (1, 30)))
    assert model.panels is None
    assert float(mx.abs(step_through(model, ids) - model(ids)).max()) <= 1e-4
