"""Positions of queries and keys: PoPE, RoPE, none, and DroPE, which is any of them with the angles taken
away.

Angles. Scores depend on differences of positions only, so a position may be counted from anywhere, but it
must be exact: a float32 product t * w is wrong by 0.06 rad at a million tokens. Here the frequency of every
dimension is a whole number of 2^-64 turns a token, and the phase of token t is t * turns modulo 2^64 in
wrapping integers. This is exactly linear in t for any t, so nothing drifts after fifty million tokens or
after 2^64. Only the last step, phase -> cos and sin, is rounded: in float64, then once to float32.

PoPE (arXiv 2509.10534): w_c = theta^(-c/D), c < D; x -> (softplus(x) cos, softplus(x) sin), 2 D wide, scale
1/sqrt(2 D). RoPE: w_j = theta^(-2j/D), j < D/2, first half turned with second half, scale 1/sqrt(D).
DroPE (arXiv 2512.12167): no angles; a PoPE model keeps its softplus and its scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlxgen.model.config import ModelConfig

TURN = 2.0**64


# Ways to place heads x (..., T, K, 1, D * G), under softplus already if they are to be, by rows
# (T, 1, 2, n * G): (..., T, K, parts, width / parts * G). G heads stand side by side behind the dimension
# that is turned, which is how queries enter a product.


def place_pope(x: mx.array, rows: mx.array) -> mx.array:
    return x * rows


def place_rope(x: mx.array, rows: mx.array) -> mx.array:
    first, second = mx.split(x, 2, axis=-1)
    return mx.concatenate(turn_pair(first, second, *mx.split(rows, 2, axis=-2)), axis=-1)


def turn_pair(first: mx.array, second: mx.array, cos: mx.array, sin: mx.array) -> list[mx.array]:
    return [first * cos - second * sin, second * cos + first * sin]


def place_nothing(x: mx.array, rows: mx.array) -> mx.array:
    return x


@dataclass(frozen=True)
class Positions:
    """How one model places its queries and keys.

    width: of a query or key head. scale: of the scores. turns: (n,) uint64, 2^-64 turns a token for each
    angle, n = 0 without positions. lifted: queries and keys go through softplus first. place: see place_pope
    and its neighbours; rows are from `make_rows`.
    """

    width: int
    scale: float
    turns: np.ndarray
    lifted: bool
    place: Callable[[mx.array, mx.array], mx.array]

    def make_rows(self, positions: Iterable[int]) -> mx.array:
        """cos and sin of every position: (T, 2, n) float32. Positions are whole numbers of any size and
        sign.
        """
        wrapped = np.array([int(position) % 2**64 for position in positions], dtype=np.uint64)
        with np.errstate(over="ignore"):
            phases = wrapped[:, None] * self.turns  # modulo 2^64, on purpose
        angles = phases.astype(np.float64) * (2 * math.pi / TURN)
        return mx.array(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))

    def turn(self, keys: mx.array, row: mx.array) -> mx.array:
        """Keys (..., width) moved by the one position of `row` (1, 2, n). PoPE's cos and sin halves turn
        into each other as RoPE's two halves do."""
        if not len(self.turns):
            return keys
        first, second = mx.split(keys, 2, axis=-1)
        return mx.concatenate(turn_pair(first, second, row[0, 0], row[0, 1]), axis=-1)


def make_turns(frequencies: np.ndarray) -> np.ndarray:
    """Radians a token (float64, below one turn) -> whole 2^-64 turns a token."""
    return np.array([int(frequency / (2 * math.pi) * TURN) for frequency in frequencies], dtype=np.uint64)


def make_pope(config: ModelConfig) -> Positions:
    width = config.head_dim
    if config.drope:
        return Positions(width, (2 * width) ** -0.5, make_turns(np.empty(0)), True, place_nothing)
    frequencies = config.rope_theta ** (-np.arange(width, dtype=np.float64) / width)
    return Positions(2 * width, (2 * width) ** -0.5, make_turns(frequencies), True, place_pope)


def make_rope(config: ModelConfig) -> Positions:
    if config.drope:
        return make_none(config)
    width = config.head_dim
    frequencies = config.rope_theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    return Positions(width, width**-0.5, make_turns(frequencies), False, place_rope)


def make_none(config: ModelConfig) -> Positions:
    return Positions(config.head_dim, config.head_dim**-0.5, make_turns(np.empty(0)), False, place_nothing)


# config.pos_encoding -> builder
POSITIONS: dict[str, Callable[[ModelConfig], Positions]] = {
    "pope": make_pope, "rope": make_rope, "none": make_none}


def make_positions(config: ModelConfig) -> Positions:
    return POSITIONS[config.pos_encoding](config)


def has_beta(config: ModelConfig) -> bool:
    return config.drope and config.drope_scale_c is not None


def make_beta(config: ModelConfig, context: Iterable[int]) -> np.ndarray | None:
    """DroPE's scale of the scores for queries that see `context` tokens each: beta = 1 + c ln(s), s =
    context / train_seq_len, 1 up to the training length; (T,) float32, None when the model has no scale."""
    if not has_beta(config):
        return None
    ratio = np.maximum(1.0, np.array(list(context), dtype=np.float64) / config.train_seq_len)
    return (1 + config.drope_scale_c * np.log(ratio)).astype(np.float32)
