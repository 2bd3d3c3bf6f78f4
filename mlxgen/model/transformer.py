"""The transformer: pre-norm blocks, grouped-query attention, SwiGLU. Facts in the docstring of Model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from mlxgen.model.config import ModelConfig
from mlxgen.model.positions import make_positions

NORM_EPS = 1e-6

# (layer, queries (B, T, H, Dk), keys (B, T, Hkv, Dk), values (B, T, Hkv, D)) -> (B, T, H * D)
Attend = Callable[[int, mx.array, mx.array, mx.array], mx.array]


@dataclass(frozen=True)
class Block:
    """Weights of one layer, made for x @ weight, projections that read the same input joined into one matrix."""

    norm1: mx.array
    qkv: mx.array  # (d, (H + 2 Hkv) D)
    qkv_bias: mx.array
    out: mx.array  # (H D, d)
    out_bias: mx.array
    norm2: mx.array
    gate_up: mx.array  # (d, 2 F)
    down: mx.array  # (F, d)


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that model.safetensors must hold (upstream's state-dict names)."""
    d, f, kv = config.embed_dim, config.ffn_dim, config.num_kv_heads * config.head_dim
    shapes = {"token_embed.weight": (config.vocab_size, d), "ln_final.weight": (d,)}
    if not config.weight_tying:
        shapes["head.weight"] = (config.vocab_size, d)
    for i in range(config.num_layers):
        layer = {"ln1.weight": (d,), "ln2.weight": (d,), "ffn.w_gate.weight": (f, d), "ffn.w1.weight": (f, d),
                 "ffn.w2.weight": (d, f)}
        for name, rows in (("q_proj", d), ("k_proj", kv), ("v_proj", kv), ("proj", d)):
            layer |= {f"attn.{name}.weight": (rows, d), f"attn.{name}.bias": (rows,)}
        shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def check_weights(config: ModelConfig, weights: dict[str, mx.array]) -> None:
    """ValueError naming the first tensor that is missing, extra or of the wrong shape. A tied head may be stored."""
    shapes = expected_shapes(config)
    extra = sorted(set(weights) - set(shapes) - {"head.weight"})
    missing = sorted(set(shapes) - set(weights))
    if missing or extra:
        raise ValueError(f"weights: {'no ' + missing[0] if missing else 'unexpected tensor ' + extra[0]}")
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"weights: {name} is {tuple(weights[name].shape)}; expected {shape}")


def make_block(weights: dict[str, mx.array], prefix: str) -> Block:
    def get(*names: str) -> mx.array:
        return mx.concatenate([weights[f"{prefix}.{name}"] for name in names], axis=0)

    def transposed(*names: str) -> mx.array:
        return mx.contiguous(get(*names).T)

    qkv = [f"attn.{name}_proj" for name in "qkv"]
    return Block(
        norm1=get("ln1.weight"), qkv=transposed(*[f"{name}.weight" for name in qkv]),
        qkv_bias=get(*[f"{name}.bias" for name in qkv]), out=transposed("attn.proj.weight"),
        out_bias=get("attn.proj.bias"), norm2=get("ln2.weight"),
        gate_up=transposed("ffn.w_gate.weight", "ffn.w1.weight"), down=transposed("ffn.w2.weight"))


class Model:
    """ids (B, T) int32 -> logits (B, T, V) float32.

    x += out(attn(norm x)); x += down(silu(gate y) * up y), y = norm x; RMSNorm eps 1e-6; q, k, v and out have
    biases, the FFN has none; the head is the embedding unless weight_tying is off. Query head h reads kv head
    h // (H / Hkv). Weights are kept in `dtype`; norms, softmax and the returned logits are float32.
    """

    def __init__(self, config: ModelConfig, weights: dict[str, mx.array], dtype: mx.Dtype = mx.float32):
        check_weights(config, weights)
        self.config = config
        self.dtype = dtype
        self.positions = make_positions(config)
        weights = {name: value.astype(dtype) for name, value in weights.items()}
        self.blocks = [make_block(weights, f"layers.{i}") for i in range(config.num_layers)]
        self.norm = weights["ln_final.weight"]
        self.embedding = weights["token_embed.weight"]  # (V, d)
        head = self.embedding if config.weight_tying else weights["head.weight"]
        self.head = mx.contiguous(head.T)  # (d, V)
        mx.eval([list(vars(block).values()) for block in self.blocks], self.norm, self.embedding, self.head)

    def __call__(self, ids: mx.array, cache=None) -> mx.array:
        """Logits of every position; with a cache, of the ids that follow what it holds."""
        ids = mx.array(ids)
        if ids.ndim != 2 or ids.shape[1] == 0:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; expected (batch, at least one token)")
        if cache is not None:
            return cache.feed(self, ids)
        rows = self.positions.make_rows(range(ids.shape[1]), self.dtype)
        return self.logits(self.hidden(ids, rows, self.attend_causal))

    def hidden(self, ids: mx.array, rows: mx.array, attend: Attend) -> mx.array:
        """ids (B, T), position rows (T, 2, n) -> (B, T, d) before the last norm; attention is the caller's."""
        x = self.embedding[ids]
        for layer, block in enumerate(self.blocks):
            attended = attend(layer, *self.project(block, x, rows))
            x = x + mx.addmm(block.out_bias, attended, block.out)
            gate, up = mx.split(mx.fast.rms_norm(x, block.norm2, NORM_EPS) @ block.gate_up, 2, axis=-1)
            x = mx.addmm(x, gate * mx.sigmoid(gate) * up, block.down)
        return x

    def project(self, block: Block, x: mx.array, rows: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """x (B, T, d) -> queries (B, T, H, Dk), keys (B, T, Hkv, Dk) at their positions, values (B, T, Hkv, D)."""
        config = self.config
        heads, kv_heads = config.num_heads, config.num_kv_heads
        joined = mx.addmm(block.qkv_bias, mx.fast.rms_norm(x, block.norm1, NORM_EPS), block.qkv)
        joined = joined.reshape(*x.shape[:2], heads + 2 * kv_heads, config.head_dim)
        turned = self.positions.apply(joined[:, :, : heads + kv_heads], rows)
        return turned[:, :, :heads], turned[:, :, heads:], joined[:, :, heads + kv_heads:]

    def logits(self, x: mx.array) -> mx.array:
        return (mx.fast.rms_norm(x, self.norm, NORM_EPS) @ self.head).astype(mx.float32)

    def attend_causal(self, layer: int, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        q, k, v = (part.swapaxes(1, 2) for part in (q, k, v))
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.positions.scale, mask="causal")
        return out.swapaxes(1, 2).reshape(out.shape[0], out.shape[2], -1)

    def make_cache(self, batch: int = 1, window: int | None = None, prefix: int = 0, slack: int = 0):
        from mlxgen.model.cache import make_cache

        return make_cache(self, batch, window, prefix, slack)
