"""score(piece): how good the counterpoint is, why, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mlxgen.music.piece import Piece
from mlxgen.scoring import voice_leading
from mlxgen.scoring.measure import Finding, make_findings
from mlxgen.scoring.texture import make_texture

# name -> (dimension, function, corpus rate, rule, detail)
METRICS = {
    "legality": ("voice leading", voice_leading.legality, .0005, "illegal note", "two notes at once in one voice"),
    "parallel fifths": ("voice leading", voice_leading.parallel_fifths, .001, "parallel fifths", "parallel fifths"),
    "parallel octaves": ("voice leading", voice_leading.parallel_octaves, .0005, "parallel octaves",
                         "parallel octaves"),
    "crossings": ("voice leading", voice_leading.crossings, .01, "crossing", "voices cross"),
    "wide leaps": ("voice leading", voice_leading.wide_leaps, .01, "wide leap", "a leap of a seventh or more"),
}


@dataclass(frozen=True)
class Score:
    """`composite` in [0, 1], higher is better; `dimensions` by name, each in [0, 1]; `findings` by bar."""

    composite: float
    dimensions: dict[str, float]
    findings: list[Finding] = field(default_factory=list)


def score(piece: Piece, context: Piece | None = None, *, last: bool = True, surprisal=None) -> Score:
    """Judge `piece`, or a chunk of it when `context` is the music before; `last=False` masks what only a whole
    piece can have. Deterministic; never NaN.
    """
    texture = make_texture(piece, context)
    findings, penalty = [], 0.0
    for _, function, rate, rule, detail in METRICS.values():
        measure = function(texture)
        excess = measure.total - rate * measure.exposure
        penalty += max(0.0, excess) / math.sqrt(rate * measure.exposure + 1) if measure.exposure else 0.0
        findings += make_findings(texture, measure, rule, detail, limit=20)
    value = math.exp(-penalty / 10) if texture.note_count else 0.0
    return Score(value, {"voice leading": value}, sorted(findings))
