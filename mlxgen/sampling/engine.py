"""Engine: prefill, step, rewind, fork. The only step in the project: single, batch, chain and stream run it.

An engine stands between two ids. The last id it was given or drew has not been fed to the model yet; a step
feeds it, draws the next one, and leaves that for the step after. So the cache always lags one id behind, and
a step can be enqueued before the host has read the id it starts from (`build_ahead`, one ahead).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx

from mlxgen.model.cores import TOGETHER, apart
from mlxgen.model.streams import on_cpu
from mlxgen.music.decode import Decoder
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.compiling import can_compile, remember_kernels, should_compile
from mlxgen.sampling.reader import Reader
from mlxgen.sampling.rules import RowState, RuleSet, make_rules
from mlxgen.sampling.sampler import SamplingParams, gumbel_noise, make_knobs, make_row_keys
from mlxgen.sampling.step import make_step

NOISE_POSITIONS = 64  # noise is made for this many positions at once


class StepResult(NamedTuple):
    """One entry a row. logprobs: under the model's own distribution, before rules and temperature."""

    ids: list[int]
    logprobs: list[float]


class Drawn(NamedTuple):
    """A step that may not have run yet: ids and logprobs (B, 1), the rules' state after it, and their weights
    where they are an array of their own."""

    ids: mx.array
    logprobs: mx.array
    state: tuple[mx.array, ...]
    weights: Sequence[mx.array]


@dataclass(frozen=True)
class EngineOptions:
    """How an engine holds its context and runs.

    window, prefix: in ids, see `model.make_cache`. slack: how many ids `rewind` can take back.
    compiled: run steps through mx.compile; None: where that is free or was paid for before (compiling.py).
    keep_notes=False is for streams without end: the decoder forgets the notes it has given.
    """

    window: int | None = None
    prefix: int = 0
    slack: int = 64
    compiled: bool | None = None
    keep_notes: bool = True

    def __post_init__(self):
        if self.slack < 1:
            raise ValueError(f"slack {self.slack}: expected 1 or more")


class Engine:
    """Draws ids from a model, a row a candidate.

        engine = Engine(model, vocab, seed=7)
        engine.prefill(make_prompt(...))
        for token, logprob in engine.generate(1000): ...

    seed: row r of a fork draws with seed + r unless told otherwise; a row's draws depend on (its seed, the
    position) alone.
    `params` and `rules` may be assigned between steps and hold from the next id on.
    """

    def __init__(self, model, vocab: Vocab, *, params: SamplingParams | None = None,
                 rules: RuleSet | None = None, seed: int = 0, options: EngineOptions = EngineOptions()):
        self.model, self.vocab, self.slack = model, vocab, options.slack
        self.compiled = should_compile() if options.compiled is None else options.compiled and can_compile()
        self.cache = model.make_cache(batch=1, window=options.window, prefix=options.prefix,
                                      slack=options.slack + 2)
        self.seeds = [int(seed)]
        self._row_keys = make_row_keys(self.seeds)
        self._params = params or SamplingParams()
        self._knobs = make_knobs(self._params)
        self._rules = make_rules(vocab, rules or RuleSet())
        self._position = 0
        self._history: deque[list[int]] = deque(maxlen=self.slack + 1)  # ids of the last positions, by row
        self._states: deque = deque(maxlen=self.slack + 2)  # rule states, the newest after the newest id
        self._last_row: RowState | None = None  # row 0 after the last prefill: the context is in it
        self._arrays: tuple[mx.array, ...] = ()
        self._pending: mx.array | None = None  # (B, 1): the id that the next step feeds
        self._ahead: list[Drawn] = []
        self._new_kernels = False
        self._noise: tuple[int, list[mx.array]] | None = None  # first position, (B, V) of each
        self._reader = Reader(Decoder(vocab, keep_notes=options.keep_notes), self.slack)

    # what a caller may read and turn

    @property
    def position(self) -> int:
        """Ids in the context: prefilled and handed out."""
        return self._position

    @property
    def batch(self) -> int:
        return len(self.seeds)

    @property
    def params(self) -> SamplingParams:
        return self._params

    @params.setter
    def params(self, params: SamplingParams) -> None:
        self._drop_ahead()
        self._params, self._knobs = params, make_knobs(params)

    @property
    def rules(self) -> RuleSet:
        return self._rules.ruleset

    @rules.setter
    def rules(self, ruleset: RuleSet) -> None:
        if ruleset == self._rules.ruleset:
            return
        self._drop_ahead()
        before, self._rules = self._rules, make_rules(self.vocab, ruleset)
        if self._last_row is None:
            return
        self._arrays = self._rules.make_arrays(self._last_row.context)
        if before.key != self._rules.key:
            self._rescan()

    @property
    def decoder(self) -> Decoder:
        """The decoder of row 0, fed with every id up to `position`."""
        if self.batch != 1:
            raise ValueError(f"decoder: this engine has {self.batch} rows; only a single row is decoded")
        return self._reader.decoder()

    # prefill, step, rewind, fork

    def prefill(self, ids: Sequence[int]) -> None:
        """Append ids to the context of every row, without drawing."""
        ids = [int(token) for token in ids]
        if not ids:
            raise ValueError("prefill: expected at least one id")
        bad = next((token for token in ids if not 0 <= token < len(self.vocab)), None)
        if bad is not None:
            raise ValueError(f"prefill: id {bad}; expected 0 to {len(self.vocab) - 1}")
        if self.batch != 1:
            raise ValueError(f"prefill: this engine has {self.batch} rows; prefill before forking")
        self._drop_ahead()
        feed = mx.array([ids[:-1]], dtype=mx.int32)
        if self._pending is not None:
            feed = mx.concatenate([self._pending, feed], axis=1)
        if feed.shape[1]:
            mx.eval(self.model(feed, cache=self.cache)[:, -1])
        self._pending = mx.array([ids[-1:]], dtype=mx.int32)
        before = self._last_row and self._rules.read_state(self._states[-1], self._last_row.context)
        states = self._rules.scan(ids, before, keep=self.slack + 2)
        self._last_row = states[-1]
        self._arrays = self._rules.make_arrays(self._last_row.context)
        self._states.extend(self._rules.make_state([state]) for state in states)
        self._history.extend([token] for token in ids[-self.slack - 1:])
        self._position += len(ids)
        self._reader.take(ids)

    def step(self, ahead: bool = True) -> StepResult:
        """Draw the next id of every row. `ahead`: enqueue the step after it before waiting for this one.

        That one is enqueued in two parts, and the step after it is built in between: MLX lets the host run
        only so far ahead of a CPU, and the device would wait while the host builds.
        """
        with apart() if self.batch == 1 else TOGETHER as threads:
            mx.async_eval(self.build_ahead(1))
            if ahead:
                self.build_ahead(2)
                before, following = self._ahead[:2]
                threads.enqueue(self.cache.own.keys, [*before.state, *following.weights])
                self.build_ahead(3)
                mx.async_eval(following.ids, following.logprobs)
            ids, logprobs, state, _ = self._ahead.pop(0)
            # read as they are: another operation on them would queue behind the step enqueued ahead
            result = StepResult(*([value for (value,) in column.tolist()] for column in (ids, logprobs)))
        if self._new_kernels:
            remember_kernels()
            self._new_kernels = False
        self._pending = ids
        self._states.append(state)
        self._history.append(result.ids)
        self._position += 1
        if self.batch == 1:
            self._reader.take(result.ids)
        return result

    def build_ahead(self, count: int) -> list[mx.array]:
        """Build steps until `count` are ahead (at most three); returns what is new, not evaluated yet.

        `step` does this itself; who steps several engines at once evaluates their arrays together.
        """
        if self._pending is None:
            raise ValueError("step: nothing to continue; prefill a prompt first")
        new: list[mx.array] = []
        while len(self._ahead) < count:
            ids, state = self._pending, self._states[-1]
            if self._ahead:
                ids, _, state, _ = self._ahead[-1]
            drawn = self._body(ids, state, self._position + len(self._ahead))
            self._ahead.append(drawn)
            new += drawn.ids, drawn.logprobs
        return new

    def generate(self, max_tokens: int, stop: Callable[[list[int]], bool] | None = None
                 ) -> Iterator[tuple[int, float]]:
        """Yield (id, logprob) up to `max_tokens` times, for a single row.

        Ends after EOS, and after an id for which `stop(ids drawn so far)` is true.
        """
        if self.batch != 1:
            raise ValueError(f"generate: this engine has {self.batch} rows; use step or candidates")
        drawn: list[int] = []
        for count in range(1, max_tokens + 1):
            (token,), (logprob,) = self.step(ahead=count < max_tokens)
            drawn.append(token)
            yield token, logprob
            if token == self.vocab["EOS"] or (stop is not None and stop(drawn)):
                return

    def rewind(self, count: int) -> None:
        """Take back the last `count` ids: cache, draws, rules and decoder together. At most `slack`."""
        if not 0 <= count <= min(self.slack, len(self._history) - 1):
            raise ValueError(f"rewind {count}: expected 0 to {min(self.slack, len(self._history) - 1)}")
        self._drop_ahead()
        if count == 0:
            return
        self.cache.rewind(count)
        for _ in range(count):
            self._history.pop()
            self._states.pop()
        self._pending = mx.array(self._history[-1], dtype=mx.int32)[:, None]
        self._position -= count
        self._reader.give_back(count)

    def fork(self, n: int, seeds: Sequence[int] | None = None, room: int | None = None) -> Engine:
        """A new engine of `n` rows that continue from here; the context's keys and values are shared.

        room: ids that each row gets memory for at once; see Cache.fork.
        """
        if self.batch != 1:
            raise ValueError(f"fork: this engine already has {self.batch} rows")
        if n < 1 or (seeds is not None and len(seeds) != n):
            raise ValueError(f"fork: n {n}, seeds {seeds}; expected at least one row and one seed a row")
        self._drop_ahead()
        twin = object.__new__(Engine)
        twin.__dict__.update(self.__dict__)
        twin.seeds = [int(seed) for seed in seeds or range(self.seeds[0], self.seeds[0] + n)]
        twin._row_keys, twin._noise, twin._ahead = make_row_keys(twin.seeds), None, []
        twin.cache = self.cache.fork(n, room)
        twin._pending = None if self._pending is None else mx.repeat(self._pending, n, axis=0)
        twin._history = deque((row * n for row in self._history), maxlen=self.slack + 1)
        twin._states = deque((_repeat(state, n) for state in self._states), maxlen=self.slack + 2)
        twin._reader = self._reader.fork()
        return twin

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order; each draws what it would have drawn anyway."""
        self.cache.keep(list(rows))  # ValueError for rows that are not there
        index = mx.array(rows)
        self.seeds = [self.seeds[row] for row in rows]
        self._row_keys = self._row_keys[index]
        if self._noise is not None:
            self._noise = self._noise[0], [noise[index] for noise in self._noise[1]]
        if self._pending is not None:
            self._pending = self._pending[index]
        self._ahead = [Drawn(ids[index], logprobs[index], _rows(state, index), ())
                       for ids, logprobs, state, _ in self._ahead]
        self._history = deque(([column[row] for row in rows] for column in self._history),
                              maxlen=self.slack + 1)
        self._states = deque((_rows(state, index) for state in self._states), maxlen=self.slack + 2)

    # inside

    def _drop_ahead(self) -> None:
        """Forget the step enqueued ahead: what it fed to the cache is taken back."""
        if self._ahead:
            self.cache.rewind(len(self._ahead))
            self._ahead.clear()

    def _rescan(self) -> None:
        """Other rules need another state: read it from the ids that can still be taken back.

        The grammar finds its place again at their first BEAT; older notes still sounding are unknown.
        """
        columns = list(self._history)
        start = self._rules.begin(self._last_row.context)
        rows = [self._rules.scan([column[row] for column in columns], start, keep=len(columns))
                for row in range(self.batch)]
        self._states.clear()
        self._states.extend(self._rules.make_state(states) for states in zip(*rows, strict=True))

    def _noise_at(self, position: int) -> mx.array:
        """(B, V) noise of one position, from a block made ahead."""
        first = position - position % NOISE_POSITIONS
        if self._noise is None or self._noise[0] != first:
            noise = gumbel_noise(self._row_keys, first, NOISE_POSITIONS, len(self.vocab))
            self._noise = first, mx.split(noise.flatten(0, 1), NOISE_POSITIONS)
        return self._noise[1][position - first]

    def _body(self, ids: mx.array, state: tuple, position: int) -> Drawn:
        """Feed `ids` (B, 1), draw the ids at `position`."""
        held = self.cache.begin_step()
        step = self._step_for(self.cache.shape)
        noise = self._noise_at(position)
        *drawn, written = step(ids, held, state, self._arrays, self._knobs, noise)
        del held  # whoever holds a ring while it is written makes MLX copy it
        self.cache.end_step(written)
        return Drawn(*drawn)

    def _step_for(self, shape) -> Callable:
        """The step for this shape of cache, these rules and filters."""
        filters = self._params.top_k > 0, self._params.top_p < 1
        early = self.batch == 1 and on_cpu()
        if not self.compiled:
            return make_step(self.model, self._rules, shape, filters, early)
        stream = str(mx.default_stream(mx.cpu))  # a compiled function belongs to the stream it was traced in
        key = self.vocab, self._rules.key, shape, filters, stream
        step, is_new = self.model.compiled.find(
            key, lambda: make_step(self.model, self._rules, shape, filters, early))
        self._new_kernels = self._new_kernels or is_new
        return step


def _rows(state: tuple[mx.array, ...], index: mx.array) -> tuple[mx.array, ...]:
    return tuple(array[index] for array in state)


def _repeat(state: tuple[mx.array, ...], n: int) -> tuple[mx.array, ...]:
    return tuple(mx.repeat(array, n, axis=0) for array in state)
