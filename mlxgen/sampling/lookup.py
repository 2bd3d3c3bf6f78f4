"""Tables that a row looks things up in by its state, in one operation: `mx.take` is two, three with an index
(B, 1)."""

from __future__ import annotations

from functools import lru_cache

import mlx.core as mx
import numpy as np


def make_table(values: np.ndarray, dtype: mx.Dtype | None = None) -> mx.array:
    """Numbers of any shape in one row (1, N), which is how they are looked up."""
    return mx.array(np.asarray(values).reshape(1, -1), dtype=dtype)


def look_up(table: mx.array, index: mx.array) -> mx.array:
    """(1, N) at (B, K) whole numbers: (B, K)."""
    return mx.take_along_axis(table, index, axis=1)


def look_up_row(table: mx.array, row: mx.array, size: int) -> mx.array:
    """Row `row` (B, 1) of what was (rows, size): (B, size)."""
    return look_up(table, row * size + _numbers(size))


@lru_cache(maxsize=32)
def _numbers(size: int) -> mx.array:
    numbers = mx.array(np.arange(size, dtype=np.int32))[None]
    mx.eval(numbers)
    return numbers
