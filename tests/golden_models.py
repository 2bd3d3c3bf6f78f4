"""Golden checkpoints read with plain torch, for tests of the model alone (convert/ has its own reader and
tests).
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import mlx.core as mx
import pytest

from mlxgen.model.config import ModelConfig

NAMES = ("legacy-fused-qkv", "pope-drope", "pope-gqa", "pope-mha", "rope-gqa", "untied-head")


def read_golden(path: Path) -> tuple[ModelConfig, dict[str, mx.array]]:
    torch = pytest.importorskip("torch")
    name = "bach_gen.model.config"
    stand_in = type("ModelConfig", (), {"__module__": name})
    sys.modules[name] = types.ModuleType(name)
    try:
        with torch.serialization.safe_globals([(stand_in, f"{name}.ModelConfig")]):
            data = torch.load(path, weights_only=True)
    finally:
        del sys.modules[name]
    old, state = vars(data["config"]), data["model_state_dict"]
    for fused in [key for key in state if ".attn.qkv." in key]:
        for part, value in zip("qkv", state.pop(fused).chunk(3, dim=0), strict=True):
            state[fused.replace(".qkv.", f".{part}_proj.")] = value
    embedding = state["token_embed.weight"]
    config = ModelConfig(
        vocab_size=embedding.shape[0], embed_dim=old["embed_dim"], num_heads=old["num_heads"],
        num_kv_heads=old.get("num_kv_heads") or old["num_heads"], num_layers=old["num_layers"],
        ffn_dim=state["layers.0.ffn.w1.weight"].shape[0], max_seq_len=old["max_seq_len"],
        rope_theta=old["rope_theta"], pos_encoding=old.get("pos_encoding", "rope"),
        drope=old["drope_trained"], weight_tying=old["weight_tying"])
    return config, {key: mx.array(value.numpy()) for key, value in state.items()}
