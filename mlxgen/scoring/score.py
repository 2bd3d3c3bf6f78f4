"""score(piece): how good the counterpoint is, why, and where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlxgen.music.piece import Piece
from mlxgen.scoring.calibration import charged, tail_nats
from mlxgen.scoring.measure import Finding, Measure, by_place, make_findings
from mlxgen.scoring.metrics import DIMENSIONS, METRICS
from mlxgen.scoring.music import Music, make_music
from mlxgen.scoring.reference import Reference

DIMENSION_NATS = 6.0  # penalty at which a dimension is down to 1 / e
COMPOSITE_NATS = 28.0  # the same for the weighted sum of dimensions
KNEE_NATS = 12.0  # beyond this a dimension's penalty counts by its logarithm
MOTIONS_NEEDED = 16  # motions of two voices; a bar of four voices in quarters has about twenty
LEAST_EVIDENCE = 0.2


@dataclass(frozen=True)
class Score:
    """`composite` in [0, 1], higher is better; `dimensions` by name, each in [0, 1]; `findings` in order of
    bars; `penalties` in nats by metric: what took the points away."""

    composite: float
    dimensions: dict[str, float]
    findings: list[Finding] = field(default_factory=list)
    penalties: dict[str, float] = field(default_factory=dict)


def applies(scope: str, music: Music) -> bool:
    """Whether a metric of this scope is asked of this music."""
    return (
        scope == "any" or (scope == "whole" and music.last) or (scope == "seam" and music.texture.has_context)
    )


def measure(music: Music) -> dict[str, Measure]:
    """Every metric that applies to the music, raw."""
    return {name: metric.function(music) for name, metric in METRICS.items() if applies(metric.scope, music)}


def knee(nats: float) -> float:
    """Identity near 0, logarithmic beyond KNEE_NATS, so that no single dimension decides alone."""
    return KNEE_NATS * math.log1p(nats / KNEE_NATS)


def evidence(music: Music) -> float:
    """How much there is to judge, LEAST_EVIDENCE..1: nearly 1 from fifty motions of two voices on, least for
    none.

    Music without counterpoint breaks no rule of it; this keeps drones, solos and single chords from scoring
    well.
    """
    motions = int(music.events["pair"].new.sum())
    return LEAST_EVIDENCE + (1 - LEAST_EVIDENCE) * (1 - math.exp(-motions / MOTIONS_NEEDED))


def combine(penalties: dict[str, float]) -> tuple[float, dict[str, float]]:
    """Penalties by metric -> (composite, dimensions). Both are exp(-nats / scale): 1 is flawless."""
    totals = {METRICS[name].dimension: 0.0 for name in penalties}
    for name, nats in penalties.items():
        totals[METRICS[name].dimension] += METRICS[name].weight * nats
    weighed = sum(DIMENSIONS[dimension] * knee(nats) for dimension, nats in totals.items())
    return (
        math.exp(-weighed / COMPOSITE_NATS),
        {name: math.exp(-totals[name] / DIMENSION_NATS) for name in DIMENSIONS if name in totals},
    )


def score_music(music: Music) -> Score:
    """Score what `make_music` has prepared."""
    texture, family = music.texture, music.family
    if texture.note_count == 0:
        finding = Finding(1 + texture.offset_bars, (), "silence", "there are no notes to judge")
        return Score(0.0, dict.fromkeys(DIMENSIONS, 0.0), [finding])
    penalties, findings = {}, []
    for name, found in measure(music).items():
        metric = METRICS[name]
        nats = tail_nats(found, metric.kind, metric.side, music.reference.calibration[name][family])
        penalties[name] = charged(nats, metric.usual_nats)
        if metric.detail and (metric.kind == "count" or penalties[name] > 0.5):
            detail = metric.detail.format(value=found.value)
            findings += make_findings(texture, found, name, detail, metric.places)
    composite, dimensions = combine(penalties)
    known = evidence(music)
    if known < 0.5:
        findings.append(
            Finding(
                1 + music.texture.offset_bars,
                (),
                "little to judge",
                "hardly any two voices move while both sound",
            )
        )
    return Score(composite * known, dimensions, sorted(findings, key=by_place), penalties)


def score(
    piece: Piece,
    context: Piece | None = None,
    *,
    last: bool = True,
    surprisal: Sequence[float] | None = None,
    seam_ticks: int | None = None,
    reference: Reference | None = None,
) -> Score:
    """Judge a piece, or a chunk of one.

    `context` is the music before the chunk, from the beginning of the piece; the chunk's tick 0 falls on
    `seam_ticks` of the context (default: the bar line after its last attack). `last=False` masks what only
    whole pieces can have: final cadence, closing together, length. `surprisal` (T,) is the chunk's nats per
    token under the model that wrote it. Findings count bars from the start of the context. Deterministic;
    never NaN; no notes score 0. Raises ValueError for a meter without length.
    """
    return score_music(
        make_music(piece, context, last=last, surprisal=surprisal, reference=reference, seam_ticks=seam_ticks)
    )
