"""Attention over several stretches of keys, merged exactly, in float32.

A stretch (`Part`) is a context that all rows share, the rows' own tokens, or a block being written. Each
gives its own maximum m and weighted values o with their sum l; the whole is sum(w o) / sum(w l) with w =
e^(m - max m), which is what one softmax over all keys would give. Scores are in units of exponentials.py,
which the scale of the products gives for nothing.

Values carry a column of ones (see Model), so that l is a column of o. Scores stand as (keys, queries): the
keys are read as they lie, the product's narrow side is contiguous, and maxima run over whole rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlxgen.model.exponentials import UNIT, decay
from mlxgen.model.streams import spread

HIDDEN = -1e30  # added to a score that must not count; finite, so that nothing is NaN
FUSED_WIDTHS = (64, 96, 128, 256)  # of MLX's single-query attention kernel on Metal
# OpenBLAS multiplies without packing its operands up to this many products; twice as fast for few queries
UNPACKED = 10**6
FEW = 64  # queries (times heads of a group) that share a key; above it a product packs anyway
LONG = 1024  # keys from which a maximum in two stages is faster: 48 -> 15 us for 4096 x 8 scores


@dataclass(frozen=True)
class Part:
    """keys (B or 1, Hkv, S, Dk), values (B or 1, Hkv, S, Dv), mask (..., S, R) added to the scores, or None.

    R counts queries: the heads of a group for every token of every row that the part is for.
    """

    keys: mx.array
    values: mx.array
    mask: mx.array | None

# of one stretch: maximum (B, Hkv, R, 1), weighted values (B, Hkv, R, Dv), their sum (B, Hkv, R, 1)
Attended = tuple[mx.array, mx.array, mx.array]


@mx.compile
def fall(scores: mx.array, maximum: mx.array) -> mx.array:
    return decay(maximum - scores)


def hide(visible: mx.array) -> mx.array:
    """bool -> what is added to scores, float32: 0 where visible."""
    return mx.where(visible, mx.array(0.0), mx.array(HIDDEN))


def hide_slots(visible: mx.array, kv_heads: int, queries: int) -> mx.array:
    """(S,) bool -> the mask (1, Hkv, S, R) of a step, written out: MLX on a CPU copies it into the scores of
    every layer, and copies what is contiguous ten times faster."""
    return mx.where(visible[:, None], mx.zeros((1, kv_heads, len(visible), queries)), mx.array(HIDDEN))


def heads_first(keys: mx.array, values: mx.array, blank_value: mx.array) -> tuple[mx.array, mx.array]:
    """Of a block, (B, T, Hkv, 1, width) -> (B, Hkv, T, width); values as wide as `blank_value` (Dv,) is."""
    keys, values = (heads.squeeze(3).swapaxes(1, 2) for heads in (keys, values))
    *lead, width = values.shape
    rest = mx.broadcast_to(blank_value[width:], (*lead, blank_value.size - width))
    return keys, mx.concatenate([values, rest], axis=-1)


def attend_block(queries: mx.array, parts: list[Part], scale: float, ones: int | None,
                 streams: Sequence[mx.Stream] = ()) -> mx.array:
    """Several tokens a row: queries (B, T, Hkv, Dk, G) -> (B, T, H * Dv).

    Masks have T * G columns, the G of a token together. ones: the column of ones in the values, if any.
    streams: the kv heads are dealt out to them.
    """
    batch, length, kv_heads, width, group = queries.shape
    columns = queries.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, width, length * group)

    def attend_heads(heads: slice) -> mx.array:
        own = [Part(part.keys[:, heads], part.values[:, heads], part.mask) for part in parts]
        return merge([attend_part(columns[:, heads], part, scale, ones) for part in own])

    merged = spread(attend_heads, kv_heads, streams, axis=1)
    apart = merged.reshape(batch, kv_heads, length, group, -1).transpose(0, 2, 1, 3, 4)
    return apart.reshape(batch, length, -1)


def attend_step(queries: mx.array, parts: list[Part], scale: float, ones: int | None) -> mx.array:
    """One token a row: queries (B, Hkv, Dk, G) -> (B, H * Dv).

    The query heads of a kv head are columns, so each key is read once; so are the rows of the batch where
    they share the part: a context is read once for all.
    """
    merged = merge([attend_rows(queries, part, scale, ones) for part in parts])
    return merged.reshape(queries.shape[0], -1)


def attend_fused(queries: mx.array, part: Part, scale: float) -> mx.array:
    """`attend_step` in the one kernel that MLX has for it: queries (B, H, 1, Dk), mask (S,)."""
    out = mx.fast.scaled_dot_product_attention(queries, part.keys, part.values, scale=scale, mask=part.mask)
    return out.reshape(queries.shape[0], -1)


def attend_rows(queries: mx.array, part: Part, scale: float, ones: int | None) -> Attended:
    """One token a row; the batch stands in columns where the part is shared."""
    batch, kv_heads, width, group = queries.shape
    if batch == 1 or part.keys.shape[0] == batch:
        return attend_part(queries, part, scale, ones)
    folded = queries.transpose(1, 2, 0, 3).reshape(1, kv_heads, width, batch * group)
    return tuple(result.reshape(kv_heads, batch, group, -1).swapaxes(0, 1)
                 for result in attend_part(folded, part, scale, ones))


def attend_part(queries: mx.array, part: Part, scale: float, ones: int | None) -> Attended:
    """One stretch: queries (B, Hkv, Dk, R)."""
    scores = score(part.keys, queries, part.mask, scale * UNIT)
    maximum = highest(scores)
    powers = fall(scores, maximum)
    weighted = powers.swapaxes(-1, -2) @ part.values
    total = powers.sum(axis=-2)[..., None] if ones is None else weighted[..., ones: ones + 1]
    return maximum.swapaxes(-1, -2), weighted, total


def score(keys: mx.array, queries: mx.array, mask: mx.array | None, scale: float) -> mx.array:
    """(B, Hkv, S, R), in pieces where that keeps the product small enough for the fast path of the BLAS."""
    *lead, slots, width = keys.shape
    columns = queries.shape[-1]
    pieces = -(-slots * columns * width // UNPACKED)
    if pieces == 1 or columns > FEW or slots % pieces or mask is None:
        return (keys @ (queries * scale)) if mask is None else mx.addmm(mask, keys, queries, alpha=scale)
    cut = keys.reshape(*lead, pieces, slots // pieces, width)
    masks = mask.reshape(*mask.shape[:-2], pieces, slots // pieces, columns)
    pieced = mx.addmm(masks, cut, queries[..., None, :, :], alpha=scale)
    return pieced.reshape(*pieced.shape[:-3], slots, columns)


def highest(scores: mx.array) -> mx.array:
    """(..., S, R) -> (..., 1, R), the largest of every column."""
    *lead, slots, columns = scores.shape
    if slots >= LONG and FEW % columns == 0 and slots * columns % FEW == 0:
        scores = scores.reshape(*lead, -1, FEW).max(axis=-2).reshape(*lead, -1, columns)
    return scores.max(axis=-2, keepdims=True)


def merge(results: list[Attended]) -> mx.array:
    if len(results) == 1:
        _, weighted, total = results[0]
        return weighted / total
    top = results[0][0]
    for maximum, _, _ in results[1:]:
        top = mx.maximum(top, maximum)
    weights = [fall(maximum, top) for maximum, _, _ in results]
    weighted, total = (sum(weight * result[index] for weight, result in zip(weights, results, strict=True))
                       for index in (1, 2))
    return weighted / total
