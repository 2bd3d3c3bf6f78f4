"""The transformer: pre-norm blocks, grouped-query attention, SwiGLU. Facts in the docstring of Model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from mlxgen.model.attention import FUSED_WIDTHS, Part, attend_block, attend_step, hide
from mlxgen.model.cache import Cache, StepShape, make_cache
from mlxgen.model.config import ModelConfig
from mlxgen.model.positions import LOG2_E, has_beta, make_beta, make_positions
from mlxgen.model.ring import visible_slots

NORM_EPS = 1e-6

# (layer, query and key heads (..., H + Hkv, D), values (..., Hkv, Dv)) -> (..., H * Dv)
Attend = Callable[[int, mx.array, mx.array], mx.array]


@dataclass(frozen=True)
class Block:
    """Weights of one layer, made for x @ weight, projections that read the same input joined into one
    matrix.
    """

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
    """ValueError naming the first tensor that is missing, extra or of the wrong shape. A tied head may be
    stored.
    """
    shapes = expected_shapes(config)
    extra = sorted(set(weights) - set(shapes) - {"head.weight"})
    missing = sorted(set(shapes) - set(weights))
    if missing or extra:
        raise ValueError(f"weights: {'no ' + missing[0] if missing else 'unexpected tensor ' + extra[0]}")
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"weights: {name} is {tuple(weights[name].shape)}; expected {shape}")


def make_block(config: ModelConfig, weights: dict[str, mx.array], layer: int, value_width: int) -> Block:
    """Layer `layer`; heads of values `value_width` wide, zeros behind what is trained."""
    def widen(value: mx.array, heads: int) -> mx.array:
        """(heads * D, ...) -> (heads * value_width, ...)"""
        apart = value.reshape(heads, config.head_dim, *value.shape[1:])
        room = [(0, 0), (0, value_width - config.head_dim), *[(0, 0)] * (value.ndim - 1)]
        return mx.pad(apart, room).reshape(heads * value_width, *value.shape[1:])

    def get(*names: str) -> mx.array:
        parts = []
        for name in names:
            value = weights[f"layers.{layer}.{name}"]
            if name.startswith("attn.v_proj"):
                value = widen(value, config.num_kv_heads)
            parts.append(widen(value.T, config.num_heads).T if name == "attn.proj.weight" else value)
        return mx.concatenate(parts, axis=0)

    def transposed(*names: str) -> mx.array:
        return mx.contiguous(get(*names).T)

    qkv = [f"attn.{name}_proj" for name in "qkv"]
    return Block(
        norm1=get("ln1.weight"), qkv=transposed(*[f"{name}.weight" for name in qkv]),
        qkv_bias=get(*[f"{name}.bias" for name in qkv]), out=transposed("attn.proj.weight"),
        out_bias=get("attn.proj.bias"), norm2=get("ln2.weight"),
        gate_up=transposed("ffn.w_gate.weight", "ffn.w1.weight"), down=transposed("ffn.w2.weight"))


@partial(mx.compile, shapeless=True)
def apply_swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up, in float32, in one kernel; 2^x because e^x is slow on the Linux CPU."""
    wide = gate.astype(mx.float32)
    return (wide / (1 + mx.power(2.0, wide * -LOG2_E)) * up.astype(mx.float32)).astype(gate.dtype)


class Model:
    """ids (B, T) int32 -> logits (B, T, V) float32.

    x += out(attn(norm x)); x += down(silu(gate y) * up y), y = norm x; RMSNorm eps 1e-6; q, k, v and out have
    biases, the FFN has none; the head is the embedding unless weight_tying is off. Query head h reads kv head
    h // (H / Hkv). Weights are kept in `dtype`; norms, softmax and the returned logits are float32.
    """

    def __init__(self, config: ModelConfig, weights: dict[str, mx.array], dtype: mx.Dtype = mx.float32,
                 pad_values: bool | None = None):
        """pad_values: store values as wide as PoPE's keys, zeros behind, so that MLX's fused attention on
        Metal fits (equal widths of 64, 96, 128 or 256): one kernel instead of five for a third more bytes
        of cache. None: on a GPU, where the widths make it possible. Logits are the same.
        """
        check_weights(config, weights)
        self.config = config
        self.dtype = dtype
        self.positions = make_positions(config)
        if pad_values is None:
            pad_values = (mx.default_device().type == mx.DeviceType.gpu
                          and self.positions.width in FUSED_WIDTHS)
        self.value_width = self.positions.width if pad_values else config.head_dim
        weights = {name: value.astype(dtype) for name, value in weights.items()}
        self.blocks = [make_block(config, weights, i, self.value_width) for i in range(config.num_layers)]
        self.norm = weights["ln_final.weight"]
        self.embedding = weights["token_embed.weight"]  # (V, d)
        head = self.embedding if config.weight_tying else weights["head.weight"]
        self.head = mx.contiguous(head.T.astype(mx.float32))  # (d, V); float16 logits of 30 err by 0.015
        mx.eval([list(vars(block).values()) for block in self.blocks], self.norm, self.embedding, self.head)

    def __call__(self, ids: mx.array, cache: Cache | None = None) -> mx.array:
        """Logits of every position; with a cache, of the ids that follow what it holds."""
        ids = mx.array(ids)
        if ids.ndim != 2 or ids.shape[1] == 0:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; expected (batch, at least one token)")
        if cache is not None:
            return cache.feed(self, ids)
        length = ids.shape[1]
        rows = self.positions.make_rows(range(length))
        beta = make_beta(self.config, range(1, length + 1))
        causal = hide(mx.arange(length)[:, None] >= mx.arange(length))

        def attend(layer: int, heads: mx.array, values: mx.array) -> mx.array:
            queries, keys = self.place(heads, rows, None if beta is None else mx.array(beta))
            part = Part(keys.swapaxes(1, 2), values.swapaxes(1, 2), causal)
            return attend_block(queries, [part], self.positions.scale)

        return self.logits(self.hidden(ids, attend))

    def hidden(self, ids: mx.array, attend: Attend) -> mx.array:
        """ids (B, T), or (B,) for one token a row -> (..., d) before the last norm; attention is the
        caller's.
        """
        x = self.embedding[ids]
        for layer, block in enumerate(self.blocks):
            attended = attend(layer, *self.project(block, x))
            x = x + mx.addmm(block.out_bias, attended, block.out)
            gate, up = mx.split(mx.fast.rms_norm(x, block.norm2, NORM_EPS) @ block.gate_up, 2, axis=-1)
            x = mx.addmm(x, apply_swiglu(gate, up), block.down)
        return x

    def project(self, block: Block, x: mx.array) -> tuple[mx.array, mx.array]:
        """x (..., d) -> query and key heads (..., H + Hkv, D) without positions, values (..., Hkv, Dv)."""
        heads = self.config.num_heads + self.config.num_kv_heads
        joined = mx.addmm(block.qkv_bias, mx.fast.rms_norm(x, block.norm1, NORM_EPS), block.qkv)
        split = heads * self.config.head_dim
        return (joined[..., :split].reshape(*x.shape[:-1], heads, -1),
                joined[..., split:].reshape(*x.shape[:-1], self.config.num_kv_heads, -1))

    def place(self, heads: mx.array, rows: mx.array, beta: mx.array | None) -> tuple[mx.array, mx.array]:
        """Heads of `project`, position rows (T, 2, n), DroPE scale (T,) or None -> queries (..., H, Dk) in
        float32, keys (..., Hkv, Dk) as they are stored. T is 1 where x has no time axis."""
        placed = self.positions.apply(heads, rows)
        queries, keys = placed[..., : self.config.num_heads, :], placed[..., self.config.num_heads:, :]
        return queries if beta is None else queries * beta[:, None, None], keys.astype(self.dtype)

    def logits(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x.astype(mx.float32), self.norm.astype(mx.float32), NORM_EPS) @ self.head

    def step_logits(self, ids: mx.array, state: list[mx.array],
                    shape: StepShape) -> tuple[mx.array, list[mx.array]]:
        """One token a row, pure: ids (B,) or (B, 1), Cache.begin_step(), Cache.shape -> logits (B, V)
        float32 and what Cache.end_step takes. May be compiled, one function a shape."""
        layers = self.config.num_layers
        rows, beta = state[0], state[1] if has_beta(self.config) else None
        each = 1 + 2 * layers  # arrays of a ring: clock, keys, values
        rings = [state[start: start + each] for start in range(2, len(state), each)]
        masks = [hide(visible_slots(ring, arrays[0]))
                 for ring, arrays in zip(shape.rings, rings, strict=True)]
        slot = rings[-1][0][:1]
        written = rings[-1][1:]

        def attend(layer: int, heads: mx.array, values: mx.array) -> mx.array:
            queries, keys = self.place(heads, rows, beta)
            for index, new in ((layer, keys), (layers + layer, values)):
                written[index] = mx.slice_update(written[index], new[:, :, None], slot, [2])
            parts = []
            for ring, arrays, mask in zip(shape.rings, [*rings[:-1], [None, *written]], masks, strict=True):
                keys, values = arrays[1 + layer], arrays[1 + layers + layer]
                if ring.read < keys.shape[2]:
                    keys, values = keys[:, :, : ring.read], values[:, :, : ring.read]
                parts.append(Part(keys, values, mask))
            return attend_step(queries, parts, self.positions.scale)

        return self.logits(self.hidden(ids.reshape(-1), attend)), written

    def make_cache(self, batch: int = 1, window: int | None = None, prefix: int = 0, slack: int = 0,
                   start: int = 0) -> Cache:
        """An empty cache for `batch` rows: the first `prefix` tokens stay for ever, of the rest the last
        `window`, and `slack` tokens can be taken back at any time. window None: what the model was trained
        for, less the prefix and its anchor's stride. start: position of the first token (only differences
        matter)."""
        return make_cache(self, batch, window, prefix, slack, start)
