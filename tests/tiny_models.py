"""Small random models for tests that need no files."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from mlxgen.model.blocks import expected_shapes
from mlxgen.model.config import ModelConfig
from mlxgen.model.transformer import Model

KINDS = {
    "pope-gqa": {"num_kv_heads": 2},
    "pope-mha": {},
    "rope-gqa": {"pos_encoding": "rope", "num_kv_heads": 2},
    "rope-mha": {"pos_encoding": "rope", "weight_tying": False},
    "none": {"pos_encoding": "none"},
    "pope-drope": {"drope": True, "num_kv_heads": 2, "drope_scale_c": 0.4, "train_seq_len": 40},
    "rope-drope": {"pos_encoding": "rope", "drope": True},
}


def make_config(kind: str, **changes) -> ModelConfig:
    fields = {"vocab_size": 23, "embed_dim": 32, "num_heads": 4, "num_kv_heads": 4, "num_layers": 2,
              "ffn_dim": 48, "max_seq_len": 256}
    return ModelConfig(**(fields | KINDS[kind] | changes))


def make_weights(config: ModelConfig, seed: int = 0) -> dict[str, mx.array]:
    """Random, with norms near 1 and projections strong enough that attention is far from uniform."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(config).items():
        values = rng.normal(size=shape)
        if ".ln" in name or name.startswith("ln"):
            values = 1 + 0.1 * values
        elif name.endswith("bias"):
            values = 0.3 * values
        elif "embed" not in name and "head" not in name:
            values = values * 1.5 / shape[1] ** 0.5
        weights[name] = mx.array(values.astype(np.float32))
    return weights


def make_model(kind: str, dtype: mx.Dtype = mx.float32, seed: int = 0, **changes):
    """(Model, its weights by upstream's names)."""
    config = make_config(kind, **changes)
    weights = make_weights(config, seed)
    return Model(config, weights, dtype), weights
