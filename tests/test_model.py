"""The transformer equals the reference, whole and cached."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from golden_models import NAMES, read_golden
from tiny_models import make_model

from mlxgen.model.pages import LINE, pack
from mlxgen.model.transformer import Model


@pytest.mark.parametrize("name", NAMES)
def test_golden_logits(shared, name):
    config, weights = read_golden(shared / "golden" / f"{name}.pt")
    golden = np.load(shared / "golden" / f"{name}.npz")
    model = Model(config, weights)
    ids = mx.array(golden["ids"])
    assert np.abs(np.array(model(ids)) - golden["logits"]).max() <= 1e-4
    cache = model.make_cache(batch=2)
    parts = [model(ids[:, :70], cache=cache)]
    parts += [model(ids[:, t: t + 1], cache=cache) for t in range(70, 200)]
    assert np.abs(np.array(mx.concatenate(parts, axis=1)) - golden["logits"]).max() <= 1e-4


@pytest.mark.parametrize("kind", ["pope-gqa", "pope-mha", "pope-drope", "rope-gqa", "rope-mha"])
def test_the_layout_for_fused_attention_changes_nothing(kind):
    """As the GPU's fused attention is called (here MLX takes it apart), and on a shared context."""
    model, weights = make_model(kind)
    fused = Model(model.config, weights, fused=True)
    assert fused.value_width == fused.positions.width and model.value_width == model.ones + 1
    ids = mx.array(np.random.default_rng(0).integers(0, 23, (1, 60)))
    whole, cache = model(ids), fused.make_cache(window=80, prefix=10)
    parts = [fused(ids[:, :20], cache=cache)]
    parts += [fused(ids[:, t: t + 1], cache=cache) for t in range(20, 40)]
    rows = cache.fork(2)
    parts += [fused(mx.repeat(ids[:, t: t + 1], 2, axis=0), cache=rows)[:1] for t in range(40, 60)]
    assert float(mx.abs(mx.concatenate(parts, axis=1) - whole).max()) <= 1e-4


def test_half_precision_stays_near(shared):
    config, weights = read_golden(shared / "golden" / "pope-gqa.pt")
    golden = np.load(shared / "golden" / "pope-gqa.npz")
    logits = Model(config, weights, mx.float16)(mx.array(golden["ids"]))
    assert logits.dtype == mx.float32
    assert np.abs(np.array(logits) - golden["logits"]).max() <= 2e-2


def test_packed_arrays_are_the_same_and_begin_on_cache_lines():
    arrays = [mx.random.normal(shape) for shape in ((7, 33), (256, 384), (1,), (264, 256))]
    packed = pack(arrays)
    for before, after in zip(arrays, packed, strict=True):
        assert mx.array_equal(before, after)
        assert np.array(after, copy=False).ctypes.data % LINE == 0
    assert pack([]) == []
