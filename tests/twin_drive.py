"""Drives a cache and its slow twins through the same random life."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from slow_twin import SlowTwin
from tiny_models import make_model


def as_ids(rows) -> mx.array:
    return mx.array(np.array(rows, dtype=np.int32))


class Drive:
    """A cache and a twin per row, fed the same; `worst` is the largest difference of logits seen, `moves`
    counts rewinds, forks and prefills."""

    def __init__(self, kind: str, seed: int, window: int, prefix: int, slack: int, start: int = 0):
        self.model, weights = make_model(kind, seed=seed)
        self.rng = np.random.default_rng(seed)
        self.cache = self.model.make_cache(window=window, prefix=prefix, slack=slack, start=start)
        self.twins = [SlowTwin(self.model.config, weights, window, prefix)]
        self.worst, self.steps, self.moves = 0.0, 0, 0

    def feed(self, count: int) -> None:
        ids = self.rng.integers(0, self.model.config.vocab_size, (len(self.twins), count))
        logits = np.array(self.model(as_ids(ids), cache=self.cache))
        for row, twin in enumerate(self.twins):
            self.worst = max(self.worst, np.abs(logits[row] - twin.feed(ids[row])).max())
        self.steps += count

    def rewind(self, count: int) -> None:
        self.moves += 1
        self.cache.rewind(count)
        for twin in self.twins:
            twin.rewind(count)

    def fork(self, rows: int) -> None:
        self.moves += 1
        self.cache = self.cache.fork(rows, room=7)
        self.twins = [self.twins[0].fork() for _ in range(rows)]

    def keep(self, rows: list[int]) -> None:
        self.cache.keep(rows)
        self.twins = [self.twins[row] for row in rows]

    def take(self, row: int) -> None:
        self.cache = self.cache.take(row)
        self.twins = [self.twins[row]]

    def random_move(self) -> None:
        forked = len(self.cache.rings) > 1
        choice = self.rng.random()
        if choice < 0.55:
            for _ in range(self.rng.integers(1, 12)):
                self.feed(1)
        elif choice < 0.70:
            most = 2 * self.cache.plan.window if self.rng.random() < 0.05 else 24
            self.moves += 1
            self.feed(int(self.rng.integers(2, most)))
        elif choice < 0.88:
            self.rewind(int(self.rng.integers(0, self.cache.rewindable + 1)))
        elif not forked:
            if self.cache.position >= self.cache.plan.prefix:
                self.fork(int(self.rng.integers(1, 4)))
        elif choice < 0.92:
            rows = self.rng.permutation(len(self.twins))[: self.rng.integers(1, len(self.twins) + 1)]
            self.keep([int(row) for row in rows])
        else:
            self.take(int(self.rng.integers(0, len(self.twins))))
