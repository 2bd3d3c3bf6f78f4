"""Does the scorer order music as it should? `python -m bench.quality score [--corpus ../shared/corpus]
[--quick]`

The protocol of the project's notes on scoring: real pieces against corrupted twins, by corruption; rank
correlation with the level of corruption; each dimension on the rows it claims; shares of variance; picking
among N; a judge that picking never uses; seams; adversaries; and the time a chunk takes. Deterministic.
Prints tables, writes plots with --plots FOLDER (needs matplotlib), and ends with one JSON object on one
line. What it cannot tell: whether anyone likes the music.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench import corruptions
from bench.fang import Judge
from bench.score_corpus import Corpus, read_corpus
from bench.score_judging import (
    adversary_table,
    chunk_table,
    composites,
    dimension_column,
    generator,
    judged_picks,
    milliseconds,
    pick_of_n,
    seam_table,
)
from bench.score_statistics import auc, bootstrap, spearman, variance_shares
from mlxgen.music.piece import Piece
from mlxgen.scoring.metrics import DIMENSIONS
from mlxgen.scoring.score import Score, score

LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
VARIANCE_LIMIT = 0.5

# row -> the composite's target on chorales
TARGETS = {
    "pitches shuffled": 0.99,
    "tenor a semitone up": 0.99,
    "tenor a beat late": 0.99,
    "inner voices swapped": 0.99,
    "parallel fifths 5 %": 0.80,
    "parallel fifths 15 %": 0.95,
    "jitter 5 %": 0.95,
    "jitter 10 %": 0.99,
    "jitter 20 %": 0.995,
    "2-bar loop": 0.95,
    "bars permuted": 0.90,
    "spliced": None,
    "spliced, same key": None,
    "registers jump": None,
    "cut short": None,
    "opening exchanged": None,
}
# dimension -> the rows it claims to judge
CLAIMS = {
    "voice leading": (
        "pitches shuffled",
        "tenor a semitone up",
        "tenor a beat late",
        "inner voices swapped",
        "parallel fifths 5 %",
        "parallel fifths 15 %",
        "jitter 5 %",
        "jitter 10 %",
        "jitter 20 %",
        "bars permuted",
        "registers jump",
    ),
    "counterpoint": (
        "pitches shuffled",
        "tenor a semitone up",
        "tenor a beat late",
        "inner voices swapped",
        "parallel fifths 5 %",
        "parallel fifths 15 %",
        "jitter 5 %",
        "jitter 10 %",
        "jitter 20 %",
        "bars permuted",
    ),
    "statistics": (
        "pitches shuffled",
        "tenor a semitone up",
        "jitter 5 %",
        "jitter 10 %",
        "jitter 20 %",
        "2-bar loop",
        "bars permuted",
    ),
    "structure": (
        "pitches shuffled",
        "tenor a semitone up",
        "tenor a beat late",
        "inner voices swapped",
        "jitter 5 %",
        "jitter 10 %",
        "jitter 20 %",
        "2-bar loop",
    ),
    "theme": ("pitches shuffled", "opening exchanged"),
    "boundary": ("bars permuted", "spliced", "spliced, same key"),
    "continuity": ("registers jump", "pitches shuffled", "2-bar loop"),
    "completeness": ("cut short", "tenor a beat late", "bars permuted"),
}


def make_rows(pool: Sequence[Piece]) -> dict[str, Callable]:
    """Corruptions by the names of TARGETS; `pool` lends voices and second halves."""
    return {
        "pitches shuffled": corruptions.shuffled,
        "tenor a semitone up": corruptions.tenor_semitone_up,
        "tenor a beat late": corruptions.tenor_beat_late,
        "inner voices swapped": corruptions.make_inner_swap(pool),
        "parallel fifths 5 %": corruptions.make_parallel_fifths(0.05),
        "parallel fifths 15 %": corruptions.make_parallel_fifths(0.15),
        "jitter 5 %": corruptions.make_jitter(0.05),
        "jitter 10 %": corruptions.make_jitter(0.10),
        "jitter 20 %": corruptions.make_jitter(0.20),
        "2-bar loop": corruptions.looped,
        "bars permuted": corruptions.bars_permuted,
        "spliced": corruptions.make_splice(pool),
        "spliced, same key": corruptions.make_splice(pool, same_key=True),
        "registers jump": corruptions.registers_jump,
        "cut short": corruptions.cut_short,
        "opening exchanged": corruptions.make_opening_exchanged(pool),
    }


def corruption_table(name: str, pieces: Sequence[Piece], real: Sequence[Score]) -> tuple[list[dict], dict]:
    """Rows of AUCs with intervals, and the scores of every row's corrupted pieces."""
    rows, everything = [], {}
    for row, corrupt in make_rows(pieces).items():
        random = generator(name, row)
        spoiled = [score(corrupt(piece, random)) for piece in pieces]
        everything[row] = spoiled
        value = auc(composites(real), composites(spoiled))
        low, high = bootstrap(auc, composites(real), composites(spoiled), paired=True)
        dimensions = {
            dimension: auc(dimension_column(real, dimension), dimension_column(spoiled, dimension))
            for dimension in DIMENSIONS
        }
        rows.append(
            {
                "row": row,
                "auc": value,
                "interval": (low, high),
                "target": TARGETS[row],
                "dimensions": dimensions,
            }
        )
    return rows, everything


def level_correlations(pieces: Sequence[Piece]) -> dict[str, dict]:
    """Spearman correlation of -composite with the level, over all pieces and (median) inside one piece."""
    families = {"jitter": corruptions.make_jitter, "parallel fifths": corruptions.make_parallel_fifths}
    result = {}
    for name, make in families.items():
        table = np.empty((len(pieces), len(LEVELS)))
        for column, level in enumerate(LEVELS):
            random = generator("level", name, level)
            for row, piece in enumerate(pieces):
                table[row, column] = score(make(level)(piece, random) if level else piece).composite

        def pooled(rows: np.ndarray) -> float:
            return -spearman(np.tile(LEVELS, len(rows)), rows.reshape(-1))

        result[name] = {
            "pooled": pooled(table),
            "interval": bootstrap(pooled, table),
            "within a piece": float(np.median([-spearman(LEVELS, row) for row in table])),
            "means": table.mean(axis=0).tolist(),
        }
    return result


def claims_table(rows: list[dict]) -> list[dict]:
    """The rows that each dimension claims, with its AUC there."""
    by_row = {row["row"]: row["dimensions"] for row in rows}
    return [
        {"dimension": dimension, "row": row, "auc": by_row[row][dimension]}
        for dimension, claimed in CLAIMS.items()
        for row in claimed
    ]


def shares(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Shares of the composite's variance by dimension: as dimensions are reported, and as the exponent sums
    them."""
    raw = {name: dimension_column(scores, name) for name in DIMENSIONS}
    logs = {name: np.log(np.maximum(column, 1e-12)) for name, column in raw.items()}
    target = composites(scores)
    return {
        "dimensions": variance_shares(raw, target),
        "exponent": variance_shares(
            {name: knee_of(column) for name, column in logs.items()}, np.log(np.maximum(target, 1e-12))
        ),
    }


def knee_of(logs: np.ndarray) -> np.ndarray:
    """log dimension (K,) -> what the composite's exponent adds up, without its weight."""
    from mlxgen.scoring.score import DIMENSION_NATS, KNEE_NATS

    return -KNEE_NATS * np.log1p(-logs * DIMENSION_NATS / KNEE_NATS)


def run(corpus: Corpus, split: str) -> dict:
    """Every part of the protocol on the chorales of a split, and the tables on other families."""
    pieces = corpus.chorales[split]
    real = [score(piece) for piece in pieces]
    rows, spoiled = corruption_table("chorales", pieces, real)
    judge = Judge(corpus.chorales["train"])
    result = {
        "split": split,
        "pieces": len(pieces),
        "composite quantiles": np.quantile(composites(real), (0.05, 0.25, 0.5, 0.75, 0.95)).tolist(),
        "corruptions": rows,
        "claims": claims_table(rows),
        "levels": level_correlations(pieces),
        "variance, real": shares(real),
        "variance, real and corrupted": shares(
            [*real, *(one for scores in spoiled.values() for one in scores)]
        ),
        "pick, one piece": pick_of_n(pieces, True),
        "pick, many pieces": pick_of_n(pieces, False),
        "judge": {
            "real median": float(np.median([judge.grade(piece) for piece in pieces])),
            "picks": judged_picks(pieces, judge),
        },
        "seams": seam_table(pieces),
        "chunks": chunk_table(pieces),
        "adversaries": adversary_table(corpus, pieces, real),
        "milliseconds": milliseconds(
            [*pieces, *(piece for others in corpus.others.values() for piece in others)]
        ),
        "others": {},
    }
    for name, others in corpus.others.items():
        own = [score(piece) for piece in others]
        result["others"][name] = {
            "pieces": len(others),
            "median": float(np.median(composites(own))),
            "corruptions": corruption_table(name, others, own)[0],
            "seams": seam_table(others),
        }
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality score", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument(
        "--quick", action="store_true", help="chorales only: needs neither music21 nor other scores"
    )
    parser.add_argument(
        "--plots", type=Path, default=None, metavar="FOLDER", help="write PNG plots (needs matplotlib)"
    )
    parser.add_argument(
        "--generated",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="also judge what `python -m bench.score_generated MODEL --out FOLDER` composed",
    )
    options = parser.parse_args(arguments)
    from bench.score_print import print_result

    result = run(read_corpus(options.corpus, options.quick), options.split)
    if options.generated is not None:
        from bench.score_generated import judge_model

        result["model"] = judge_model(options.generated, options.corpus)
    print_result(result)
    if options.plots is not None:
        from bench.score_plots import write_plots

        write_plots(result, options.plots)
    print(json.dumps(result))
    return 0
