"""The transformer: pre-norm blocks, grouped-query attention, SwiGLU. Facts in the docstring of Model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from mlxgen.model.attention import (
    FUSED_WIDTHS,
    Part,
    attend_block,
    attend_fused,
    attend_step,
    heads_first,
    hide,
    hide_slots,
)
from mlxgen.model.blocks import NORM_EPS, Block, check_weights, lifted_columns, make_blocks
from mlxgen.model.cache import Cache, StepShape, make_cache
from mlxgen.model.compiled import CompiledTable
from mlxgen.model.config import ModelConfig
from mlxgen.model.exponentials import apply_softplus, apply_swiglu
from mlxgen.model.folded import make_gated, make_heads
from mlxgen.model.panels import MOST_ROWS, make_panels
from mlxgen.model.positions import has_beta, make_beta, make_positions
from mlxgen.model.ring import RingShape, visible_slots
from mlxgen.model.streams import on_cpu, spread

PADDED = 64  # a forward pass without a cache is padded to a multiple: kernels are compiled for few shapes

# (layer, its queries, keys and values in one, see Model.place) -> (..., H * Dv)
Attend = Callable[[int, mx.array], mx.array]


class Model:
    """ids (B, T) int32 -> logits (B, T, V) float32.

    x += out(attn(norm x)); x += down(silu(gate y) * up y), y = norm x; RMSNorm eps 1e-6; q, k, v and out have
    biases, the FFN has none; the head is the embedding unless weight_tying is off. Query head h reads kv head
    h // (H / Hkv).

    dtype is that of the way into the FFN. Everything else is float32 whatever it is: scores of a trained
    model reach 50, and half a unit in the last place of a float16 key is then 0.02 of a logit (everything in
    float16: 0.056 off).
    """

    def __init__(self, config: ModelConfig, weights: dict[str, mx.array], dtype: mx.Dtype = mx.float32,
                 fused: bool | None = None):
        """fused: lay heads out for MLX's fused attention on Metal, which takes keys and values of the same
        width, one of 64, 96, 128 or 256: values are stored as wide as PoPE's keys. One kernel instead of
        five for a third more bytes of cache. None: on a GPU, where the widths make it possible. Logits are
        the same.
        """
        check_weights(config, weights)
        self.config = config
        self.dtype = dtype
        self.compiled = CompiledTable()
        self.positions = make_positions(config)
        width = self.positions.width
        self.fused = (mx.default_device().type == mx.DeviceType.gpu and width in FUSED_WIDTHS
                      if fused is None else fused)
        self.value_width = max(width, config.head_dim) if self.fused else config.head_dim + 1
        self.ones = config.head_dim if self.value_width > config.head_dim else None  # a column of the values
        self.blank_value = (mx.arange(self.value_width) == config.head_dim).astype(mx.float32)
        narrow = "ffn.w_gate", "ffn.w1"
        weights = {name: value.astype(dtype if any(part in name for part in narrow) else mx.float32)
                   for name, value in weights.items()}
        self.folded = dtype == mx.float32 and on_cpu()
        self.lifted = lifted_columns(config, not self.fused) if self.positions.lifted else None
        self.first, self.blocks = make_blocks(config, weights, self.value_width, not self.fused, self.folded,
                                              self.lifted)
        self.norm = weights["ln_final.weight"]
        self.embedding = weights["token_embed.weight"]  # (V, d)
        head = self.embedding if config.weight_tying else weights["head.weight"]
        self.head = mx.contiguous(head.T)  # (d, V)
        self.panels = (make_panels(self.embedding, self.first, self.blocks, self.lifted)
                       if self.folded and not self.fused else None)
        mx.eval([[part for part in vars(block).values() if part is not None] for block in self.blocks],
                self.norm, self.embedding, self.head, self.blank_value,
                [] if self.lifted is None else self.lifted)

    def __call__(self, ids: mx.array, cache: Cache | None = None) -> mx.array:
        """Logits of every position; with a cache, of the ids that follow what it holds."""
        ids = mx.array(ids)
        if ids.ndim != 2 or ids.shape[1] == 0:
            raise ValueError(f"ids have shape {tuple(ids.shape)}; expected (batch, at least one token)")
        if cache is not None:
            return cache.feed(self, ids)
        length = ids.shape[1]
        padded = -(-length // PADDED) * PADDED
        ids = mx.pad(ids, [(0, 0), (0, padded - length)])
        rows = self.positions.make_rows(range(padded))
        beta = make_beta(self.config, range(1, padded + 1))
        beta = None if beta is None else mx.array(beta)
        causal = mx.arange(padded)[:, None] <= mx.repeat(mx.arange(padded), self.config.heads_per_kv)

        def attend(layer: int, joined: mx.array) -> mx.array:
            queries, keys, values = self.place(joined, ids.shape, rows, beta)
            part = Part(*heads_first(keys, values, self.blank_value), hide(causal))
            return attend_block(queries, [part], self.positions.scale, self.ones)

        return self.logits(self.hidden(ids, attend)[:, :length])

    def hidden(self, ids: mx.array, attend: Attend, streams: Sequence[mx.Stream] = ()) -> mx.array:
        """ids (B, T), or (B,) for one token a row -> (..., d) before the last norm; attention is the
        caller's. streams: the tokens are dealt out to them, where a layer takes them one by one.
        """
        if self.panels is not None and ids.size <= MOST_ROWS:
            return self.panels.hidden(ids, attend)
        x = self.embedding[ids]
        for layer, block in enumerate(self.blocks):
            joined = self.first[ids] if block.qkv is None else self.join_heads(block, x)
            x = mx.addmm(x, attend(layer, joined), block.out)
            if block.out_bias is not None:
                x = x + block.out_bias
            x = self.spread_forward(block, x, streams) if streams else self.feed_forward(block, x)
        return x

    def spread_forward(self, block: Block, x: mx.array, streams: Sequence[mx.Stream]) -> mx.array:
        return spread(lambda tokens: self.feed_forward(block, x[:, tokens]), x.shape[1], streams, axis=1)

    def join_heads(self, block: Block, x: mx.array) -> mx.array:
        """Queries, keys and values (..., (H + 2 Hkv) D); under softplus already where the model is folded."""
        if self.folded:
            return make_heads(x, block.qkv, block.qkv_bias, self.lifted, NORM_EPS)
        return mx.addmm(block.qkv_bias, mx.fast.rms_norm(x, block.norm1, NORM_EPS), block.qkv)

    def feed_forward(self, block: Block, x: mx.array) -> mx.array:
        if self.folded:
            return mx.addmm(x, make_gated(x, block.gate_up, NORM_EPS), block.down)
        y = mx.fast.rms_norm(x, block.norm2, NORM_EPS).astype(self.dtype)
        gate, up = mx.split(y @ block.gate_up, 2, axis=-1)
        return mx.addmm(x, apply_swiglu(gate, up), block.down)

    def place(self, joined: mx.array, lead: tuple[int, ...], rows: mx.array, beta: mx.array | None,
              heads_apart: bool = False) -> tuple[mx.array, mx.array, mx.array]:
        """The layer's products of tokens `lead`, (B,) or (B, T), position rows (T, 2, n), DroPE scale (T,) or
        None -> queries (*lead, Hkv, Dk, G), keys (*lead, Hkv, 1, Dk) as they are stored and values (*lead,
        Hkv, 1, D). T is 1 where there is no time axis. heads_apart: queries (*lead, H, 1, Dk) instead, for
        `attend_fused`, in the layout for it."""
        width, key_width = self.config.head_dim, self.positions.width
        kv_heads, group = self.config.num_kv_heads, self.config.heads_per_kv
        rows = rows[:, None]
        if self.fused:  # queries and keys as heads of one array: a kernel less
            heads = joined.reshape(*lead, -1, 1, width)
            heads, values = mx.split(heads, [kv_heads * (group + 1)], axis=-3)
            placed = self._turn(heads, rows).reshape(*lead, -1, 1, key_width)
            queries, keys = mx.split(placed, [self.config.num_heads], axis=-3)
            if not heads_apart:
                queries = queries.reshape(*lead, kv_heads, group, key_width).swapaxes(-1, -2)
        else:
            heads = joined.reshape(*lead, kv_heads, 1, -1)
            queries, keys, values = mx.split(heads, [group * width, (group + 1) * width], axis=-1)
            queries = self._turn(queries, mx.repeat(rows, group, axis=-1))
            queries = queries.reshape(*lead, kv_heads, key_width, group)
            keys = self._turn(keys, rows).reshape(*lead, kv_heads, 1, key_width)
        if beta is not None:
            queries = queries * beta[:, None, None, None]
        return queries, keys, values

    def _turn(self, heads: mx.array, rows: mx.array) -> mx.array:
        """Queries or keys at their positions."""
        done = self.folded or not self.positions.lifted
        return self.positions.place(heads if done else apply_softplus(heads), rows)

    def logits(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self.norm, NORM_EPS) @ self.head

    def step_logits(self, ids: mx.array, state: list[mx.array],
                    shape: StepShape) -> tuple[mx.array, list[mx.array]]:
        """One token a row, pure: ids (B,) or (B, 1), Cache.begin_step(), Cache.shape -> logits (B, V)
        float32 and what Cache.end_step takes. May be compiled, one function a shape."""
        layers = self.config.num_layers
        rows, beta = state[0], state[1] if has_beta(self.config) else None
        each = 1 + 2 * layers  # arrays of a ring: clock, keys, values
        rings = [state[start: start + each] for start in range(2, len(state), each)]
        fused = self.fused and len(rings) == 1
        masks = [self._step_mask(visible_slots(ring, arrays[0]), ring, shape.batch, fused)
                 for ring, arrays in zip(shape.rings, rings, strict=True)]
        slot = mx.split(rings[-1][0], 4)[0]
        written = rings[-1][1:]

        def attend(layer: int, joined: mx.array) -> mx.array:
            queries, keys, values = self.place(joined, (shape.batch,), rows, beta, fused)
            for index, new in ((layer, keys), (layers + layer, values)):
                written[index] = mx.slice_update(written[index], new, slot, [2])
            parts = []
            for ring, arrays, mask in zip(shape.rings, [*rings[:-1], [None, *written]], masks, strict=True):
                keys, values = arrays[1 + layer], arrays[1 + layers + layer]
                if ring.read < keys.shape[2]:
                    keys, values = keys[:, :, : ring.read], values[:, :, : ring.read]
                parts.append(Part(keys, values, mask))
            if fused:
                return attend_fused(queries, parts[0], self.positions.scale)
            return attend_step(queries, parts, self.positions.scale, self.ones)

        return self.logits(self.hidden(ids.reshape(-1), attend)), written

    def _step_mask(self, visible: mx.array, ring: RingShape, batch: int, fused: bool) -> mx.array:
        """What is added to the scores of one step."""
        if fused:
            return hide(visible)
        rows = batch if ring.batch < batch else 1  # that stand in columns on a shared part
        return hide_slots(visible, self.config.num_kv_heads, self.config.heads_per_kv * rows)

    def make_cache(self, batch: int = 1, window: int | None = None, prefix: int = 0, slack: int = 0,
                   start: int = 0) -> Cache:
        """An empty cache for `batch` rows: the first `prefix` tokens stay for ever, of the rest the last
        `window`, and `slack` tokens can be taken back at any time. window None: what the model was trained
        for, less the prefix and its anchor's stride. start: position of the first token (only differences
        matter)."""
        return make_cache(self, batch, window, prefix, slack, start)
