"""The weights of the layers, as the step multiplies by them: from upstream's tensors to Blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import mlx.core as mx

from mlxgen.model.config import ModelConfig
from mlxgen.model.folded import fold, lift
from mlxgen.model.pages import pack
from mlxgen.model.streams import on_cpu

NORM_EPS = 1e-6
MATRICES = ("qkv", "out", "gate_up", "down")  # of a Block


@dataclass(frozen=True)
class Block:
    """Weights of one layer, made for x @ weight, projections that read the same input joined into one
    matrix. The first layer has no norm1, qkv and qkv_bias: see `look_up`. Norms that are part of the matrices
    (see folded.py) are None.
    """

    norm1: mx.array | None
    qkv: mx.array | None  # (d, (H + 2 Hkv) D), see Model.place
    qkv_bias: mx.array | None  # (1, ...): of the shape of the product of a single row
    out: mx.array  # (H Dv, d)
    out_bias: mx.array | None  # None where it is a row of `out`
    norm2: mx.array | None
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


def make_block(config: ModelConfig, weights: dict[str, mx.array], layer: int, value_width: int,
               grouped: bool) -> Block:
    """Layer `layer`. Heads of values are stored `value_width` wide: behind what is trained a column that is 1
    for every token, if there is room, then zeros. So attention gives a 1 in every head, and the bias of `out`
    rides on the first. grouped: the columns of `qkv` are q (D, G), k, v of every kv head in turn, instead of
    q (G, D) of all, k of all, v of all."""
    width, kv_heads = config.head_dim, config.num_kv_heads

    def get(name: str) -> mx.array:
        return weights[f"layers.{layer}.{name}"]

    def order(queries: mx.array) -> mx.array:
        apart = queries.reshape(kv_heads, -1, width, *queries.shape[1:])
        return (apart.swapaxes(1, 2) if grouped else apart).reshape(queries.shape)

    def join(parts: list[mx.array]) -> mx.array:
        heads = kv_heads if grouped else 1
        apart = [part.reshape(heads, -1, *part.shape[1:]) for part in parts]
        return mx.concatenate(apart, axis=1).flatten(0, 1)

    out, out_bias = get("attn.proj.weight").T.reshape(config.num_heads, width, -1), get("attn.proj.bias")
    out = mx.pad(out, [(0, 0), (0, value_width - width), (0, 0)])
    if value_width > width:
        out[0, width] = out_bias
    weight, bias = (join([order(get(f"attn.q_proj.{kind}")), get(f"attn.k_proj.{kind}"),
                          get(f"attn.v_proj.{kind}")]) for kind in ("weight", "bias"))
    gate_up = mx.concatenate([get("ffn.w_gate.weight"), get("ffn.w1.weight")])
    return Block(
        norm1=get("ln1.weight"), qkv=mx.contiguous(weight.T), qkv_bias=bias[None], out=out.flatten(0, 1),
        out_bias=None if value_width > width else out_bias, norm2=get("ln2.weight"),
        gate_up=mx.contiguous(gate_up.T), down=mx.contiguous(get("ffn.w2.weight").T))


def pack_blocks(blocks: list[Block]) -> list[Block]:
    """The same, with the float32 matrices side by side in memory."""
    names = [[name for name in MATRICES
              if getattr(block, name) is not None and getattr(block, name).dtype == mx.float32]
             for block in blocks]
    packed = iter(pack([getattr(block, name) for block, own in zip(blocks, names, strict=True)
                        for name in own]))
    return [replace(block, **{name: next(packed) for name in own})
            for block, own in zip(blocks, names, strict=True)]


def lifted_columns(config: ModelConfig, grouped: bool) -> mx.array:
    """1 for the columns of `qkv` that are queries and keys, 0 for values: (1, (H + 2 Hkv) D) float32."""
    columns = mx.arange((config.num_heads + 2 * config.num_kv_heads) * config.head_dim)
    each = columns.size // config.num_kv_heads if grouped else columns.size
    values = each // (config.heads_per_kv + 2)
    return (columns % each < each - values).astype(mx.float32)[None]


def look_up(block: Block, embedding: mx.array) -> tuple[mx.array, Block]:
    """What the first layer's queries, keys and values come from, of every id: (V, (H + 2 Hkv) D), and the
    layer without it. They depend on the id alone until they are placed, so that a step need not multiply."""
    table = mx.addmm(block.qkv_bias, mx.fast.rms_norm(embedding, block.norm1, NORM_EPS), block.qkv)
    return table, replace(block, norm1=None, qkv=None, qkv_bias=None)


def fold_block(block: Block) -> Block:
    """The norms' weights as part of the matrices."""
    if block.qkv is not None:
        block = replace(block, norm1=None, qkv=fold(block.norm1, block.qkv))
    return replace(block, norm2=None, gate_up=fold(block.norm2, block.gate_up))


def make_blocks(config: ModelConfig, weights: dict[str, mx.array], value_width: int, grouped: bool,
                folded: bool, lifted: mx.array | None) -> tuple[mx.array, list[Block]]:
    """The table of the first layer (see `look_up`) and all layers. folded: for folded.py, and the columns
    that are 1 in `lifted` are under softplus in the table."""
    blocks = [make_block(config, weights, layer, value_width, grouped) for layer in range(config.num_layers)]
    table, blocks[0] = look_up(blocks[0], weights["token_embed.weight"])
    if folded:
        table = table if lifted is None else lift(table, lifted)
        blocks = [fold_block(block) for block in blocks]
    mx.eval(table)  # before the weights that it comes from are let go
    return table, pack_blocks(blocks) if on_cpu() else blocks
