"""This model for mlx-lm: what `mlx_lm.load(FOLDER, trust_remote_code=True)` builds.

A copy of this file lies in every converted model folder, where config.json names it as `model_file`. It needs
mlx-lm alone. mlxgen itself never runs it: a model folder is data to it.

The arithmetic is that of mlxgen.model, plainly: rotary (RoPE) or polar (PoPE) positions, or none, and DroPE
with its scale of the scores; grouped queries; SwiGLU. Angles come from float64.
"""

# no annotations from __future__: mlx-lm runs this as a module that sys.modules does not know

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.base import BaseModelArgs, create_attention_mask, scaled_dot_product_attention

NORM_EPS = 1e-6


@dataclass
class ModelArgs(BaseModelArgs):
    """config.json of a model folder."""

    vocab_size: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    num_layers: int
    ffn_dim: int
    max_seq_len: int
    train_seq_len: int
    rope_theta: float = 10000.0
    pos_encoding: str = "pope"
    drope: bool = False
    weight_tying: bool = True
    drope_scale_c: float | None = None
    model_type: str = "mlxgen"


class Angles:
    """cos and sin of positions: (T, n) each, or (B, T, n) where every row stands at a place of its own."""

    def __init__(self, args: ModelArgs):
        width = args.embed_dim // args.num_heads
        steps = np.arange(width) / width if args.pos_encoding == "pope" else np.arange(0, width, 2) / width
        self.frequencies = args.rope_theta ** -steps.astype(np.float64)
        self.table: tuple[mx.array, mx.array] | None = None

    def make(self, first: int, count: int) -> tuple[mx.array, mx.array]:
        angles = np.arange(first, first + count)[:, None] * self.frequencies
        return mx.array(np.cos(angles).astype(np.float32)), mx.array(np.sin(angles).astype(np.float32))

    def at(self, offset: int | mx.array, count: int, longest: int) -> tuple[mx.array, mx.array]:
        if isinstance(offset, int):
            return self.make(offset, count)
        if self.table is None or len(self.table[0]) < longest:
            self.table = self.make(0, longest)
        places = mx.maximum(offset[:, None] + mx.arange(count), 0)  # left padding stands below 0, unseen
        return self.table[0][places], self.table[1][places]


class Attention(nn.Module):
    def __init__(self, args: ModelArgs):
        super().__init__()
        self.args = args
        self.width = args.embed_dim // args.num_heads
        kv_width = args.num_kv_heads * self.width
        self.q_proj = nn.Linear(args.embed_dim, args.embed_dim)
        self.k_proj = nn.Linear(args.embed_dim, kv_width)
        self.v_proj = nn.Linear(args.embed_dim, kv_width)
        self.proj = nn.Linear(args.embed_dim, args.embed_dim)
        polar = args.pos_encoding == "pope"
        self.scale = (2 * self.width if polar else self.width) ** -0.5

    def place(self, x: mx.array, angles: tuple[mx.array, mx.array] | None) -> mx.array:
        """(B, heads, T, D) -> (B, heads, T, Dk), in the dtype of x."""
        wide = x.astype(mx.float32)
        if self.args.pos_encoding == "pope":
            wide = mx.logaddexp(wide, 0.0)
        if angles is not None:
            cos, sin = (part[:, None] if part.ndim == 3 else part for part in angles)
            if self.args.pos_encoding == "pope":
                wide = mx.concatenate([wide * cos, wide * sin], axis=-1)
            else:
                first, second = mx.split(wide, 2, axis=-1)
                wide = mx.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return wide.astype(x.dtype)

    def __call__(self, x: mx.array, mask, cache, angles, beta: mx.array | None) -> mx.array:
        batch, length, _ = x.shape

        def heads(projected: mx.array) -> mx.array:
            return projected.reshape(batch, length, -1, self.width).swapaxes(1, 2)

        queries = self.place(heads(self.q_proj(x)), angles)
        keys, values = self.place(heads(self.k_proj(x)), angles), heads(self.v_proj(x))
        if beta is not None:
            queries = queries * beta.astype(queries.dtype)
        if cache is not None:
            keys, values = cache.update_and_fetch(keys, values)
        out = scaled_dot_product_attention(queries, keys, values, cache=cache, scale=self.scale, mask=mask)
        return self.proj(out.swapaxes(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, args: ModelArgs):
        super().__init__()
        self.w_gate = nn.Linear(args.embed_dim, args.ffn_dim, bias=False)
        self.w1 = nn.Linear(args.embed_dim, args.ffn_dim, bias=False)
        self.w2 = nn.Linear(args.ffn_dim, args.embed_dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.w2(nn.silu(self.w_gate(x)) * self.w1(x))


class Layer(nn.Module):
    def __init__(self, args: ModelArgs):
        super().__init__()
        self.ln1 = nn.RMSNorm(args.embed_dim, NORM_EPS)
        self.attn = Attention(args)
        self.ln2 = nn.RMSNorm(args.embed_dim, NORM_EPS)
        self.ffn = FeedForward(args)

    def __call__(self, x: mx.array, mask, cache, angles, beta) -> mx.array:
        x = x + self.attn(self.ln1(x), mask, cache, angles, beta)
        return x + self.ffn(self.ln2(x))


class Model(nn.Module):
    """ids (B, T) -> logits (B, T, V)."""

    def __init__(self, args: ModelArgs):
        super().__init__()
        self.args, self.model_type = args, args.model_type
        self.token_embed = nn.Embedding(args.vocab_size, args.embed_dim)
        self.layers = [Layer(args) for _ in range(args.num_layers)]
        self.ln_final = nn.RMSNorm(args.embed_dim, NORM_EPS)
        if not args.weight_tying:
            self.head = nn.Linear(args.embed_dim, args.vocab_size, bias=False)
        self._angles = None if args.drope or args.pos_encoding == "none" else Angles(args)

    def __call__(self, inputs: mx.array, cache=None) -> mx.array:
        args, length = self.args, inputs.shape[1]
        x = self.token_embed(inputs)
        cache = cache or [None] * len(self.layers)
        offset = 0 if cache[0] is None else cache[0].offset
        mask = create_attention_mask(x, cache[0])
        angles = self._angles and self._angles.at(offset, length, 4 * args.max_seq_len)
        beta = self._beta(offset, length) if args.drope and args.drope_scale_c is not None else None
        for layer, held in zip(self.layers, cache, strict=True):
            x = layer(x, mask, held, angles, beta)
        x = self.ln_final(x)
        return self.token_embed.as_linear(x) if args.weight_tying else self.head(x)

    def _beta(self, offset: int | mx.array, length: int) -> mx.array:
        """DroPE's scale of the scores by the tokens that a query sees: (B or 1, 1, T, 1)."""
        seen = mx.array(offset).reshape(-1, 1) + mx.arange(1, length + 1)
        beta = 1 + self.args.drope_scale_c * mx.log(mx.maximum(seen / self.args.train_seq_len, 1.0))
        return beta[:, None, :, None]

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """A tied head may be stored; it is the embedding. A float16 folder keeps what is small in float32,
        and mlx-lm has one dtype."""
        if self.args.weight_tying:
            weights.pop("head.weight", None)
        if all(weight.dtype != mx.float16 for weight in weights.values()):
            return weights
        return {name: weight.astype(mx.float16) if weight.dtype == mx.float32 else weight
                for name, weight in weights.items()}
