"""From a measure to a penalty: how unusual it would be in a real piece of that size, in nats of tail
probability."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mlxgen.scoring.measure import Measure

SLOPE_BELOW = 0.08  # how much usual nats count: enough to order two usual pieces
EXACT_Z = 8.0
LARGEST_Z = 30.0


def count_tail(total: float, exposure: float, rate: float, shape: float) -> float:
    """-log P(N >= total) nats for a negative binomial of mean rate * exposure and shape `shape`.

    `shape` says how unequal pieces are: a gamma of that shape multiplies each piece's own rate, so that a
    habit of the corpus is no fault. Large counts use the normal tail of the square root. 0.. nats.
    """
    if exposure <= 0 or total <= 0:
        return 0.0
    mean = max(rate * exposure, 1e-9)
    if total > 60 or mean > 40:
        spread = math.sqrt(1 + mean / shape)
        return normal_tail(2 * (math.sqrt(total + 0.375) - math.sqrt(mean + 0.375)) / spread)
    keep = shape / (shape + mean)
    probability, below = keep**shape, 0.0
    for count in range(math.ceil(total)):
        below += probability
        probability *= (count + shape) / (count + 1) * (1 - keep)
    tail = 1 - below
    if tail > 1e-9:
        return -math.log(tail)
    # Far out the tail is its first term and a geometric rest.
    first = (
        math.lgamma(total + shape)
        - math.lgamma(shape)
        - math.lgamma(total + 1)
        + shape * math.log(keep)
        + total * math.log1p(-keep)
    )
    return -first


def normal_tail(z: float) -> float:
    """-log P(|Z| >= z) nats: 0 below the median, growing as z^2 / 2, from LARGEST_Z on only as log z."""
    if z <= 0:
        return 0.0
    if z < EXACT_Z:
        return -math.log(math.erfc(z / math.sqrt(2)))
    near = min(z, LARGEST_Z)
    # Mills' ratio: the tail of a normal is its density over z.
    return near * near / 2 + math.log(near * math.sqrt(math.pi / 2)) + math.log1p(max(z - LARGEST_Z, 0.0))


def mean_tail(value: float, exposure: float, parameters: Sequence[float], side: str) -> float:
    """Nats by which a mean of `exposure` events lies outside the corpus, on the `side` "high", "low" or
    "both".

    `parameters`: median, spread below, spread above, and noise: the spread of a mean of n events is
    spread * sqrt(1 + noise / n).
    """
    if exposure <= 0:
        return 0.0
    median, below, above, noise = parameters
    widen = math.sqrt(1 + noise / exposure)
    z = (value - median) / ((above if value > median else below) * widen)
    if (side == "high" and z < 0) or (side == "low" and z > 0):
        return 0.0
    return normal_tail(abs(z))


def tail_nats(measure: Measure, kind: str, side: str, parameters: Sequence[float]) -> float:
    """Nats of surprise at `measure` in a real piece: a metric's kind, side and (4,) calibration.

    A measure of the kind "nats" is one already.
    """
    if kind == "nats":
        return measure.value
    if kind == "count":
        return count_tail(measure.total, measure.exposure, parameters[0], parameters[1])
    return mean_tail(measure.value, measure.exposure, parameters, side)


def charged(nats: float, usual_nats: float) -> float:
    """The penalty for `nats` of surprise: all of what exceeds `usual_nats`, little of what does not."""
    return SLOPE_BELOW * min(nats, usual_nats) + max(nats - usual_nats, 0.0)


def fit_counts(totals: np.ndarray, exposures: np.ndarray) -> np.ndarray:
    """(4,) parameters of a count metric from pieces (K,): rate and shape by moments, never surer than the
    data.

    The rate has half an event added, so that what never happened in the corpus is rare, not impossible.
    """
    exposure = max(float(exposures.sum()), 1.0)
    rate = (float(totals.sum()) + 0.5) / exposure
    expected = rate * exposures
    excess = float(((totals - expected) ** 2 - expected).sum()) / max(float((expected**2).sum()), 1e-12)
    return np.array([rate, 1 / np.clip(excess, 0.02, 20.0), 0.0, 0.0])


def fit_means(values: np.ndarray, exposures: np.ndarray) -> np.ndarray:
    """(4,) parameters of a mean metric from pieces and chunks (K,): median, spread below and above, noise.

    Squared residuals are regressed on 1 / exposure; then either side's spread is set so that its 92nd
    percentile of |z| is a normal's.
    """
    median = float(np.median(values))
    apart = values - median
    limit = np.quantile(np.abs(apart), 0.98)
    squared = np.minimum(apart**2, limit**2)
    inverse = 1 / exposures
    slope = np.cov(squared, inverse)[0, 1] / max(inverse.var(), 1e-12) if inverse.std() > 1e-9 else 0.0
    slope = max(float(slope), 0.0)
    base = max(float(squared.mean() - slope * inverse.mean()), 0.1 * float(squared.mean()), 1e-8)
    noise = slope / base
    z = apart / np.sqrt(1 + noise * inverse)
    spreads = [
        float(np.quantile(np.abs(z[side]), 0.92)) / 1.75 if side.any() else 0.0 for side in (z < 0, z > 0)
    ]
    floor = max(0.02 * abs(median), 0.25 * max(spreads), 1e-4)
    return np.array([median, max(spreads[0], floor), max(spreads[1], floor), noise])
