"""Temperature, top-k, top-p, min-p and the draw: pure functions over the last axis, in upstream's order.

Forbidden ids carry -inf. A draw is the argmax of logits plus Gumbel noise (the Gumbel-max trick, which draws
exactly from softmax), and the noise of a row at a position is a function of (the row's seed, the position)
alone: a row draws the same ids in any batch, and a rewound row draws them again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

Knobs = tuple[mx.array, mx.array, mx.array, mx.array, mx.array]

_MASK_64 = (1 << 64) - 1


@dataclass(frozen=True)
class SamplingParams:
    """How to draw. temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 switch that filter off."""

    temperature: float = 0.9
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.03

    def __post_init__(self):
        if not (0 <= self.temperature < math.inf):
            raise ValueError(f"temperature {self.temperature}: expected 0 or more")
        if self.top_k < 0 or self.top_k != int(self.top_k):
            raise ValueError(f"top_k {self.top_k}: expected a whole number, 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: expected above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p {self.min_p}: expected 0 to 1")


def apply_temperature(logits: mx.array, temperature: float | mx.array) -> mx.array:
    """Logits divided by the temperature (above 0)."""
    return logits / temperature


def apply_top_k(logits: mx.array, top_k: int | mx.array) -> mx.array:
    """Keep the `top_k` largest (and those equal to the last of them); 0 keeps all."""
    size = logits.shape[-1]
    place = mx.where(mx.array(top_k) == 0, 0, mx.maximum(size - mx.array(top_k), 0))
    place = mx.broadcast_to(place, (*logits.shape[:-1], 1))
    least = mx.take_along_axis(mx.sort(logits, axis=-1), place, axis=-1)
    return mx.where(logits >= least, logits, -mx.inf)


def apply_top_p(logits: mx.array, top_p: float | mx.array) -> mx.array:
    """Keep the most likely ids until their probabilities exceed `top_p`, the one that crosses it included."""
    order = mx.argsort(-logits, axis=-1)
    likely_first = mx.take_along_axis(mx.softmax(logits, axis=-1), order, axis=-1)
    before = mx.cumsum(likely_first, axis=-1) - likely_first
    kept = mx.take_along_axis(before <= top_p, mx.argsort(order, axis=-1), axis=-1)
    return mx.where(kept, logits, -mx.inf)


def apply_min_p(logits: mx.array, min_p: float | mx.array) -> mx.array:
    """Keep the ids at least `min_p` times as likely as the likeliest (arXiv 2407.01082); 0 keeps all.

    p >= min_p * max(p) is logit >= max(logit) + log(min_p): no softmax is needed.
    """
    return apply_log_min_p(logits, mx.log(mx.array(min_p, dtype=mx.float32)))


def apply_log_min_p(logits: mx.array, log_min_p: mx.array) -> mx.array:
    """`apply_min_p` given log(min_p)."""
    least = mx.max(logits, axis=-1, keepdims=True) + log_min_p
    return mx.where(logits >= least, logits, -mx.inf)


def make_row_keys(seeds: Sequence[int]) -> mx.array:
    """Seeds -> (B,) uint32 row keys. Any whole number is a seed; neighbouring seeds give unrelated keys."""
    keys = []
    for seed in seeds:
        mixed = (int(seed) + 0x9E3779B97F4A7C15) & _MASK_64  # the finaliser of splitmix64
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK_64
        keys.append((mixed ^ (mixed >> 31)) & 0xFFFFFFFF)
    return mx.array(keys, dtype=mx.uint32)


def gumbel_noise(row_keys: mx.array, first_position: int, count: int, size: int) -> mx.array:
    """Noise for `count` positions: (count, B, size) float32, each (position, row) from its own key."""
    positions = (mx.arange(count, dtype=mx.uint32) + (first_position & 0xFFFFFFFF)).astype(mx.uint32)
    rows = row_keys.shape[0]
    keys = mx.stack([mx.broadcast_to(row_keys[None], (count, rows)),
                     mx.broadcast_to(positions[:, None], (count, rows))], axis=-1)
    draw = mx.vmap(lambda key: mx.random.gumbel((size,), key=key))
    return draw(keys.reshape(-1, 2)).reshape(count, rows, size)


def apply_filters(logits: mx.array, knobs: Knobs, use_top_k: bool, use_top_p: bool) -> mx.array:
    """Temperature, top-k, top-p, min-p, in upstream's order; (B, V) -> (B, V). `knobs`: see `make_knobs`."""
    divisor, _, top_k, top_p, log_min_p = knobs
    logits = apply_temperature(logits, divisor)
    if use_top_k:
        logits = apply_top_k(logits, top_k)
    if use_top_p:
        logits = apply_top_p(logits, top_p)
    return apply_log_min_p(logits, log_min_p)


def make_knobs(params: SamplingParams) -> Knobs:
    """Divisor, noise scale, top-k, top-p, log of min-p: arrays, so that turning a knob compiles nothing.

    Greedy is divisor 1 and noise scale 0: the argmax itself.
    """
    greedy = params.temperature == 0
    log_min_p = math.log(params.min_p) if params.min_p else -math.inf
    return (mx.array(1.0 if greedy else params.temperature), mx.array(0.0 if greedy else 1.0),
            mx.array(params.top_k), mx.array(params.top_p), mx.array(log_min_p))


def draw(logits: mx.array, noise: mx.array, knobs: Knobs) -> mx.array:
    """(B, V) filtered logits and (B, V) noise -> (B, 1) int32 ids."""
    return mx.argmax(logits + noise * knobs[1], axis=-1, keepdims=True).astype(mx.int32)


def apply_log_probability(logits: mx.array, ids: mx.array) -> mx.array:
    """log softmax of (B, V) logits at (B, 1) ids: (B, 1) float32."""
    chosen = mx.take_along_axis(logits, ids, axis=-1)
    return chosen - mx.logsumexp(logits, axis=-1, keepdims=True)
