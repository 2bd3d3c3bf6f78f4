"""Four ways to keep an endless context, the same weights under each: a table from name to a generator of
NLLs.

Every contestant is fed `ids` and yields, in lists, the negative log likelihood (nats) of each token after
the first `prefix`. `Setting` says how much each may see: the pinned prefix and `window` tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from bench.peers.rotating import make_rotating_cache
from mlxgen.model.attention import Part, attend_block, heads_first
from mlxgen.model.transformer import Model

BATCH = 50  # steps that are enqueued before their figures are fetched
REFILL = 128  # tokens between two recomputations of upstream's loop


@dataclass(frozen=True)
class Setting:
    window: int
    prefix: int


def nll(logits: mx.array, targets: mx.array) -> mx.array:
    """logits (N, V), targets (N,) -> (N,) nats."""
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return mx.logsumexp(logits, axis=-1) - chosen


def in_batches(steps: Iterator[mx.array]) -> Iterator[np.ndarray]:
    """(rows,) arrays, evaluated one ahead, fetched as (tokens, rows)."""
    held = []
    for step in steps:
        mx.async_eval(step)
        held.append(step)
        if len(held) == BATCH:
            yield np.array(mx.stack(held))
            held = []
    if held:
        yield np.array(mx.stack(held))


class RingStream:
    """The ring, one compiled step a token; iterating runs `ids` through it."""

    def __init__(self, model: Model, ids: np.ndarray, setting: Setting):
        self.model, self.setting, self.tokens = model, setting, mx.array(ids)
        self.cache = model.make_cache(window=setting.window, prefix=setting.prefix, slack=64)
        self.compiled: dict = {}

    def step(self, place: int) -> mx.array:
        """Feed the token at `place`: (1,) nats of the next one."""
        state, shape = self.cache.begin_step(), self.cache.shape
        if shape not in self.compiled:
            self.compiled[shape] = make_step(self.model, shape)
        token, target = self.tokens[place: place + 1], self.tokens[place + 1: place + 2]
        value, written = self.compiled[shape](token, target, state)
        del state
        self.cache.end_step(written)
        return value

    def steps(self) -> Iterator[mx.array]:
        prefix = self.setting.prefix
        opening = self.model(self.tokens[None, :prefix], cache=self.cache)
        yield nll(opening[0, -1:], self.tokens[prefix: prefix + 1])
        for place in range(prefix, len(self.tokens) - 1):
            yield self.step(place)

    def __iter__(self) -> Iterator[np.ndarray]:
        return in_batches(self.steps())

    def against_fresh(self, slices: int = 40, length: int = 250) -> float:
        """Speed of this stream, now, over that of one whose window has just filled: the median of ratios of
        slices taken in turns, so that a machine which is busy for a while is busy for both."""
        fresh = RingStream(self.model, np.array(self.tokens), self.setting)
        full = self.setting.prefix + self.setting.window + 64
        self.model(self.tokens[None, :full], cache=fresh.cache)
        ratios = []
        for turn in range(slices + 1):
            seconds = []
            for stream in (fresh, self) if turn % 2 else (self, fresh):
                start = time.perf_counter()
                for _ in in_batches(stream.step(full + place) for place in range(length)):
                    pass
                seconds.append(time.perf_counter() - start)
            ratios.append(seconds[0] / seconds[1] if turn % 2 else seconds[1] / seconds[0])
        return float(np.median(ratios[1:]))


def make_step(model: Model, shape) -> Callable:
    def step(token: mx.array, target: mx.array, state: list[mx.array]):
        logits, written = model.step_logits(token, state, shape)
        return nll(logits, target), written

    return mx.compile(step)


def run_mlx_lm(model: Model, ids: np.ndarray, setting: Setting) -> Iterator[np.ndarray]:
    """mlx-lm's RotatingKVCache under our layers, one token at a time, two rows: with the prefix kept, and
    without (upstream's eviction: the oldest token goes, whatever it is). Keys keep the position at which
    they were fed, as there; the angles are our exact ones, so that the cache alone is judged."""
    size = setting.prefix + setting.window
    caches = [[make_rotating_cache(size, keep) for keep in (setting.prefix, 0)]
              for _ in model.blocks]

    def steps() -> Iterator[mx.array]:
        tokens = mx.array(ids)
        rows = None
        for place in range(len(ids) - 1):
            if place % REFILL == 0:
                rows = model.positions.make_rows(range(place, place + REFILL))
            row = rows[place % REFILL: place % REFILL + 1]

            def attend(layer: int, joined: mx.array, row=row) -> mx.array:
                queries, keys, values = model.place(joined, (2, 1), row, None)
                keys, values = heads_first(keys, values, model.blank_value)
                attended = []
                for index, cache in enumerate(caches[layer]):
                    one = slice(index, index + 1)
                    held = Part(*cache.update_and_fetch(keys[one], values[one]), None)
                    attended.append(attend_block(queries[one], [held], model.positions.scale, model.ones))
                return mx.concatenate(attended)

            token = mx.broadcast_to(tokens[place], (2, 1))
            logits = model.logits(model.hidden(token, attend))[:, 0]
            if place + 1 >= setting.prefix:
                yield nll(logits, mx.broadcast_to(tokens[place + 1], (2,)))
            else:
                mx.async_eval(logits)

    return in_batches(steps())


def run_recomputed(model: Model, ids: np.ndarray, setting: Setting) -> Iterator[np.ndarray]:
    """[prefix | last `window` tokens] forwarded anew every REFILL tokens, positions from 0. What was asked
    before is remembered: a pass that falls on the same refills sees the very same contexts."""
    known: dict[bytes, np.ndarray] = {}
    first = setting.prefix
    while first < len(ids):
        count = min(REFILL, len(ids) - first)
        begin = max(setting.prefix, first - setting.window)
        context = np.concatenate([ids[: setting.prefix], ids[begin: first + count]])
        asked = context.tobytes() + bytes([count])
        if asked not in known:
            logits = model(mx.array(context[None]))[0, -count - 1: -1]
            known[asked] = np.array(nll(logits, mx.array(ids[first: first + count])))[:, None]
        yield known[asked]
        first += count


# how -> (who runs it, the contestants it gives the figures of, in columns)
CONTESTANTS: dict[str, tuple[Callable[..., Iterable[np.ndarray]], tuple[str, ...]]] = {
    "ring": (RingStream, ("ours",)), "mlx-lm": (run_mlx_lm, ("mlx-lm keep", "no pin")),
    "recomputed": (run_recomputed, ("recomputed",))}
