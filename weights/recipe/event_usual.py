"""What is usual: rates, quantiles and thresholds, each measured on training pieces whose own fold the tables
have not seen. The steps of the scorer's recipe behind its counts; see event_model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bench.corruptions import bar_lines, jump_at_seam, splice_at_seam
from mlxgen.music.piece import Piece
from mlxgen.scoring import events
from mlxgen.scoring.boundary import FEATURES, bar_line_features, seam_scores
from mlxgen.scoring.calibration import fit_counts, fit_means
from mlxgen.scoring.measure import Measure
from mlxgen.scoring.metrics import METRICS
from mlxgen.scoring.music import Music, make_music
from mlxgen.scoring.reference import Reference
from mlxgen.scoring.score import applies, measure
from mlxgen.scoring.wrong_notes import FEATURES as NOTE_FEATURES
from mlxgen.scoring.wrong_notes import SPAN, alternatives

from .event_corpus import FAMILIES, Sample

CHUNKS_PER_PIECE = 2
RARE_QUANTILE = 0.98
MOST_NOTES = 60_000
SEED = 1725
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class HeldOut:
    """Training pieces, their events, and for each fold a reference that has not seen it."""

    samples: list[Sample]
    heard: list[dict[str, events.Channel]]
    references: list[Reference]

    def music(self, at: int, piece: Piece | None = None, own_family: bool = True, **options) -> Music:
        """Piece `at`, or another one in its place, as heard by who has not seen it. `own_family`: judged by
        its true family, or its own outliers would be judged by another's."""
        sample = self.samples[at]
        music = make_music(piece or sample.piece, reference=self.references[sample.fold], **options)
        if own_family:
            music.__dict__["family"] = sample.family
        return music


def empty() -> Arrays:
    """Placeholders under which a first reference can be made, to measure what replaces them."""
    count = len(FAMILIES)
    return {
        "rare": np.full((count, len(events.CHANNELS)), 8.0),
        "metrics": np.array(list(METRICS)),
        "calibration": np.ones((count, len(METRICS), 4)),
        "worst_line": np.zeros((count, 2)),
        "bar_lines": np.stack([np.zeros((count, len(FEATURES))), np.ones((count, len(FEATURES)))], axis=1),
        "seam_weights": np.ones(len(FEATURES)) / len(FEATURES),
        "note_weights": np.zeros((count, len(NOTE_FEATURES))),
    }


def rare(unseen: HeldOut) -> Arrays:
    """(F, channels) nats that 2 % of unseen events exceed."""
    nats: list[list[list[np.ndarray]]] = [[[] for _ in events.CHANNELS] for _ in FAMILIES]
    for at, sample in enumerate(unseen.samples):
        surprisal = unseen.references[sample.fold].model(sample.family).surprisal(unseen.heard[at])
        for place, channel in enumerate(events.CHANNELS):
            nats[sample.family][place].append(surprisal[channel])
    table = [[np.quantile(np.concatenate(values), RARE_QUANTILE) for values in row] for row in nats]
    return {"rare": np.array(table)}


def fit_choices(features: np.ndarray, chosen: int, rounds: int = 30, ridge: float = 1e-4) -> np.ndarray:
    """(n, K, F) features of K alternatives of which `chosen` is real -> (F,) weights of the conditional logit
    that makes the real ones likeliest: Newton's method with a small ridge."""
    apart = features - features[:, chosen : chosen + 1]
    weights = np.zeros(features.shape[2])
    for _ in range(rounds):
        liked = apart @ weights
        share = np.exp(liked - liked.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        mean = np.einsum("nk,nkf->nf", share, apart)
        curve = np.einsum("nk,nkf,nkg->fg", share, apart, apart, optimize=True) - mean.T @ mean
        step = np.linalg.solve(
            curve / len(apart) + ridge * np.eye(len(weights)), -mean.mean(axis=0) - ridge * weights
        )
        weights = weights + step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def notes(unseen: HeldOut) -> Arrays:
    """How much each channel counts where a note is compared with the pitches around it."""
    rows: list[list[np.ndarray]] = [[] for _ in FAMILIES]
    for at, sample in enumerate(unseen.samples):
        rows[sample.family].append(alternatives(unseen.music(at)))
    weights = []
    for row in rows:
        table = np.concatenate(row)
        weights.append(fit_choices(table[:: -(-len(table) // MOST_NOTES)], SPAN))
    return {"note_weights": np.array(weights)}


def _try_splice(piece: Piece, others: list[Piece], random: np.random.Generator) -> tuple[Piece, int] | None:
    fitting = [
        other for other in others if len(other.voices) == len(piece.voices) and other.meter == piece.meter
    ]
    if len(fitting) < 3 or piece.length_bars < 6:
        return None
    return splice_at_seam(piece, fitting, random, same_key=bool(random.integers(2)))


def _bar_line_tables(unseen: HeldOut) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(L, FEATURES) of each family's real bar lines, and of planted seams."""
    random = np.random.default_rng(SEED)
    real: list[list[np.ndarray]] = [[] for _ in FAMILIES]
    planted: list[list[np.ndarray]] = [[] for _ in FAMILIES]
    for at, sample in enumerate(unseen.samples):
        lines = bar_line_features(unseen.music(at, own_family=False))
        inside = np.isin(lines.ticks, bar_lines(sample.piece))
        real[sample.family].append(lines.features[inside])
        others = [other.piece for other in unseen.samples if other.family == sample.family]
        for joined in (_try_splice(sample.piece, others, random), jump_at_seam(sample.piece, random)):
            if joined is not None:
                lines = bar_line_features(unseen.music(at, joined[0], own_family=False))
                planted[sample.family].append(lines.features[lines.ticks == joined[1]])
    return [np.concatenate(rows) for rows in real], [np.concatenate(rows) for rows in planted]


def seams(unseen: HeldOut) -> Arrays:
    """Statistics of real bar lines by family, and the discriminant between them and planted seams."""
    real, planted = _bar_line_tables(unseen)
    statistics = [
        (np.nanmean(table, axis=0), np.maximum(np.nanstd(table, axis=0), 1e-3)) for table in real
    ]

    def standard(tables: list[np.ndarray]) -> list[np.ndarray]:
        return [
            np.clip(np.nan_to_num((table - mean) / spread), -4, 8)
            for table, (mean, spread) in zip(tables, statistics, strict=True)
        ]

    usual = np.concatenate([table[:: max(len(table) // 4000, 1)] for table in standard(real)])
    joins = np.concatenate(standard(planted))
    within = (np.cov(usual.T) + np.cov(joins.T)) / 2
    weights = np.linalg.solve(within + 0.05 * np.eye(len(within)), joins.mean(axis=0) - usual.mean(axis=0))
    return {"bar_lines": np.array(statistics), "seam_weights": weights / (usual @ weights).std()}


def worst_lines(unseen: HeldOut) -> Arrays:
    """(F, 2) offset and slope of the worst bar line's score against the log of how many there are."""
    rows: list[list[tuple[float, float]]] = [[] for _ in FAMILIES]
    for at, sample in enumerate(unseen.samples):
        _, scores = seam_scores(unseen.music(at, own_family=False))
        for count in (4, 8, 16, len(scores)):
            if 2 <= count <= len(scores):
                rows[sample.family].append((np.log(count), scores[:count].max()))
    return {"worst_line": np.array([np.polyfit(*np.array(points).T, 1)[::-1] for points in rows])}


def _views(piece: Piece, random: np.random.Generator) -> Iterator[dict]:
    """Keyword arguments of `make_music`: the whole piece, and chunks of it behind their context."""
    yield {"piece": piece}
    bars = piece.length_ticks // piece.bar_ticks
    for _ in range(CHUNKS_PER_PIECE):
        size = int(random.integers(4, 17))
        if bars < size + 5:
            continue
        begin = int(random.integers(4, bars - size + 1)) * piece.bar_ticks
        end = begin + size * piece.bar_ticks
        yield {
            "piece": piece.between(begin, end),
            "context": piece.between(0, begin),
            "last": False,
            "seam_ticks": begin,
        }


def calibration(unseen: HeldOut) -> Arrays:
    """(F, M, 4) parameters of every metric, from whole pieces and from chunks behind their context."""
    random = np.random.default_rng(SEED)
    raw: list[dict[str, list[Measure]]] = [{name: [] for name in METRICS} for _ in FAMILIES]
    for at, sample in enumerate(unseen.samples):
        for options in _views(sample.piece, random):
            music = unseen.music(at, **options)
            for name, found in measure(music).items():
                if found.exposure > 0 and applies(METRICS[name].scope, music):
                    raw[sample.family][name].append(found)
    table = np.ones((len(FAMILIES), len(METRICS), 4))
    for family, row in enumerate(raw):
        for place, (name, found) in enumerate(row.items()):
            if len(found) < 20:
                continue
            totals = np.array([one.total for one in found])
            exposures = np.array([one.exposure for one in found], dtype=float)
            counting = METRICS[name].kind == "count"
            table[family, place] = (
                fit_counts(totals, exposures) if counting else fit_means(totals / exposures, exposures)
            )
    return {"calibration": table}


# In the order in which later steps need earlier ones.
STEPS: tuple[Callable[[HeldOut], Arrays], ...] = (rare, notes, seams, worst_lines, calibration)
