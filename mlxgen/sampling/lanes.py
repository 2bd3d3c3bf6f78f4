"""Lanes: the rows of a batch in several engines that step together.

MLX runs all operations of one CPU stream on one thread; only BLAS uses more. So on a CPU of several cores the
rows are dealt out to as many streams, and the steps of all lanes are evaluated in one call, which keeps every
stream fed (MLX lets the host run only ten tasks ahead, counted over all streams). What a row draws depends on
its seed and the position alone, so the lane it is in changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import mlx.core as mx

from mlxgen.model import blas
from mlxgen.sampling.engine import Engine, StepResult

ROWS_A_LANE = 4  # fewer do not pay for a stream of their own


def count_lanes(rows: int) -> int:
    """How many lanes pay for `rows` rows here: 1 on a GPU, else at most one a core."""
    if mx.default_device() != mx.cpu:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, rows // ROWS_A_LANE))


@cache
def _stream(lane: int) -> mx.Stream:
    return mx.new_stream(mx.cpu)


class Lanes:
    """Forks of one engine, row r drawing with seeds[r]; the rows of lane i stand before those of lane i + 1.

    seeds None: the engine's own and those that follow it, as `Engine.fork` has it.
    """

    def __init__(self, engine: Engine, rows: int, seeds: Sequence[int] | None = None,
                 lanes: int | None = None):
        if seeds is None:
            seeds = range(engine.seeds[0], engine.seeds[0] + rows)
        if len(seeds) != rows:
            raise ValueError(f"seeds {seeds}: expected {rows}, one a row")
        self.count = count_lanes(rows) if lanes is None else lanes
        self._streams = ([mx.default_stream(mx.default_device())] if self.count == 1
                         else [_stream(lane) for lane in range(self.count)])
        self._engines: list[Engine] = []
        for lane, stream in enumerate(self._streams):
            own = seeds[rows * lane // self.count: rows * (lane + 1) // self.count]
            with mx.stream(stream):
                self._engines.append(engine.fork(len(own), own))

    @property
    def rows(self) -> int:
        return sum(engine.batch for engine in self._engines)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Step inside of this: BLAS leaves the cores to the lanes."""
        if self.count == 1:
            yield
            return
        with blas.at_most_threads(1):
            yield

    def step(self, ahead: bool = True) -> StepResult:
        """The next id of every row; see Engine.step."""
        new: list[mx.array] = []
        for stream, engine in zip(self._streams, self._engines, strict=True):
            with mx.stream(stream):
                new += engine.build_ahead(2 if ahead else 1)
        mx.async_eval(new)
        results = [engine.step(ahead=False) for engine in self._engines]
        return StepResult([token for result in results for token in result.ids],
                          [logprob for result in results for logprob in result.logprobs])

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in ascending order; a lane that loses all of its rows is closed."""
        streams, engines, first = [], [], 0
        for stream, engine in zip(self._streams, self._engines, strict=True):
            own = [row - first for row in rows if first <= row < first + engine.batch]
            first += engine.batch
            if not own:
                continue
            if len(own) < engine.batch:
                with mx.stream(stream):
                    engine.keep(own)
            streams.append(stream)
            engines.append(engine)
        self._streams, self._engines = streams, engines
