"""The layers for few tokens on a CPU in float32: their matrices in panels of a few columns.

A BLAS multiplies rows by a block of 64 columns after another. In a matrix whose rows are longer every row of
a block lies somewhere else, and a processor does not foresee where: of the products of a step OpenBLAS read
20 to 37 GB/s for one token and 7 for eight, where the same memory gave 60 in one sweep (Linux, two cores,
neighbours). In panels each block is one sweep: 57 to 66 and 23. More
rows are taken some at a time: of 64 at once OpenBLAS packs both sides first.

`mx.gather_mm` multiplies the same rows by every panel, without an operation that repeats them. A product
(1, P, R, W) of a single row lies in memory as (1, P W) does; of several it is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import mlx.core as mx
import numpy as np

from mlxgen.model.attention import UNPACKED
from mlxgen.model.blocks import MATRICES, NORM_EPS, Block, pack_blocks
from mlxgen.model.exponentials import gate_at_once, softplus_where
from mlxgen.model.folded import normalize

WIDTHS = (64, 32, 16)  # columns of a panel, the best first
MOST_ROWS = 128  # .88 of the time for 100; the blocks of a long prompt are dealt out to the cores instead
LEAST = 4  # rows at a time; fewer are not worth it


class Panels:
    """The layers of a folded model, again: Blocks whose matrices (K, N) are (N / W, K, W)."""

    def __init__(self, width: int, embedding: mx.array, first: mx.array, blocks: list[Block],
                 lifted: mx.array | None):
        """embedding (V, d); first and lifted: see Model."""
        self.first, self.embedding = first, embedding
        self.lifted = None if lifted is None else lifted.reshape(1, -1, 1, width)
        self.blocks = pack_blocks([put_in_panels(block, width) for block in blocks])
        mx.eval([] if self.lifted is None else self.lifted,
                [block.qkv_bias for block in self.blocks if block.qkv_bias is not None])

    def hidden(self, ids: mx.array, attend: Callable[[int, mx.array], mx.array]) -> mx.array:
        """Model.hidden."""
        lead, ids = ids.shape, ids.flatten()
        x = self.embedding[ids]  # (R, d)
        for layer, block in enumerate(self.blocks):
            joined = self.first[ids] if block.qkv is None else self.join_heads(block, x)
            x = x + as_rows(multiply(attend(layer, joined).flatten(0, -2), block.out))
            gate, up = mx.split(multiply(normalize(x, NORM_EPS), block.gate_up), 2, axis=1)
            x = x + as_rows(multiply(as_rows(gate_at_once(gate, up)), block.down))
        return x if len(lead) == 1 else mx.unflatten(x, 0, lead)

    def join_heads(self, block: Block, x: mx.array) -> mx.array:
        """Numbers of a token side by side, in any shape."""
        product = multiply(normalize(x, NORM_EPS), block.qkv)
        joined = (product + block.qkv_bias if self.lifted is None
                  else finish_lifted(product, block.qkv_bias, self.lifted))
        return joined if len(x) == 1 else as_rows(joined)


def make_panels(embedding: mx.array, first: mx.array, blocks: list[Block],
                lifted: mx.array | None) -> Panels | None:
    """None where no panel's width divides every matrix."""
    sizes = embedding.shape[1], first.shape[1], blocks[0].down.shape[0]
    width = next((width for width in WIDTHS if all(size % width == 0 for size in sizes)), None)
    return None if width is None else Panels(width, embedding, first, blocks, lifted)


def put_in_panels(block: Block, width: int) -> Block:
    found = {name: getattr(block, name) for name in MATRICES}
    bias = None if block.qkv_bias is None else block.qkv_bias.reshape(1, -1, 1, width)
    return replace(block, qkv_bias=bias, **{name: in_panels(matrix, width)
                                            for name, matrix in found.items() if matrix is not None})


def in_panels(matrix: mx.array, width: int) -> mx.array:
    """(K, N) -> (N / width, K, width)."""
    return mx.contiguous(matrix.reshape(len(matrix), -1, width).swapaxes(0, 1))


def multiply(rows: mx.array, panels: mx.array) -> mx.array:
    """(R, K) times (P, K, W): (1, P, R, W), by as many rows at a time as OpenBLAS multiplies without packing;
    meanwhile a panel stays in the cache of the core."""
    count, size, width = panels.shape
    most = min(len(rows), max(1, UNPACKED // (size * width)))
    at_once = next(number for number in range(most, 0, -1) if len(rows) % number == 0)
    if at_once == len(rows) or at_once < LEAST:
        return mx.gather_mm(rows, panels, *_each(1, count))
    stretches = rows.reshape(-1, at_once, size)
    product = mx.gather_mm(stretches, panels, *_each(len(stretches), count))
    return product.reshape(1, count, len(rows), width)


def as_rows(product: mx.array) -> mx.array:
    """(1, P, R, W) -> (R, P W)."""
    rows = product.shape[2]
    return (product if rows == 1 else product.swapaxes(1, 2)).reshape(rows, -1)


@mx.compile
def finish_lifted(product: mx.array, bias: mx.array, lifted: mx.array) -> mx.array:
    return softplus_where(product + bias, lifted)


@lru_cache(maxsize=64)
def _each(stretches: int, count: int) -> tuple[mx.array, mx.array]:
    """Every stretch of rows for every panel, uint32: (1, count) of one, (count, stretches) of several."""
    shape = (1, count) if stretches == 1 else (count, stretches)
    indices = [np.broadcast_to(index, (count, stretches)).reshape(shape).astype(np.uint32)
               for index in (np.arange(stretches), np.arange(count)[:, None])]
    return mx.array(indices[0]), mx.array(indices[1])
