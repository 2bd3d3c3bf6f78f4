"""What the scorer's bench computes with: areas under curves, rank correlation, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 1000
SEED = 1750


def ranks(values: np.ndarray) -> np.ndarray:
    """(K,) ranks from 1, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def auc(real: Sequence[float], other: Sequence[float]) -> float:
    """P(a real piece scores above another) + half of the ties (Mann and Whitney)."""
    joint = ranks(np.concatenate([real, other]))
    count = len(real)
    return float((joint[:count].sum() - count * (count + 1) / 2) / (count * len(other)))


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Rank correlation, ties shared; 0 where one side is constant."""
    left, right = ranks(np.asarray(left)), ranks(np.asarray(right))
    if left.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def bootstrap(
    statistic: Callable[..., float], *samples: Sequence, paired: bool = False, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The middle 95 % of `statistic` over resamples of the pieces; `paired` draws the same pieces from each
    sample."""
    random = np.random.default_rng(SEED)
    arrays = [np.asarray(sample) for sample in samples]
    values = []
    for _ in range(resamples):
        if paired:
            drawn = random.integers(len(arrays[0]), size=len(arrays[0]))
            values.append(statistic(*(array[drawn] for array in arrays)))
        else:
            values.append(
                statistic(*(array[random.integers(len(array), size=len(array))] for array in arrays))
            )
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def variance_shares(columns: dict[str, np.ndarray], target: np.ndarray) -> dict[str, float]:
    """Each column's share of the target's variance: cov(weight * column, target) / var(target) after least
    squares.

    Shares add up to the variance explained. Columns are put in as they are, so give what the target sums.
    """
    table = np.column_stack(list(columns.values()))
    table = table - table.mean(axis=0)
    centred = target - target.mean()
    weights, *_ = np.linalg.lstsq(table, centred, rcond=None)
    total = float((centred**2).sum()) or 1.0
    return {
        name: float(weight * (table[:, at] * centred).sum() / total)
        for at, (name, weight) in enumerate(zip(columns, weights, strict=True))
    }
