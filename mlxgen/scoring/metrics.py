"""METRICS: every metric, a row each. Adding one is a row and a function; the recipe calibrates it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlxgen.scoring import (
    boundary,
    completeness,
    continuity,
    counterpoint,
    statistics,
    structure,
    theme,
    wrong_notes,
)
from mlxgen.scoring import voice_leading as leading
from mlxgen.scoring.measure import Measure
from mlxgen.scoring.music import Music

FAULT_NATS = 1.5  # -log .22
STYLE_NATS = 3.0  # -log .05
STYLE_WEIGHT = 0.4


@dataclass(frozen=True)
class Metric:
    """`kind`: "count" (events against a rate), "mean" (a value against a distribution) or "nats" (a surprisal
    as it is). `side`: which extreme is penalised. `scope`: "any", "whole" (masked in a chunk that is not the
    last) or "seam" (needs a context). `weight` multiplies its penalty, of which nats up to `usual_nats` count
    little: faults are charged from what one real piece in five has, style only from what one in twenty has.
    `detail` is what a finding says ("" reports no places; {value} is the metric's value), `places` how many
    findings at most."""

    dimension: str
    function: Callable[[Music], Measure]
    kind: str = "mean"
    side: str = "both"
    scope: str = "any"
    weight: float = 1.0
    detail: str = ""
    usual_nats: float = FAULT_NATS
    places: int = 12


def _count(dimension: str, function, detail: str, weight: float = 1.0) -> Metric:
    return Metric(dimension, function, "count", "high", "any", weight, detail)


def _style(
    dimension: str,
    function,
    side: str = "both",
    scope: str = "any",
    weight: float = STYLE_WEIGHT,
    detail: str = "",
) -> Metric:
    return Metric(dimension, function, "mean", side, scope, weight, detail, STYLE_NATS)


VOICE_LEADING, COUNTERPOINT, STATISTICS, STRUCTURE = (
    "voice leading",
    "counterpoint",
    "statistics",
    "structure",
)
THEME, BOUNDARY, CONTINUITY, COMPLETENESS = "theme", "boundary", "continuity", "completeness"

# dimension -> its share of the composite's exponent
DIMENSIONS = {
    VOICE_LEADING: 2.0,
    COUNTERPOINT: 1.1,
    STATISTICS: 1.3,
    STRUCTURE: 1.2,
    THEME: 0.5,
    BOUNDARY: 1.2,
    CONTINUITY: 1.4,
    COMPLETENESS: 1.8,
}

METRICS: dict[str, Metric] = {
    "legality": _count(VOICE_LEADING, leading.legality, "two notes at once in one voice", 2),
    "parallel fifths": _count(VOICE_LEADING, leading.parallel_fifths, "parallel fifths", 3.2),
    "parallel octaves": _count(VOICE_LEADING, leading.parallel_octaves, "parallel octaves or unisons", 4),
    "parallels by beat": _count(
        VOICE_LEADING, leading.beat_parallels, "perfect intervals on successive beats", 0.3
    ),
    "direct perfects": _count(
        VOICE_LEADING, leading.direct_perfects, "outer voices leap the same way into a fifth or octave", 0.3
    ),
    "crossings": _count(VOICE_LEADING, leading.crossings, "voices cross", 0.5),
    "overlaps": _count(VOICE_LEADING, leading.overlaps, "a voice moves past where its neighbour was", 0.5),
    "wide leaps": _count(VOICE_LEADING, leading.wide_leaps, "leap of a seventh or beyond an octave", 0.7),
    "tritone leaps": _count(VOICE_LEADING, leading.tritone_leaps, "melodic tritone", 0.3),
    "unrecovered leaps": _count(VOICE_LEADING, leading.unrecovered_leaps, "a wide leap goes on the same way"),
    "joint leaps": _count(VOICE_LEADING, leading.joint_leaps, "voices leap all at once", 0.4),
    "spacing": _count(
        VOICE_LEADING, leading.wide_spacing, "neighbouring upper voices more than an octave apart"
    ),
    "range": Metric(
        VOICE_LEADING, leading.tessitura, side="high", weight=1.6, detail="outside the voice's usual range"
    ),
    "wrong notes": Metric(
        COUNTERPOINT,
        wrong_notes.wrong_notes,
        side="high",
        weight=7,
        detail="fits neither its line nor the other voices",
    ),
    "pair surprisal": _style(COUNTERPOINT, counterpoint.pair_surprisal),
    "rare motions": _count(COUNTERPOINT, counterpoint.rare_motions, "two voices move as they rarely do", 1.9),
    "sonority surprisal": _style(COUNTERPOINT, counterpoint.sonority_surprisal, weight=0.3),
    "rare sonorities": _count(COUNTERPOINT, counterpoint.rare_sonorities, "an unusual sonority", 1.5),
    "motion variety": _style(COUNTERPOINT, counterpoint.motion_variety),
    "independence": _style(COUNTERPOINT, counterpoint.independence),
    "dissonance": _count(
        COUNTERPOINT, counterpoint.unprepared_dissonance, "a dissonance reached and left by leap", 0.6
    ),
    "bare sonorities": Metric(
        COUNTERPOINT,
        counterpoint.bare_sonorities,
        side="high",
        weight=4,
        detail="only fifths and octaves sound",
    ),
    "melody surprisal": _style(STATISTICS, statistics.melody_surprisal, weight=0.3),
    "rare intervals": _count(STATISTICS, statistics.rare_intervals, "an unusual melodic interval here", 0.5),
    "degree surprisal": _style(STATISTICS, statistics.degree_surprisal),
    "rare degrees": _count(STATISTICS, statistics.rare_degrees, "an unexpected degree in the key heard", 0.5),
    "rhythm surprisal": Metric(STATISTICS, statistics.rhythm_surprisal, weight=2.5),
    "rare rhythms": _count(STATISTICS, statistics.rare_rhythms, "an unusual duration here", 0.4),
    "interval variety": _style(STATISTICS, statistics.interval_variety),
    "rhythm variety": _style(STATISTICS, statistics.rhythm_variety, "low"),
    "density": _style(STATISTICS, statistics.density, weight=1),
    "silence": Metric(STATISTICS, statistics.silence, side="high", weight=2),
    "holes": _count(STATISTICS, statistics.holes, "a voice pauses while the others go on", 2),
    "steps": _style(STATISTICS, statistics.step_share),
    "originality": Metric(
        STATISTICS,
        statistics.originality,
        side="high",
        weight=20,
        usual_nats=STYLE_NATS,
        places=1,
        detail="from here on, {value:.0%} of all spans stand in training pieces",
    ),
    "recombination": Metric(STATISTICS, statistics.recombination, side="high", weight=2.6),
    "harmony surprisal": Metric(STRUCTURE, structure.harmony_surprisal, weight=STYLE_WEIGHT),
    "rare chords": _count(STRUCTURE, structure.rare_chords, "an unusual chord succession"),
    "key fit": _style(STRUCTURE, structure.key_fit),
    "key unity": Metric(
        STRUCTURE,
        structure.key_unity,
        side="high",
        weight=2.3,
        detail="from here on the music is in another key",
    ),
    "modulation": _style(STRUCTURE, structure.modulation, "high"),
    "cadences": _style(STRUCTURE, structure.cadences),
    "flat leading notes": _count(
        STRUCTURE, structure.flat_leading_notes, "the leading note of a cadence is not raised", 5
    ),
    "harmonic rhythm": _style(STRUCTURE, structure.harmonic_rhythm),
    "freshness": Metric(STRUCTURE, structure.freshness, side="low", weight=8, usual_nats=1.0),
    "wandering": Metric(STRUCTURE, structure.wandering, weight=1.8),
    "chord variety": _style(STRUCTURE, structure.chord_variety, "low"),
    "repetition": Metric(
        STRUCTURE, structure.repetition, side="high", weight=2, detail="equals a bar shortly before"
    ),
    "recurrence": Metric(STRUCTURE, structure.recurrence, side="high", weight=1.2),
    "theme recall": Metric(THEME, theme.theme_recall, side="low", weight=2.3, usual_nats=0.0),
    "seam": Metric(
        BOUNDARY, boundary.seam, side="high", scope="seam", weight=3, detail="the seam is audible"
    ),
    "worst bar line": Metric(
        BOUNDARY, boundary.worst_bar_line, side="high", weight=2.5, detail="the music seems cut here"
    ),
    "odd bar": Metric(
        BOUNDARY, boundary.odd_bar, side="high", weight=4, detail="this bar fits neither neighbour"
    ),
    "bar lines": Metric(BOUNDARY, boundary.mean_bar_line, weight=STYLE_WEIGHT),
    "register drift": _style(CONTINUITY, continuity.register_drift, weight=1.4),
    "density drift": _style(CONTINUITY, continuity.density_drift, weight=0.6),
    "surprisal drift": _style(CONTINUITY, continuity.surprisal_drift),
    "fresh start": Metric(CONTINUITY, continuity.fresh_start, side="high", scope="seam"),
    "final chord": Metric(
        COMPLETENESS,
        completeness.final_chord,
        "nats",
        side="high",
        scope="whole",
        weight=2.2,
        detail="the piece does not close on its tonic chord",
    ),
    "close together": Metric(
        COMPLETENESS,
        completeness.close_together,
        side="high",
        scope="whole",
        detail="a voice stops before the end",
    ),
    "final length": Metric(COMPLETENESS, completeness.final_length, side="low", scope="whole", weight=2),
    "length": Metric(COMPLETENESS, completeness.length, side="low", scope="whole", weight=1.2),
}
