"""Weights side by side in one array, each on a cache line of its own, on huge pages where Linux has them.

A step on a CPU reads every weight once. MLX keeps the size of an array in the eight bytes before its data, so
that what it allocates begins in the middle of a cache line and every vector of 64 bytes is read from two: a
step took a tenth more. On pages of 4 KiB, 22.7 MB are more pages than a processor knows the addresses of, and
it looks up one after another.
"""

from __future__ import annotations

import ctypes
import sys

import mlx.core as mx
import numpy as np

LINE = 64  # bytes of a cache line
HUGE = 1 << 21  # bytes of a huge page
COLLAPSE, PAGE = 25, 4096  # MADV_COLLAPSE of Linux 6.1


def pack(arrays: list[mx.array]) -> list[mx.array]:
    """The same arrays, views of one; all of one dtype, on a CPU. The first begins on a huge page, every other
    on a cache line."""
    if not arrays:
        return []
    line = LINE // arrays[0].itemsize
    ends = np.cumsum([-(-array.size // line) * line for array in arrays]).tolist()
    begins = [0, *ends[:-1]]
    room = mx.zeros(ends[-1] + HUGE // arrays[0].itemsize, arrays[0].dtype)
    mx.eval(room)
    use_huge_pages(room)
    memory = np.array(room, copy=False)
    first = -memory.ctypes.data % HUGE // memory.itemsize
    whole = memory[first:]
    for array, begin in zip(arrays, begins, strict=True):
        whole[begin: begin + array.size] = np.array(array.flatten(), copy=False)
    views = [room[first + begin: first + begin + array.size].reshape(array.shape)
             for array, begin in zip(arrays, begins, strict=True)]
    mx.eval(views)
    return views


def use_huge_pages(array: mx.array) -> None:
    """Ask Linux for it; a kernel that cannot leaves things as they are."""
    if not sys.platform.startswith("linux"):
        return
    memory = np.array(array, copy=False)
    first = -(-memory.ctypes.data // PAGE) * PAGE
    length = (memory.ctypes.data + memory.nbytes - first) // PAGE * PAGE
    ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), COLLAPSE)
