"""METRICS: every metric, a row each. Adding one is a row and a function; the recipe calibrates it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlxgen.scoring import boundary, completeness, continuity, counterpoint, statistics, structure, theme
from mlxgen.scoring import voice_leading as leading
from mlxgen.scoring.measure import Measure
from mlxgen.scoring.music import Music


@dataclass(frozen=True)
class Metric:
    """`kind`: "count" (events against a rate) or "mean" (a value against a distribution). `side`: which extreme is
    penalised. `scope`: "any", "whole" (masked in a chunk that is not the last) or "seam" (needs a context).
    `weight` multiplies its penalty. `detail` is what a finding says; "" reports no places."""

    dimension: str
    function: Callable[[Music], Measure]
    kind: str = "mean"
    side: str = "both"
    scope: str = "any"
    weight: float = 1.0
    detail: str = ""


def _count(dimension: str, function, detail: str, weight: float = 1.0) -> Metric:
    return Metric(dimension, function, "count", "high", "any", weight, detail)


VOICE_LEADING, COUNTERPOINT, STATISTICS, STRUCTURE = "voice leading", "counterpoint", "statistics", "structure"
THEME, BOUNDARY, CONTINUITY, COMPLETENESS = "theme", "boundary", "continuity", "completeness"

# dimension -> its share of the composite's exponent
DIMENSIONS = {VOICE_LEADING: 1.0, COUNTERPOINT: 1.0, STATISTICS: 1.0, STRUCTURE: 1.0, THEME: 0.5, BOUNDARY: 1.0,
              CONTINUITY: 0.7, COMPLETENESS: 0.5}

METRICS: dict[str, Metric] = {
    "legality": _count(VOICE_LEADING, leading.legality, "two notes at once in one voice, or an impossible note", 2),
    "parallel fifths": _count(VOICE_LEADING, leading.parallel_fifths, "parallel fifths", 2),
    "parallel octaves": _count(VOICE_LEADING, leading.parallel_octaves, "parallel octaves or unisons", 2),
    "parallels by beat": _count(VOICE_LEADING, leading.beat_parallels, "perfect intervals on successive beats"),
    "direct perfects": _count(VOICE_LEADING, leading.direct_perfects,
                              "outer voices leap the same way into a fifth or octave"),
    "crossings": _count(VOICE_LEADING, leading.crossings, "voices cross"),
    "overlaps": _count(VOICE_LEADING, leading.overlaps, "a voice moves past where its neighbour was"),
    "wide leaps": _count(VOICE_LEADING, leading.wide_leaps, "leap of a seventh or beyond an octave"),
    "tritone leaps": _count(VOICE_LEADING, leading.tritone_leaps, "melodic tritone"),
    "unrecovered leaps": _count(VOICE_LEADING, leading.unrecovered_leaps, "a wide leap goes on the same way"),
    "joint leaps": _count(VOICE_LEADING, leading.joint_leaps, "voices leap all at once"),
    "spacing": _count(VOICE_LEADING, leading.wide_spacing, "neighbouring upper voices more than an octave apart"),
    "range": Metric(VOICE_LEADING, leading.tessitura, side="high", detail="outside the voice's usual range"),

    "pair surprisal": Metric(COUNTERPOINT, counterpoint.pair_surprisal),
    "rare motions": _count(COUNTERPOINT, counterpoint.rare_motions, "two voices move as they rarely do"),
    "sonority surprisal": Metric(COUNTERPOINT, counterpoint.sonority_surprisal),
    "rare sonorities": _count(COUNTERPOINT, counterpoint.rare_sonorities, "an unusual sonority"),
    "motion variety": Metric(COUNTERPOINT, counterpoint.motion_variety),
    "independence": Metric(COUNTERPOINT, counterpoint.independence),
    "dissonance": _count(COUNTERPOINT, counterpoint.unprepared_dissonance,
                         "a dissonance reached and left by leap"),

    "melody surprisal": Metric(STATISTICS, statistics.melody_surprisal),
    "rare intervals": _count(STATISTICS, statistics.rare_intervals, "an unusual melodic interval here"),
    "degree surprisal": Metric(STATISTICS, statistics.degree_surprisal),
    "rare degrees": _count(STATISTICS, statistics.rare_degrees, "an unexpected degree in the key heard"),
    "rhythm surprisal": Metric(STATISTICS, statistics.rhythm_surprisal),
    "interval variety": Metric(STATISTICS, statistics.interval_variety),
    "rhythm variety": Metric(STATISTICS, statistics.rhythm_variety, side="low"),
    "steps": Metric(STATISTICS, statistics.step_share),
    "surprisal spread": Metric(STATISTICS, statistics.surprisal_spread),
    "originality": Metric(STATISTICS, statistics.originality, side="high", detail="stands in a training piece"),

    "harmony surprisal": Metric(STRUCTURE, structure.harmony_surprisal),
    "rare chords": _count(STRUCTURE, structure.rare_chords, "an unusual chord succession"),
    "key fit": Metric(STRUCTURE, structure.key_fit),
    "modulation": Metric(STRUCTURE, structure.modulation, side="high"),
    "cadences": Metric(STRUCTURE, structure.cadences),
    "harmonic rhythm": Metric(STRUCTURE, structure.harmonic_rhythm),
    "chord variety": Metric(STRUCTURE, structure.chord_variety, side="low"),
    "repetition": Metric(STRUCTURE, structure.repetition, side="high", detail="equals a bar shortly before"),
    "recurrence": Metric(STRUCTURE, structure.recurrence, side="high"),

    "theme recall": Metric(THEME, theme.theme_recall),

    "seam": Metric(BOUNDARY, boundary.seam, side="high", scope="seam", weight=2, detail="the seam is audible"),
    "worst bar line": Metric(BOUNDARY, boundary.worst_bar_line, side="high", detail="the music seems cut here"),
    "bar lines": Metric(BOUNDARY, boundary.mean_bar_line),

    "register drift": Metric(CONTINUITY, continuity.register_drift),
    "density drift": Metric(CONTINUITY, continuity.density_drift),
    "surprisal drift": Metric(CONTINUITY, continuity.surprisal_drift),
    "fresh start": Metric(CONTINUITY, continuity.fresh_start, side="high", scope="seam"),

    "final chord": Metric(COMPLETENESS, completeness.final_chord, side="high", scope="whole",
                          detail="the piece does not close on its tonic chord"),
    "close together": Metric(COMPLETENESS, completeness.close_together, side="high", scope="whole",
                             detail="a voice stops before the end"),
    "final length": Metric(COMPLETENESS, completeness.final_length, side="low", scope="whole"),
    "length": Metric(COMPLETENESS, completeness.length, side="low", scope="whole"),
}
