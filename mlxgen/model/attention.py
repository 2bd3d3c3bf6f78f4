"""Attention over several stretches of keys, merged exactly.

A stretch (`Part`) is a context that all rows share, the rows' own tokens, or a block being written. Each
gives its own maximum m, sum l and weighted values o; the whole is sum(w o) / sum(w l) with w = 2^(m - max
m), which is what one softmax over all keys would give. Powers of two instead of e: log2(e) goes into the
scale of the scores for nothing, and MLX's 2^x takes a third of the time of its e^x and of its softmax on
the Linux CPU (4096 x 8 scores: 115, 514 and 398 us); `falling_powers` takes half of that again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from mlxgen.model.positions import LOG2_E

HIDDEN = -1e30  # added to a score that must not count; finite, so that nothing is NaN
FUSED_WIDTHS = (64, 96, 128, 256)  # of MLX's single-query attention kernel on Metal


@dataclass(frozen=True)
class Part:
    """keys (B or 1, Hkv, S, Dk), values (B or 1, Hkv, S, Dv), mask (S,) or (T, S) added to the scores, or
    None.
    """

    keys: mx.array
    values: mx.array
    mask: mx.array | None


# 2^y on [0, 2] to a relative 1.1e-8, least squares on Chebyshev points
POLYNOMIAL = (1.0, 0.6931479075504833, 0.24021795307866706, 0.05554139548791022, 0.009540225678880543,
              0.0014195758051162093, 0.00010288545911538383, 3.0050548424740817e-05)


@partial(mx.compile, shapeless=True)
def falling_powers(scores: mx.array, maximum: mx.array) -> mx.array:
    """2^(scores - maximum) for scores up to the maximum, to a relative 2e-6; exactly 0 from 32 below on.

    Multiplications and an absolute value only, which a compiler turns into vector code: 2^d = (2^(c /
    16))^16 2^-32 with c = d + 32 where that is positive. 1.4 ns a score on one core of the Linux CPU; MLX's
    2^x 3.3, its softmax 17 to 22, and a clamp written as `maximum` or `where` alone 4.
    """
    shifted = scores - maximum + 32
    y = (shifted + mx.abs(shifted)) * (1 / 32)
    power = POLYNOMIAL[-1]
    for coefficient in POLYNOMIAL[-2::-1]:
        power = power * y + coefficient
    for _ in range(4):
        power = power * power
    return (power - 1) * 2.0**-32


def hide(visible: mx.array) -> mx.array:
    """bool -> what is added to scores, float32: 0 where visible."""
    return mx.where(visible, mx.array(0.0), mx.array(HIDDEN))


def attend_block(queries: mx.array, parts: list[Part], scale: float) -> mx.array:
    """Several tokens a row: queries (B, T, H, Dk) float32 -> (B, T, H * Dv) in the dtype of the values."""
    batch, length, heads, width = queries.shape
    kv_heads = parts[0].keys.shape[1]
    grouped = queries.reshape(batch, length, kv_heads, heads // kv_heads, width)
    blocks = grouped.transpose(0, 2, 3, 1, 4)  # (B, Hkv, G, T, Dk)
    merged = merge([attend_part(blocks, part, scale, expand=True) for part in parts])
    return merged.transpose(0, 3, 1, 2, 4).reshape(batch, length, -1).astype(parts[0].values.dtype)


def attend_step(queries: mx.array, parts: list[Part], scale: float) -> mx.array:
    """One token a row: queries (B, H, Dk) float32 -> (B, H * Dv) in the dtype of the values.

    The query heads of a kv head are matrix rows, so each key is read once; so are the rows of the batch where
    they share the part: a context is read once for all.
    """
    batch, heads, width = queries.shape
    kv_heads = parts[0].keys.shape[1]
    if len(parts) == 1 and is_fused(parts[0]):
        part, dtype = parts[0], parts[0].keys.dtype
        out = mx.fast.scaled_dot_product_attention(
            queries[:, :, None].astype(dtype), part.keys, part.values, scale=scale,
            mask=part.mask.astype(dtype))
        return out.reshape(batch, -1)
    grouped = queries.reshape(batch, kv_heads, heads // kv_heads, width)
    merged = merge([attend_rows(grouped, part, scale) for part in parts])
    return merged.reshape(batch, -1).astype(parts[0].values.dtype)


def is_fused(part: Part) -> bool:
    """Whether MLX has one kernel for this: on a GPU, for keys and values of the same, supported width."""
    width = part.keys.shape[-1]
    return (mx.default_device().type == mx.DeviceType.gpu and part.mask is not None
            and width == part.values.shape[-1] and width in FUSED_WIDTHS)


def attend_rows(queries: mx.array, part: Part, scale: float) -> tuple[mx.array, mx.array, mx.array]:
    """queries (B, Hkv, G, Dk), one token a row; folds the batch into matrix rows where the part is shared."""
    batch, kv_heads, group, width = queries.shape
    if batch == 1 or part.keys.shape[0] == batch:
        return attend_part(queries, part, scale)
    folded = queries.swapaxes(0, 1).reshape(1, kv_heads, batch * group, width)
    return tuple(result.reshape(kv_heads, batch, group, -1).swapaxes(0, 1)
                 for result in attend_part(folded, part, scale))


def attend_part(queries: mx.array, part: Part, scale: float,
                expand: bool = False) -> tuple[mx.array, mx.array, mx.array]:
    """One stretch: (maximum, sum, weighted values), not yet divided. `expand`: queries (B, Hkv, G, T, Dk)."""
    keys, values = part.keys, part.values
    if expand:
        keys, values = keys[:, :, None], values[:, :, None]
    # float16 scores of a trained model are wrong by 0.03: they are taken in float32 whatever the weights
    keys = keys.astype(mx.float32).swapaxes(-1, -2)
    if part.mask is None:
        scores = (queries * (scale * LOG2_E)) @ keys
    else:
        scores = mx.addmm(part.mask, queries, keys, alpha=scale * LOG2_E)
    maximum = scores.max(axis=-1, keepdims=True)
    powers = falling_powers(scores, maximum)
    return maximum, powers.sum(axis=-1, keepdims=True), powers @ values.astype(mx.float32)


def merge(results: list[tuple[mx.array, mx.array, mx.array]]) -> mx.array:
    if len(results) == 1:
        _, total, weighted = results[0]
        return weighted / total
    highest = results[0][0]
    for maximum, _, _ in results[1:]:
        highest = mx.maximum(highest, maximum)
    total = weighted = 0
    for maximum, part_total, part_weighted in results:
        weight = falling_powers(maximum, highest)
        total = total + weight * part_total
        weighted = weighted + weight * part_weighted
    return weighted / total
