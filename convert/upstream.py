"""What upstream's configs and state dicts mean: its fields and tensor names -> ours, or a refusal.

Every generation: configs without the later fields, fused q/k/v, untied heads, embeddings with another
number of rows than `vocab_size`. It knows neither files nor tokenizers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from convert.unpickle import describe
from mlxgen.model.blocks import expected_shapes
from mlxgen.model.config import ModelConfig

MAX_POSITIONS = 1 << 22  # far above any upstream stage (16,384); beyond it a config is damaged


@dataclass(frozen=True)
class Field:
    """One config field: its types, and what a file that lacks it means (`required`: nothing)."""

    types: tuple[type, ...]
    default: object = None
    required: bool = False


FIELDS = {
    "vocab_size": Field((int,), 0),  # the embedding's rows are the truth
    "embed_dim": Field((int,), required=True),
    "num_heads": Field((int,), required=True),
    "num_kv_heads": Field((int, type(None))),
    "num_layers": Field((int,), required=True),
    "ffn_dim": Field((int, type(None))),  # unused upstream since SwiGLU
    "max_seq_len": Field((int,), required=True),
    "dropout": Field((float, int), 0.0),  # off at inference
    "weight_tying": Field((bool,), True),
    "rope_theta": Field((float, int), 10000.0),
    "pos_encoding": Field((str,), "rope"),  # files from before PoPE
    "swiglu_dim": Field((int, type(None))),
    "drope_trained": Field((bool,), False),
    "drope_train_seq_len": Field((int, type(None))),
}
# Fields of later upstream versions whose harmless value is not 0, False, None or "".
HARMLESS = {"num_recurrent_steps": 1}


def translate_config(fields: dict[str, object], rows: int) -> ModelConfig:
    """Upstream's config and the embedding's rows -> ModelConfig. ValueError names the field in the way."""
    for name in sorted(fields.keys() - FIELDS.keys()):
        value = fields[name]
        plain = value is None or isinstance(value, bool | int | float | str)
        if not plain or (value and value != HARMLESS.get(name)):
            raise ValueError(f"config.{describe(name)[1:-1]} is {describe(value)}, which is not supported; "
                             "expected an architecture from before LoopLM")
    known = {name: _read_field(name, field, fields) for name, field in FIELDS.items()}
    embed_dim, max_seq_len, theta = known["embed_dim"], known["max_seq_len"], known["rope_theta"]
    if not math.isfinite(theta):
        raise ValueError(f"config.rope_theta is {theta!r}; expected a finite number")
    if max_seq_len > MAX_POSITIONS:
        raise ValueError(f"config.max_seq_len is {describe(max_seq_len)}; expected at most {MAX_POSITIONS}")
    config = ModelConfig(
        vocab_size=rows, embed_dim=embed_dim, num_heads=known["num_heads"],
        num_kv_heads=_or(known["num_kv_heads"], known["num_heads"]), num_layers=known["num_layers"],
        ffn_dim=_or(known["swiglu_dim"], default_swiglu_width(embed_dim)), max_seq_len=max_seq_len,
        rope_theta=float(theta), pos_encoding=known["pos_encoding"], drope=known["drope_trained"],
        weight_tying=known["weight_tying"],
        train_seq_len=_or(known["drope_train_seq_len"] if known["drope_trained"] else None, max_seq_len))
    return config


def _read_field(name: str, field: Field, fields: dict[str, object]) -> object:
    if name not in fields:
        if field.required:
            raise ValueError(f"config has no {name}; upstream's always do")
        return field.default
    value = fields[name]
    if not isinstance(value, field.types) or (isinstance(value, bool) and bool not in field.types):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in field.types)
        raise ValueError(f"config.{name} is {describe(value)}; expected {wanted}")
    if isinstance(value, int) and value >= 1 << 40:
        raise ValueError(f"config.{name} is {describe(value)}; expected a size")
    return value


def _or(value: object, default: object) -> object:
    return default if value is None else value


def default_swiglu_width(embed_dim: int) -> int:
    """Upstream's rule for `swiglu_dim` None: 8/3 of the width, rounded up to a multiple of 64."""
    return (int(embed_dim * 8 / 3) + 63) // 64 * 64


def count_rows(tensors: dict[str, np.ndarray]) -> int:
    embedding = tensors.get("token_embed.weight")
    if embedding is None or embedding.ndim != 2 or not embedding.size:
        found = "nothing" if embedding is None else f"shape {embedding.shape}"
        raise ValueError(f"token_embed.weight: found {found}; expected (rows, embed_dim)")
    return embedding.shape[0]


def arrange_tensors(tensors: dict[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
    """The folder's tensors: q, k, v apart, a tied head dropped, all there, of the right shape, finite.

    ValueError naming the first tensor that is missing, superfluous, of another shape, or not finite.
    """
    layers = {int(match[1]) for name in tensors if (match := re.match(r"layers\.(\d{1,6})\.", name))}
    if config.num_layers != len(layers):  # before a table of as many layers as a damaged config says is made
        raise ValueError(f"config.num_layers is {config.num_layers}, but the file has {len(layers)} layers")
    tensors = _drop_tied_head(_split_fused(tensors, config), config)
    shapes = expected_shapes(config)
    for name in sorted(shapes.keys() - tensors.keys()):
        raise ValueError(f"no {name}; expected it with shape {shapes[name]}")
    for name in sorted(tensors.keys() - shapes.keys()):
        raise ValueError(f"{describe(name)} of shape {tensors[name].shape}: no tensor of this architecture")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} has shape {tensors[name].shape}; expected {shape}")
        wrong = tensors[name].size - np.count_nonzero(np.isfinite(tensors[name]))
        if wrong:
            raise ValueError(f"{name} has {wrong} values that are NaN or Inf; expected finite weights")
    return {name: tensors[name] for name in sorted(shapes)}


def _split_fused(tensors: dict[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
    """`attn.qkv` of older files (rows q, k, v) into three projections."""
    kv_width = config.num_kv_heads * config.head_dim
    bounds = [config.embed_dim, config.embed_dim + kv_width]
    split = {}
    for name, tensor in tensors.items():
        if ".attn.qkv." not in name:
            parts = {name: tensor}
        elif tensor.ndim == 0 or tensor.shape[0] != bounds[1] + kv_width:
            raise ValueError(f"{describe(name)} has shape {tensor.shape}; expected {bounds[1] + kv_width} "
                             f"rows: q {config.embed_dim}, k {kv_width}, v {kv_width}")
        else:
            parts = {name.replace(".qkv.", f".{letter}_proj."): part
                     for letter, part in zip("qkv", np.split(tensor, bounds), strict=True)}
        if parts.keys() & split.keys():
            raise ValueError(f"{describe(name)} is there fused and apart; expected one of them")
        split |= parts
    return split


def _drop_tied_head(tensors: dict[str, np.ndarray], config: ModelConfig) -> dict[str, np.ndarray]:
    head = tensors.get("head.weight")
    if not config.weight_tying or head is None:
        return tensors
    if not np.array_equal(head, tensors["token_embed.weight"], equal_nan=True):
        raise ValueError("head.weight differs from token_embed.weight, but config.weight_tying is True")
    return {name: tensor for name, tensor in tensors.items() if name != "head.weight"}
