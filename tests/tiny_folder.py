"""A model folder with random weights, quick to write and quick to run: for tests of whole commands."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from tiny import make_vocab

from mlxgen.model.blocks import expected_shapes
from mlxgen.model.config import ModelConfig

GENERATION = {"temperature": 0.95, "min_p": 0.02,
              "forms": {"quartet": {"temperature": 1.05, "soft_rules": "repeat"}}}


def write_tiny_folder(folder: Path, *, max_seq_len: int = 1024, seed: int = 0,
                      kind: str = "scale_degree") -> Path:
    """config.json, model.safetensors and tokenizer.json of a two-layer model with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = make_vocab(kind)
    config = ModelConfig(vocab_size=len(vocab), embed_dim=32, num_heads=4, num_kv_heads=2, num_layers=2,
                         ffn_dim=48, max_seq_len=max_seq_len)
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(config).items():
        values = rng.normal(size=shape) * (0.3 if len(shape) > 1 else 0.05)
        weights[name] = mx.array((values + 1 if "ln" in name else values).astype(np.float32))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    data = {"format": "mlxgen-1", "dtype": "float32", **config.to_dict(), "generation": GENERATION}
    (folder / "config.json").write_text(json.dumps(data))
    vocab.save(folder / "tokenizer.json")
    (folder / "card.md").write_text("# Tiny random model\n\nFor tests.\n")
    return folder
