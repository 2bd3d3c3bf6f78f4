"""Ring: the keys and values of one stretch of tokens, in fixed slots [prefix | ring of W + slack].

`RingPlan` is the arithmetic (which slot, who is visible, where the prefix stands); `Ring` owns the arrays.

The plan. Tokens are counted from 0; the first P are the pinned prefix, token t < P lies in slot t, token t
>= P in slot P + (t - P) mod N, N = W + slack. The query of token t sees the whole prefix and the tokens t -
W + 1 .. t of the rest. The slots that a rewind of up to `slack` tokens brings back into view are the ones
that age out of the window last, so they are still there.

The anchor schedule. Window keys keep the position at which they were written. The prefix would fall behind
without bound; instead, for the query of token t, prefix token i stands at position i + h(t),

    h(t) = 64 * max(0, (t - (P + W - 1)) // 64)

so while nothing has been dropped the prefix stands where it was written, and for ever after its last token
is between W and W + 63 tokens behind the query. h is a function of t alone: a rewind brings the old anchor
back. Keys are moved by turning an untouched copy of what was written, never by turning what was turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx
import numpy as np

from mlxgen.model.positions import Positions

ANCHOR_STRIDE = 64  # C: tokens between two anchors of the prefix
READ_STRIDE = 256  # slots are read in multiples of this, so that a compiled step has few shapes
SHORT, SHORT_ROWS = (128,), (64, 128)  # before; for many rows a shape more is worth its tracing
TILE = 512  # slots that a block of tokens attends to at once: its scores stay in the cache of the processor
DTYPE = mx.float32  # of keys and values, whatever the weights are (see Model)
PADDED = 64  # slots are allocated in multiples of this, so that products can be cut into equal pieces


@dataclass(frozen=True)
class RingPlan:
    """window W, prefix P and slack in tokens."""

    window: int
    prefix: int = 0
    slack: int = 0

    def __post_init__(self):
        for name, least in (("window", 1), ("prefix", 0), ("slack", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"cache {name} is {value!r}; expected a whole number of at least {least}")

    @property
    def size(self) -> int:
        """N, slots of the ring."""
        return self.window + self.slack

    @property
    def slots(self) -> int:
        return self.prefix + self.size

    @property
    def padded(self) -> int:
        """Slots with the room behind them that nothing is written to."""
        return -(-self.slots // PADDED) * PADDED

    def slot(self, token: int) -> int:
        return token if token < self.prefix else self.prefix + (token - self.prefix) % self.size

    def anchor(self, token: int) -> int:
        """h(t): how far the prefix is moved for the query of `token`; 0 without a prefix."""
        if not self.prefix:
            return 0
        return ANCHOR_STRIDE * max(0, (token - (self.prefix + self.window - 1)) // ANCHOR_STRIDE)

    def same_anchor(self, token: int) -> int:
        """How many tokens from `token` on share its anchor and its side of the prefix's end."""
        if token < self.prefix:
            return self.prefix - token
        if not self.prefix:
            return self.window + self.slack
        past = token - (self.prefix + self.window - 1)
        return ANCHOR_STRIDE - past if past < 0 else ANCHOR_STRIDE - past % ANCHOR_STRIDE

    def read_length(self, count: int, batch: int) -> int:
        """Slots to read when `count` tokens are held: enough, and one of few values."""
        for short in SHORT if batch == 1 else SHORT_ROWS:
            if count <= short < self.slots:
                return short
        return min(self.padded, -(-count // READ_STRIDE) * READ_STRIDE)


@dataclass(frozen=True)
class RingShape:
    """What of a ring is fixed during a step: rows of the batch, slots read, layout."""

    batch: int
    read: int
    plan: RingPlan


@lru_cache(maxsize=32)
def _slot_numbers(count: int) -> mx.array:
    """0, 1, 2, ...: there already, or every step would count them."""
    numbers = mx.array(np.arange(count, dtype=np.int32))
    mx.eval(numbers)
    return numbers


def visible_slots(shape: RingShape, clock: mx.array) -> mx.array:
    """clock (4,) int32 from Ring.clock -> (read,) bool: the slots that the query may see."""
    prefix, size = shape.plan.prefix, shape.plan.size
    slots = _slot_numbers(shape.read)
    _, pinned, cursor, visible = mx.split(clock, 4)
    age = cursor - (slots - prefix)  # of the last token of the ring: 0
    age = mx.where(age < 0, age + size, age)
    return (slots < pinned) | ((slots >= prefix) & (slots < prefix + size) & (age < visible))


class Ring:
    """keys[layer] (B, Hkv, slots, Dk) at their positions, values[layer] (B, Hkv, slots, Dv), of DTYPE.

    `first` is the token index of the first token it holds, `count` how many it has taken in, `high` the
    most it ever had: older tokens than `high` - N are overwritten.
    """

    def __init__(self, plan: RingPlan, keys: list[mx.array], values: list[mx.array], blank_value: mx.array,
                 first: int = 0):
        self.plan, self.keys, self.values, self.first = plan, keys, values, first
        self.blank_value = blank_value
        self.count = self.high = 0
        self.anchor = 0
        self.written: list[mx.array] | None = None  # prefix keys as they were written, once they have moved

    @classmethod
    def empty(cls, plan: RingPlan, layers: int, key_shape: Sequence[int], blank_value: mx.array,
              first: int = 0, slots: int | None = None) -> Ring:
        """key_shape (B, Hkv, Dk); blank_value (Dv,): of a slot that nothing was written to; `slots`: how many
        are there from the beginning, see grow."""
        *lead, width = key_shape
        keys = [mx.zeros((*lead, 0, width), DTYPE) for _ in range(layers)]
        values = [mx.zeros((*lead, 0, blank_value.size), DTYPE) for _ in range(layers)]
        ring = cls(plan, keys, values, blank_value, first)
        ring._extend(plan.read_length(1, ring.batch) if slots is None else min(slots, plan.padded))
        return ring

    @property
    def batch(self) -> int:
        return self.keys[0].shape[0]

    @property
    def allocated(self) -> int:
        return self.keys[0].shape[2]

    @property
    def rewindable(self) -> int:
        """Tokens that can be taken back now."""
        if self.high <= self.plan.slots:
            return self.count
        return max(0, self.count - (self.high - self.plan.slack))

    def rewind(self, tokens: int) -> None:
        self.count -= tokens
        if self.high <= self.plan.slots:
            self.high = self.count
        if self.count < self.plan.prefix and self.written is not None:
            for layer, keys in enumerate(self.written):
                self.keys[layer] = mx.slice_update(self.keys[layer], keys, mx.array([0]), [2])
            self.written, self.anchor = None, 0

    def shape(self, coming: int = 0) -> RingShape:
        """`coming`: tokens about to be written before the ring is read."""
        read = min(self.plan.read_length(self.count + coming, self.batch), self.allocated)
        return RingShape(self.batch, max(read, 1), self.plan)

    def clock(self, token: int, coming: int = 0) -> list[int]:
        """For the query of token index `token`: slot of the next write, prefix tokens, place of the last
        token in the ring, tokens of the ring that are visible (may be negative)."""
        plan, count = self.plan, self.count + coming
        behind = token - (self.first + count - 1)
        cursor = (count - 1 - plan.prefix) % plan.size
        visible = min(count - plan.prefix, plan.window - behind)
        return [plan.slot(self.count), min(count, plan.prefix), cursor, max(-1, visible)]

    def block_mask(self, tokens: range, slots: slice) -> np.ndarray:
        """(len(tokens), slots) bool: which of the slots the query of each token may see, nothing new
        written."""
        numbers = np.arange(self.allocated)[slots]
        prefix, size = self.plan.prefix, self.plan.size
        rows = []
        for token in tokens:
            _, prefix_count, cursor, visible = self.clock(token)
            age = (cursor - (numbers - prefix)) % size
            in_ring = (numbers >= prefix) & (numbers < prefix + size)
            rows.append((numbers < prefix_count) | (in_ring & (age < visible)))
        return np.stack(rows)

    def tiles(self, tokens: range, padded: int) -> list[tuple[slice, np.ndarray | None]]:
        """The slots that some query of consecutive `tokens` may see, in tiles of one size, nothing new
        written: (slots, None) where all queries see all of them, else (slots, (padded, slots) bool).
        padded: rows of the masks, of which those behind the tokens mean nothing."""
        size = min(TILE, self.allocated)
        seen_first, seen_last = (self.block_mask(range(token, token + 1), slice(0, self.allocated))[0]
                                 for token in (tokens[0], tokens[-1]))
        tiles = []
        for start in range(0, self.shape().read, size):
            slots = slice(min(start, self.allocated - size), min(start, self.allocated - size) + size)
            new = np.arange(slots.start, slots.stop) >= start  # not in the tile before
            if not (new & seen_first[slots]).any():
                continue
            whole = (new & seen_last[slots]).all()
            rows = range(tokens[0], tokens[0] + padded)
            tiles.append((slots, None if whole else new & self.block_mask(rows, slots)))
        return tiles

    def grow(self, coming: int) -> None:
        """Make room for `coming` more tokens: as many slots as a step reads, so that it need not cut them."""
        needed = min(self.count + coming, self.plan.slots)
        if needed <= self.allocated:
            return
        self._extend(self.plan.read_length(needed, self.batch))

    def _extend(self, slots: int) -> None:
        for arrays, blank in ((self.keys, mx.array(0.0)), (self.values, self.blank_value)):
            for layer, old in enumerate(arrays):
                batch, heads, held, width = old.shape
                room = mx.broadcast_to(blank, (batch, heads, slots - held, width))
                arrays[layer] = mx.concatenate([old, room], axis=2)
        mx.async_eval(self.keys, self.values)

    def write(self, layer: int, keys: mx.array, values: mx.array) -> None:
        """keys, values (B, Hkv, T, width) of the next T tokens, T at most N; call `advance` after the last
        layer.
        """
        plan, done, length = self.plan, 0, keys.shape[2]
        while done < length:
            token = self.count + done
            slot = plan.slot(token)
            end = plan.prefix if token < plan.prefix else plan.slots
            part = min(length - done, end - slot)
            start = mx.array([slot])
            for arrays, new in ((self.keys, keys), (self.values, values)):
                arrays[layer] = mx.slice_update(arrays[layer], new[:, :, done: done + part], start, [2])
            done += part

    def advance(self, tokens: int) -> None:
        self.count += tokens
        self.high = max(self.high, self.count)

    def move_prefix(self, anchor: int, positions: Positions) -> None:
        """Stand the prefix `anchor` tokens later than it was written."""
        if anchor == self.anchor:
            return
        prefix = self.plan.prefix
        if self.written is None:
            self.written = [mx.contiguous(keys[:, :, :prefix]) for keys in self.keys]
            mx.eval(self.written)
        row = positions.make_rows([anchor])
        for layer, written in enumerate(self.written):
            moved = written if anchor == 0 else positions.turn(written, row)
            self.keys[layer] = mx.slice_update(self.keys[layer], moved, mx.array([0]), [2])
        self.anchor = anchor

    def keep(self, rows: mx.array) -> None:
        self.keys, self.values = [k[rows] for k in self.keys], [v[rows] for v in self.values]
        if self.written is not None:
            self.written = [keys[rows] for keys in self.written]
        mx.eval(self.keys, self.values)
