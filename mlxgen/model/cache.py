"""The KV cache: a pinned prefix, a window that slides over it for ever, rewinds, forks.

    cache = model.make_cache(batch=1, window=W, prefix=P, slack=S)
    logits = model(ids, cache=cache)   # any number of tokens, at any time; the first P fed are the prefix
    cache.rewind(n)                    # takes the last n <= S tokens back, also after the window has wrapped
    rows = cache.fork(50)              # 50 rows on one context, stored once and read once

Layout, visibility and the anchor schedule are in ring.py. A cache is a list of rings: one, or after `fork`
the frozen ring of the context (batch 1) and the rows' own ring.

One step, as a pure function that can be compiled (the arrays keep their shapes while `cache.shape` does,
and the rings are written in place as long as nobody else holds them):

    state = cache.begin_step()         # then cache.shape says which compiled step fits
    logits, written = model.step_logits(ids, state, cache.shape)
    cache.end_step(written)
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxgen.model.attention import Part, attend_block, heads_first, hide
from mlxgen.model.blas import at_most_threads
from mlxgen.model.positions import make_beta
from mlxgen.model.ring import ANCHOR_STRIDE, Ring, RingPlan, RingShape
from mlxgen.model.streams import block_streams

BLOCKS = (16, 32, 64, 256)  # a prefill is cut into blocks of the last; the rest is padded to one of these


@dataclass(frozen=True)
class StepShape:
    """What is fixed while one compiled step is valid; hashable, the key for a table of compiled steps."""

    rings: tuple[RingShape, ...]

    @property
    def batch(self) -> int:
        return self.rings[-1].batch


class Cache:
    """Keys and values of all layers for `batch` rows that stand at the same token. Made by
    Model.make_cache.
    """

    def __init__(self, model, rings: list[Ring], start: int = 0):
        self.config, self.positions, self.dtype = model.config, model.positions, model.dtype
        self.blank_value = model.blank_value
        self.rings = rings
        self.start = start
        self._page: tuple[int, list[mx.array]] | None = None

    @property
    def own(self) -> Ring:
        return self.rings[-1]

    @property
    def batch(self) -> int:
        return self.own.batch

    @property
    def plan(self) -> RingPlan:
        return self.rings[0].plan

    @property
    def position(self) -> int:
        """Tokens fed so far (rewound ones not counted)."""
        return self.own.first + self.own.count

    @property
    def rewindable(self) -> int:
        """Tokens that `rewind` can take back now."""
        return self.own.rewindable

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values, a shared context counted once."""
        return sum(array.nbytes for ring in self.rings for array in (*ring.keys, *ring.values))

    def feed(self, model, ids: mx.array) -> mx.array:
        """ids (batch, T) -> logits (batch, T, V) of the tokens that follow what is held."""
        if ids.shape[0] != self.batch:
            raise ValueError(f"ids have {ids.shape[0]} rows; the cache has {self.batch}")
        if ids.shape[1] == 1:
            logits, written = model.step_logits(ids, self.begin_step(), self.shape)
            self.end_step(written)
            return logits[:, None]
        parts, done = [], 0
        self.own.grow(ids.shape[1])
        streams = block_streams() if ids.shape[1] > BLOCKS[-2] else []
        with at_most_threads(1) if streams else nullcontext():
            while done < ids.shape[1]:
                length = min(BLOCKS[-1], self.own.plan.size, self.plan.same_anchor(self.position),
                             ids.shape[1] - done)
                parts.append(self._feed_block(model, ids[:, done: done + length], streams))
                done += length
            if streams:
                mx.eval(parts)
        return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=1)

    def _feed_block(self, model, ids: mx.array, streams: list[mx.Stream]) -> mx.array:
        """A block inside one anchor: attend to what is held and to itself, then write. Padded to one of few
        lengths, so that MLX keeps kernels for few shapes; no token sees what lies behind it."""
        length, first = ids.shape[1], self.position
        padded = next(size for size in BLOCKS if size >= length)
        ids = mx.pad(ids, [(0, 0), (0, padded - length)])
        tokens = range(first, first + padded)
        self._prepare(first, length)
        rows = self.positions.make_rows(range(self.start + first, self.start + first + padded))
        beta = make_beta(self.config, [min(t + 1, self.plan.prefix + self.plan.window) for t in tokens])
        beta = None if beta is None else mx.array(beta)
        ages = np.arange(padded)[:, None] - np.arange(padded)[None]
        window = self.plan.prefix if first < self.plan.prefix else self.plan.window
        causal = self._block_mask((ages >= 0) & (ages < window))
        held = [(ring, slots, None if mask is None else self._block_mask(mask))
                for ring in self.rings if ring.count for slots, mask in ring.tiles(tokens[:length], padded)]

        def attend(layer: int, joined: mx.array) -> mx.array:
            queries, keys, values = model.place(joined, ids.shape, rows, beta)
            keys, values = heads_first(keys, values, model.blank_value)
            parts = [Part(ring.keys[layer][:, :, slots], ring.values[layer][:, :, slots], mask)
                     for ring, slots, mask in held]
            attended = attend_block(queries, [*parts, Part(keys, values, causal)], self.positions.scale,
                                    model.ones, streams)
            self.own.write(layer, keys[:, :, :length], values[:, :, :length])
            return attended

        logits = model.logits(model.hidden(ids, attend, streams)[:, :length])
        self.own.advance(length)
        mx.async_eval(logits, self.own.keys, self.own.values)
        return logits

    def _block_mask(self, visible: np.ndarray) -> mx.array:
        """(T, S) bool -> what is added to the scores of a block: (S, T * G)."""
        return hide(mx.array(np.repeat(visible.T, self.config.heads_per_kv, axis=1)))

    def _prepare(self, token: int, coming: int) -> None:
        self.own.grow(coming)
        self.rings[0].move_prefix(self.plan.anchor(token), self.positions)

    # one step as a pure function

    @property
    def shape(self) -> StepShape:
        """Of the step that comes next."""
        *frozen, own = self.rings
        return StepShape((*(ring.shape() for ring in frozen), own.shape(coming=1)))

    def begin_step(self) -> list[mx.array]:
        """The arrays that `model.step_logits` needs for the next token: angles, DroPE scale, and of every
        ring its clock, keys and values. Do not keep the list: a ring that two hold is copied when it is
        written."""
        token = self.position
        self._prepare(token, 1)
        context = min(token + 1, self.plan.prefix + self.plan.window)
        beta = make_beta(self.config, [context])
        state = [self._angles(token), mx.array([1.0] if beta is None else beta)]
        for ring in self.rings:
            clock = ring.clock(token, coming=1 if ring is self.own else 0)
            state += [mx.array(clock, dtype=mx.int32), *ring.keys, *ring.values]
        return state

    def end_step(self, written: list[mx.array]) -> None:
        """Take over the own ring's keys and values, as `step_logits` returned them."""
        layers = self.config.num_layers
        self.own.keys, self.own.values = list(written[:layers]), list(written[layers:])
        self.own.advance(1)

    def _angles(self, token: int) -> mx.array:
        page, row = divmod(token, ANCHOR_STRIDE)
        if self._page is None or self._page[0] != page:
            begin = self.start + page * ANCHOR_STRIDE
            rows = self.positions.make_rows(range(begin, begin + ANCHOR_STRIDE))
            self._page = page, mx.split(rows, ANCHOR_STRIDE)  # here once, or a step would do it
        return self._page[1][row]

    # time and rows

    def reset(self) -> None:
        """Forget everything and begin again at token 0; compiled steps stay valid. Not in a fork."""
        if len(self.rings) > 1:
            raise ValueError("reset of a forked cache; reset the cache it came from")
        self.own.rewind(self.own.count)
        self.own.high = 0

    def rewind(self, tokens: int) -> None:
        """Take the last `tokens` back. ValueError beyond `rewindable`: at least `slack` right after new
        ground was gained, less after an earlier rewind; in a fork, not past the fork."""
        if not 0 <= tokens <= self.rewindable:
            raise ValueError(f"rewind by {tokens} tokens; this cache can take back 0 to {self.rewindable}")
        self.own.rewind(tokens)

    def fork(self, rows: int, room: int | None = None) -> Cache:
        """`rows` rows that continue this context and share its keys and values; this cache stays as it is.

        room: tokens each row gets memory for at once (more is added when it is used up).
        """
        if rows < 1:
            raise ValueError(f"fork into {rows} rows; expected at least 1")
        if len(self.rings) > 1 or self.batch > 1:
            raise ValueError(f"fork of a cache that has {self.batch} rows or is forked; take(row) one first")
        if self.position < self.plan.prefix:
            raise ValueError(f"fork at token {self.position}, inside the prefix of {self.plan.prefix}")
        context = self._copy_ring(self.own)
        plan = RingPlan(self.plan.window, 0, self.plan.slack)
        key = self.own.keys[0]
        own = Ring.empty(plan, self.config.num_layers, (rows, key.shape[1], key.shape[3]),
                         self.blank_value, self.position, room)
        forked = Cache.__new__(Cache)
        forked.__dict__ |= self.__dict__ | {"rings": [context, own], "_page": None}
        return forked

    @staticmethod
    def _copy_ring(ring: Ring) -> Ring:
        """The same arrays under a ring of its own; MLX copies an array when one of its two holders writes."""
        copy = Ring(ring.plan, list(ring.keys), list(ring.values), ring.blank_value, ring.first)
        copy.__dict__ |= {name: vars(ring)[name] for name in ("count", "high", "anchor", "written")}
        return copy

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only, in this order."""
        if not rows or not all(0 <= row < self.batch for row in rows):
            raise ValueError(f"keep rows {rows}; expected some of 0 to {self.batch - 1}")
        if list(rows) != list(range(self.batch)):
            self.own.keep(mx.array(rows))

    def take(self, row: int) -> Cache:
        """A cache of batch 1 that holds row `row` alone, context and all, to go on with a chosen candidate.
        """
        if not 0 <= row < self.batch:
            raise ValueError(f"take row {row}; expected 0 to {self.batch - 1}")
        taken = Cache.__new__(Cache)
        taken.__dict__ |= self.__dict__ | {"_page": None}
        ring = self._copy_ring(self.rings[0])
        taken.rings = [ring]
        if len(self.rings) == 1:
            ring.keep(mx.array([row]))
            return taken
        own = self.own
        count = min(own.count, own.plan.size)
        order = mx.array([own.plan.slot(token) for token in range(own.count - count, own.count)], mx.int32)
        ring.advance(own.count - count)
        ring.grow(count)  # the context's ring has no more slots than the context needs
        for layer in range(self.config.num_layers if count else 0):
            ring.write(layer, own.keys[layer][row: row + 1][:, :, order],
                       own.values[layer][row: row + 1][:, :, order])
        ring.advance(count)
        ring.high = max(ring.high, own.first + own.high)  # what the row's ring overwrote is not here either
        mx.eval(ring.keys, ring.values)
        return taken

    # files

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file (to a temporary name first). Not for forked caches."""
        if len(self.rings) > 1:
            raise ValueError("save of a forked cache; take(row) the row to keep first")
        path, ring = Path(path), self.own
        arrays = {f"{name}.{layer}": array for name in ("keys", "values", "written")
                  for layer, array in enumerate(getattr(ring, name) or [])}
        facts = {"config": self.config.to_dict(), "dtype": str(self.dtype), "plan": asdict(ring.plan),
                 "start": self.start, "count": ring.count, "high": ring.high, "anchor": ring.anchor}
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.safetensors")
        try:
            mx.save_safetensors(str(temporary), arrays, metadata={"mlxgen_cache": json.dumps(facts)})
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, path: str | Path) -> None:
        """Become what `save` wrote: for an unforked cache of the same model, window, prefix and slack.
        ValueError otherwise; this cache is then as it was."""
        saved = load_cache(self, path)
        if len(self.rings) > 1:
            raise ValueError("load into a forked cache; load into the cache it came from")
        if saved.plan != self.plan:
            raise ValueError(f"{path}: saved with {saved.plan}; this cache has {self.plan}")
        self.rings, self.start, self._page = saved.rings, saved.start, None


def make_cache(model, batch: int = 1, window: int | None = None, prefix: int = 0, slack: int = 0,
               start: int = 0) -> Cache:
    """An empty cache; see Model.make_cache."""
    if window is None:
        window = model.config.max_seq_len - (prefix + ANCHOR_STRIDE if prefix else 0)
        if window < 1:
            most = model.config.max_seq_len - ANCHOR_STRIDE - 1
            raise ValueError(f"cache prefix is {prefix}; expected at most {most}, or an explicit window")
    if batch < 1:
        raise ValueError(f"cache batch is {batch}; expected at least 1")
    plan = RingPlan(window, prefix, slack)
    shape = (batch, model.config.num_kv_heads, model.positions.width)
    ring = Ring.empty(plan, model.config.num_layers, shape, model.blank_value)
    return Cache(model, [ring], start)


def load_cache(model, path: str | Path) -> Cache:
    """What `save` wrote, for the same model. ValueError when the file is none or belongs to another model."""
    try:
        arrays, metadata = mx.load(str(path), return_metadata=True)
        facts = json.loads(metadata["mlxgen_cache"])
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a saved cache ({str(error).splitlines()[0]})") from None
    if facts["config"] != model.config.to_dict():
        raise ValueError(f"{path}: saved with another model")
    layers = range(model.config.num_layers)
    if facts.get("dtype") != str(model.dtype):
        raise ValueError(f"{path}: saved by a model in {facts.get('dtype')}; this one runs in {model.dtype}")
    keys, values = ([arrays[f"{name}.{layer}"] for layer in layers] for name in ("keys", "values"))
    ring = Ring(RingPlan(**facts["plan"]), keys, values, model.blank_value)
    ring.count, ring.high, ring.anchor = facts["count"], facts["high"], facts["anchor"]
    if "written.0" in arrays:
        ring.written = [arrays[f"written.{layer}"] for layer in layers]
    return Cache(model, [ring], facts["start"])
