"""Lanes: the rows of a batch in several engines that step together.

MLX runs all operations of one CPU stream on one thread; only BLAS uses more. So on a CPU of several cores the
rows are dealt out to as many streams, and the steps of all lanes are evaluated in one call, which keeps every
stream fed (MLX lets the host run only ten tasks ahead, counted over all streams). What a row draws depends on
its seed and the position alone, so the lane it is in changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import mlx.core as mx

from mlxgen.model import blas
from mlxgen.model.streams import count_cores, cpu_streams
from mlxgen.sampling.engine import Engine, StepResult

# What a lane must have to do in a step, in keys read by all of its rows: less does not pay for a second
# stream. Two lanes against one on two cores, ids/s: 8 rows on 128 ids 0.63x, 16 on 128 0.80x, 8 on 2,048
# 0.95x, 50 on 128 1.10x, 16 on 2,048 1.10x, 50 on 2,048 1.40x.
WORK_A_LANE = 24_000
WORK_BESIDE = 1024  # the rest of a row's step takes as long as attention to this many keys


def count_lanes(rows: int, context: int) -> int:
    """How many lanes pay for `rows` rows on `context` ids here: 1 on a GPU, else at most one a core."""
    if mx.default_device() != mx.cpu:
        return 1
    work = rows * (context + WORK_BESIDE)
    return max(1, min(count_cores(), rows, work // WORK_A_LANE))


class Lanes:
    """Forks of one engine, row r drawing with seeds[r]; the rows of lane i stand before those of lane i + 1.

    seeds None: the engine's own and those that follow it, as `Engine.fork` has it. room: ids that each row
    gets memory for at once.
    """

    def __init__(self, engine: Engine, rows: int, seeds: Sequence[int] | None = None, *,
                 lanes: int | None = None, room: int | None = None):
        if seeds is None:
            seeds = range(engine.seeds[0], engine.seeds[0] + rows)
        if len(seeds) != rows:
            raise ValueError(f"seeds {seeds}: expected {rows}, one a row")
        self.count = count_lanes(rows, engine.position) if lanes is None else lanes
        self._streams = ([mx.default_stream(mx.default_device())] if self.count == 1
                         else cpu_streams(self.count))
        self._engines: list[Engine] = []
        for lane, stream in enumerate(self._streams):
            own = seeds[rows * lane // self.count: rows * (lane + 1) // self.count]
            with mx.stream(stream):
                self._engines.append(engine.fork(len(own), own, room))

    @property
    def rows(self) -> int:
        return sum(engine.batch for engine in self._engines)

    @property
    def cache_bytes(self) -> int:
        """Keys and values of all rows; the context that they share counts once."""
        rings = [*self._engines[0].cache.rings[:-1], *(engine.cache.own for engine in self._engines)]
        return sum(array.nbytes for ring in rings for array in (*ring.keys, *ring.values))

    @staticmethod
    def running() -> AbstractContextManager[None]:
        """Step inside of this: BLAS leaves the cores to the lanes. One lane is as fast with one thread, and
        takes half of the CPU time: 24 rows on 640 ids, 19.5 ms a step and 16 ms of CPU against 19.6 and 31.
        """
        return blas.at_most_threads(1)

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
