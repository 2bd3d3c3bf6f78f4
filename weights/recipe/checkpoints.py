"""Training checkpoints in upstream's format, written whole or not at all."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import torch

from convert.upstream import translate_config
from mlxgen.model.config import ModelConfig

MODULE = "bach_gen.model.config"
VOCABULARY_ROWS = ("token_embed.weight", "head.weight")


@dataclass
class UpstreamConfig:
    """The fields that upstream's config object has; pickled under upstream's class path."""

    vocab_size: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int | None
    num_layers: int
    ffn_dim: int
    max_seq_len: int
    dropout: float
    weight_tying: bool
    rope_theta: float
    pos_encoding: str
    swiglu_dim: int | None
    drope_trained: bool
    drope_train_seq_len: int | None


def _register_upstream_class() -> type:
    """A class that pickles as bach_gen.model.config.ModelConfig; nothing of upstream is imported."""
    for name in ("bach_gen", "bach_gen.model", MODULE):
        sys.modules.setdefault(name, types.ModuleType(name))
    UpstreamConfig.__module__, UpstreamConfig.__qualname__, UpstreamConfig.__name__ = (
        MODULE,
        "ModelConfig",
        "ModelConfig",
    )
    sys.modules[MODULE].ModelConfig = UpstreamConfig
    return UpstreamConfig


_register_upstream_class()


def to_upstream(config: ModelConfig, dropout: float) -> UpstreamConfig:
    return UpstreamConfig(
        vocab_size=config.vocab_size,
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        num_layers=config.num_layers,
        ffn_dim=config.ffn_dim,
        max_seq_len=config.max_seq_len,
        dropout=dropout,
        weight_tying=config.weight_tying,
        rope_theta=config.rope_theta,
        pos_encoding=config.pos_encoding,
        swiglu_dim=config.ffn_dim,
        drope_trained=config.drope,
        drope_train_seq_len=config.train_seq_len if config.drope else None,
    )


def from_upstream(config: UpstreamConfig) -> ModelConfig:
    return translate_config(vars(config), config.vocab_size)


def save(path: Path, model, optimizers, config: ModelConfig, dropout: float, state: dict) -> None:
    """Upstream's five entries and ours (`recipe`: plain numbers), under a temporary name first."""
    content = {
        "epoch": state["step"],
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": {"optimizers": [optimizer.state_dict() for optimizer in optimizers]},
        "config": to_upstream(config, dropout),
        "best_val_loss": state["best_val_loss"],
        "recipe": dict(state),
    }
    write(path, content)


def with_new_names(weights: dict[str, torch.Tensor], vocab_size: int) -> dict[str, torch.Tensor]:
    """The same weights for a vocabulary with names appended: each new row is the mean of the old ones."""
    grown = dict(weights)
    for name, rows in weights.items():
        if name in VOCABULARY_ROWS and len(rows) < vocab_size:
            grown[name] = torch.cat((rows, rows.mean(0, keepdim=True).expand(vocab_size - len(rows), -1)))
    return grown


def write(path: Path, content: dict) -> None:
    """Under a temporary name first: a checkpoint is whole or not there."""
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)


def load(path: Path) -> dict:
    """A checkpoint that this recipe wrote. `weights_only`: nothing of the file is run."""
    with torch.serialization.safe_globals([(UpstreamConfig, f"{MODULE}.ModelConfig")]):
        return torch.load(path, map_location="cpu", weights_only=True)
