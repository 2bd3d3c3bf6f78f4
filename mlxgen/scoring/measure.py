"""What a metric returns: how much, out of how much, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mlxgen.scoring.texture import Texture


class Finding(NamedTuple):
    """One place a listener or a teacher would point at. `bar` counts from 1; voices from 1, the highest;
    `ticks` from the beginning of the context."""

    bar: int
    voices: tuple[int, ...]
    rule: str
    detail: str
    ticks: int = 0


def by_place(finding: Finding) -> tuple:
    """Order of findings: as the music goes."""
    return finding.bar, finding.ticks, finding.voices, finding.rule


@dataclass(frozen=True)
class Measure:
    """A metric's raw result.

    `total` events (or a sum of values) out of `exposure` chances (notes, transitions, beats): total /
    exposure is the rate or the mean that calibration compares with the corpus. `ticks` (K,) and `voices` (K,
    up to 2) say where; `values` (K,) how strongly, for metrics whose places differ in weight.
    """

    total: float
    exposure: float
    ticks: np.ndarray | None = None
    voices: np.ndarray | None = None
    values: np.ndarray | None = None

    @property
    def value(self) -> float:
        return self.total / self.exposure if self.exposure > 0 else 0.0


NOTHING = Measure(0.0, 0.0)


def locate(texture: Texture, slices: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indexes of slices (K,) and of voice pairs (K,) -> ticks (K,) and voices (K, 2)."""
    return texture.onset[slices], texture.pairs[pairs]


def make_findings(texture: Texture, measure: Measure, rule: str, detail: str, limit: int) -> list[Finding]:
    """The places of `measure` as findings, the strongest first when it has values, at most `limit`."""
    if measure.ticks is None or not len(measure.ticks):
        return []
    order = np.arange(min(limit, len(measure.ticks)))
    if measure.values is not None:
        order = np.argsort(-measure.values, kind="stable")[:limit]
    ticks = measure.ticks[order]
    bars = (ticks // texture.bar_ticks + 1 + texture.offset_bars).tolist()
    beats = (ticks % texture.bar_ticks / texture.beat_ticks + 1).tolist()
    voices = [()] * len(order)
    if measure.voices is not None:
        voices = map(tuple, (measure.voices[order] + 1).tolist())
    clock = (ticks + texture.offset_bars * texture.bar_ticks).tolist()
    return [Finding(bar, who, rule, f"beat {beat:.3g}: {detail}", tick)
            for bar, who, beat, tick in zip(bars, voices, beats, clock, strict=True)]
