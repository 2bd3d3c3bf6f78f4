"""Candidates over several processes: `mlx.launch -n 2 -- mlxgen generate-long ...`.

MLX's own engine does the talking; this file only says who makes which candidate and gathers what each
process found. With one process nothing is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import mlx.core as mx
import numpy as np


class Shards:
    """This process's place among all of them: `rank` of `size`."""

    def __init__(self, group=None):
        self._group = group if group is not None else mx.distributed.init()
        self.rank: int = self._group.rank()
        self.size: int = self._group.size()

    def mine(self, count: int) -> range:
        """The candidate numbers that this process makes: rank, rank + size, ..."""
        return range(self.rank, count, self.size)

    def gather(self, value) -> list:
        """Every process's JSON-able `value`, by rank; all processes receive the same list."""
        if self.size == 1:
            return [value]
        payload = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
        lengths = self._all_gather(np.array([len(payload)], dtype=np.int32))  # (size,)
        padded = np.zeros(int(lengths.max()), dtype=np.uint8)
        padded[:len(payload)] = payload
        rows = self._all_gather(padded).reshape(self.size, -1)
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def from_first(self, make: Callable[[], object]):
        """What `make()` returns in rank 0 (JSON-able), in every process; what it raises, as ValueError."""
        answer = {}
        if self.rank == 0:
            try:
                answer = {"value": make()}
            except (ValueError, OSError) as error:
                if self.size == 1:
                    raise
                answer = {"error": str(error)}
        answer = self.gather(answer)[0]
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["value"]

    def _all_gather(self, array: np.ndarray) -> np.ndarray:
        return np.array(mx.distributed.all_gather(mx.array(array), group=self._group, stream=mx.cpu))
