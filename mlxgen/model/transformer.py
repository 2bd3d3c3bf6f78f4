"""The transformer: pre-norm blocks, grouped-query attention, SwiGLU. Facts in the docstring of Model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from mlxgen.model.attention import Part, attend_parts, hide
from mlxgen.model.cache import Cache, StepShape, make_cache
from mlxgen.model.config import ModelConfig
from mlxgen.model.positions import has_beta, make_beta, make_positions
from mlxgen.model.ring import visible_slots

NORM_EPS = 1e-6

# (layer, query and key heads (B, T, H + Hkv, D), values (B, T, Hkv, Dv)) -> (B, T, H * Dv)
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
        self.value_width = config.head_dim
        weights = {name: value.astype(dtype) for name, value in weights.items()}
        self.blocks = [make_block(weights, f"layers.{i}") for i in range(config.num_layers)]
        self.norm = weights["ln_final.weight"]
        self.embedding = weights["token_embed.weight"]  # (V, d)
        head = self.embedding if config.weight_tying else weights["head.weight"]
        self.head = mx.contiguous(head.T)  # (d, V)
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
        causal = hide(mx.arange(length)[:, None] >= mx.arange(length), self.dtype)

        def attend(layer: int, heads: mx.array, values: mx.array) -> mx.array:
            queries, keys = self.place(heads, rows, None if beta is None else mx.array(beta))
            part = Part(keys.swapaxes(1, 2), values.swapaxes(1, 2), causal)
            return attend_parts(queries, [part], self.positions.scale)

        return self.logits(self.hidden(ids, attend))

    def hidden(self, ids: mx.array, attend: Attend) -> mx.array:
        """ids (B, T) -> (B, T, d) before the last norm; attention is the caller's."""
        x = self.embedding[ids]
        for layer, block in enumerate(self.blocks):
            attended = attend(layer, *self.project(block, x))
            x = x + mx.addmm(block.out_bias, attended, block.out)
            gate, up = mx.split(mx.fast.rms_norm(x, block.norm2, NORM_EPS) @ block.gate_up, 2, axis=-1)
            x = mx.addmm(x, gate * mx.sigmoid(gate) * up, block.down)
        return x

    def project(self, block: Block, x: mx.array) -> tuple[mx.array, mx.array]:
        """x (B, T, d) -> query and key heads (B, T, H + Hkv, D) without positions, values (B, T, Hkv, Dv)."""
        heads = self.config.num_heads + self.config.num_kv_heads
        joined = mx.addmm(block.qkv_bias, mx.fast.rms_norm(x, block.norm1, NORM_EPS), block.qkv)
        split = heads * self.config.head_dim
        return (joined[..., :split].reshape(*x.shape[:2], heads, -1),
                joined[..., split:].reshape(*x.shape[:2], self.config.num_kv_heads, -1))

    def place(self, heads: mx.array, rows: mx.array, beta: mx.array | None) -> tuple[mx.array, mx.array]:
        """Heads of `project`, position rows (T, 2, n), DroPE scale (T,) or None -> queries (B, T, H, Dk),
        keys.
        """
        placed = self.positions.apply(heads, rows)
        queries, keys = placed[:, :, : self.config.num_heads], placed[:, :, self.config.num_heads:]
        if beta is not None:
            queries = (queries * beta[:, None, None]).astype(placed.dtype)
        return queries, keys

    def logits(self, x: mx.array) -> mx.array:
        return (mx.fast.rms_norm(x, self.norm, NORM_EPS) @ self.head).astype(mx.float32)

    def step_logits(self, ids: mx.array, state: list[mx.array],
                    shape: StepShape) -> tuple[mx.array, list[mx.array]]:
        """One token a row, pure: ids (B,) or (B, 1), Cache.begin_step(), Cache.shape -> logits (B, V)
        float32 and what Cache.end_step takes. May be compiled, one function a shape."""
        layers = self.config.num_layers
        rows, beta = state[0], state[1] if has_beta(self.config) else None
        each = 1 + 2 * layers  # arrays of a ring: clock, keys, values
        rings = [state[start: start + each] for start in range(2, len(state), each)]
        masks = [hide(visible_slots(ring, arrays[0]), self.dtype)
                 for ring, arrays in zip(shape.rings, rings, strict=True)]
        slot = rings[-1][0][:1]
        written = rings[-1][1:]

        def attend(layer: int, heads: mx.array, values: mx.array) -> mx.array:
            queries, keys = self.place(heads, rows, beta)
            for index, new in ((layer, keys), (layers + layer, values)):
                written[index] = mx.slice_update(written[index], new.swapaxes(1, 2), slot, [2])
            parts = []
            for ring, arrays, mask in zip(shape.rings, [*rings[:-1], [None, *written]], masks, strict=True):
                keys, values = arrays[1 + layer], arrays[1 + layers + layer]
                if ring.read < keys.shape[2]:
                    keys, values = keys[:, :, : ring.read], values[:, :, : ring.read]
                parts.append(Part(keys, values, mask))
            return attend_parts(queries, parts, self.positions.scale)

        x = self.hidden(ids.reshape(-1, 1), attend)
        return self.logits(x)[:, 0], written

    def make_cache(self, batch: int = 1, window: int | None = None, prefix: int = 0, slack: int = 0,
                   start: int = 0) -> Cache:
        """An empty cache for `batch` rows: the first `prefix` tokens stay for ever, of the rest the last
        `window`, and `slack` tokens can be taken back at any time. window None: what the model was trained
        for, less the prefix and its anchor's stride. start: position of the first token (only differences
        matter)."""
        return make_cache(self, batch, window, prefix, slack, start)
