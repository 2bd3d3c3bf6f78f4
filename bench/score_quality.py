"""Does the scorer order music as it should?

    python -m bench.quality score [--corpus ../shared/corpus] [--out bench/results] [--generated FOLDER]

The protocol of the project's notes on scoring: real pieces against corrupted twins, by corruption; rank
correlation with the level of corruption; each dimension on the rows it claims; shares of variance; picking
among N; a judge that picking never uses; seams; adversaries; held-out quartets, motets and polyphony; and the
time of a chunk. Deterministic but for that time. Writes OUT/score.md and its plots (matplotlib), prints the
table, and ends with one JSON object on one line. Parts that are done are kept in a file of the temporary
folder until the scorer or the bench changes: a run that was stopped goes on. What it cannot tell: whether
anyone likes the music.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from bench.corruptions import make_jitter, make_parallel_fifths
from bench.fang import Judge
from bench.score_corpus import Corpus
from bench.score_judging import (
    PICK_SIZES,
    POOLS,
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
from bench.score_parts import Parts, kept_file
from bench.score_rows import LEVELS, ROWS
from bench.score_statistics import auc, bootstrap, spearman, variance_shares
from mlxgen.music.piece import Piece
from mlxgen.scoring.metrics import DIMENSIONS
from mlxgen.scoring.score import DIMENSION_NATS, KNEE_NATS, Score, score

LEVELLED = {"jitter": make_jitter, "parallel fifths": make_parallel_fifths}


def corruption_table(name: str, pieces: Sequence[Piece], real: Sequence[Score]) -> tuple[list[dict], list]:
    """Rows of AUCs with intervals, and the scores of all corrupted pieces."""
    rows, everything = [], []
    for title, row in ROWS.items():
        random, corrupt = generator(name, title), row.make(pieces)
        spoiled = [score(corrupt(piece, random)) for piece in pieces]
        everything += spoiled
        dimensions = {
            dimension: auc(dimension_column(real, dimension), dimension_column(spoiled, dimension))
            for dimension in DIMENSIONS
        }
        rows.append(
            {
                "row": title,
                "auc": auc(composites(real), composites(spoiled)),
                "interval": bootstrap(auc, composites(real), composites(spoiled), paired=True),
                "target": row.target,
                "dimensions": dimensions,
            }
        )
    return rows, everything


def claims_table(rows: list[dict]) -> list[dict]:
    """The dimensions that claim each row, with their AUC there."""
    return [
        {"dimension": dimension, "row": row["row"], "auc": row["dimensions"][dimension]}
        for row in rows
        for dimension in ROWS[row["row"]].claimed
    ]


def level_correlations(pieces: Sequence[Piece]) -> dict[str, dict]:
    """Spearman correlation of -composite with the level, over all pieces and (median) inside one piece."""
    result = {}
    for name, make in LEVELLED.items():
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


def shares(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Shares of the composite's variance by dimension: as dimensions are reported, and as the exponent sums
    them."""
    raw = {name: dimension_column(scores, name) for name in DIMENSIONS}
    summed = {name: knee_of(np.log(np.maximum(column, 1e-12))) for name, column in raw.items()}
    target = composites(scores)
    return {
        "dimensions": variance_shares(raw, target),
        "exponent": variance_shares(summed, np.log(np.maximum(target, 1e-12))),
    }


def knee_of(logs: np.ndarray) -> np.ndarray:
    """log dimension (K,) -> what the composite's exponent adds up, without its weight."""
    return -KNEE_NATS * np.log1p(-logs * DIMENSION_NATS / KNEE_NATS)


class Protocol:
    """The parts of the bench on the chorales of a split: functions that return pieces of the result."""

    def __init__(self, corpus: Corpus, split: str):
        self.corpus, self.split, self.pieces = corpus, split, corpus.chorales[split]

    @cached_property
    def real(self) -> list[Score]:
        return [score(piece) for piece in self.pieces]

    @cached_property
    def judge(self) -> Judge:
        return Judge(self.corpus.chorales["train"])

    def parts(self) -> dict[str, tuple[float, Callable[[], dict]]]:
        """Name -> (about how many seconds it takes, the part), in the order of the table."""
        parts = {
            "corruptions": (6, self.corruptions),
            "levels": (5, lambda: {"levels": level_correlations(self.pieces)}),
            **{f"picks, {size} {name}": (0.4 * size, partial(self.picked, size, name))
               for name in POOLS for size in PICK_SIZES},
            "the unselected judge": (15, self.judged),
            "seams": (3, lambda: {"seams": seam_table(self.pieces), "chunks": chunk_table(self.pieces)}),
            "adversaries": (
                12,
                lambda: {"adversaries": adversary_table(self.corpus, self.pieces, self.real)},
            ),
        }
        for name in self.corpus.families:
            parts[f"held-out {name}"] = 40, partial(self.other, name)
        return parts

    def corruptions(self) -> dict:
        rows, spoiled = corruption_table("chorales", self.pieces, self.real)
        return {
            "split": self.split,
            "pieces": len(self.pieces),
            "composite quantiles": np.quantile(
                composites(self.real), (0.05, 0.25, 0.5, 0.75, 0.95)
            ).tolist(),
            "corruptions": rows,
            "claims": claims_table(rows),
            "variance, real": shares(self.real),
            "variance, real and corrupted": shares([*self.real, *spoiled]),
        }

    def picked(self, size: int, name: str) -> dict:
        return {f"picks, {size} {name}": pick_of_n(self.pieces, size, same_piece=POOLS[name])}

    def judged(self) -> dict:
        median = float(np.median([self.judge.grade(piece) for piece in self.pieces]))
        return {"judge": {"real median": median, "picks": judged_picks(self.pieces, self.judge)}}

    def other(self, name: str) -> dict:
        pieces = self.corpus.others[name]
        if not pieces:
            return {name: {"pieces": 0}}
        own = [score(piece) for piece in pieces]
        return {
            name: {
                "pieces": len(pieces),
                "median": float(np.median(composites(own))),
                "corruptions": corruption_table(name, pieces, own)[0],
                "seams": seam_table(pieces),
            }
        }


def run(corpus: Corpus, split: str, kept: Path | None = None) -> dict:
    """Every part of the protocol. Parts found in `kept`, made by this same code, are not made again."""
    protocol = Protocol(corpus, split)
    result = Parts(protocol.parts(), kept).run()
    others = {name: result.pop(name) for name in corpus.families}
    chorales = [piece for pieces in corpus.chorales.values() for piece in pieces]
    return {**result, "others": others, "milliseconds": milliseconds(chorales)}


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
        "--out", type=Path, default=None, metavar="FOLDER", help="write score.md and plots (matplotlib)"
    )
    parser.add_argument(
        "--generated",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="also judge what `python -m bench.score_generated MODEL --out FOLDER` composed",
    )
    parser.add_argument("--anew", action="store_true", help="make every part again")
    options = parser.parse_args(arguments)
    from bench.score_print import time_line, write_table

    kept = kept_file(options.split, options.quick)
    if options.anew:
        kept.unlink(missing_ok=True)
    result = run(Corpus(options.corpus, options.quick), options.split, kept)
    if options.generated is not None:
        from bench.score_generated import judge_model

        result["model"] = judge_model(options.generated, options.corpus)
    table = write_table(result)
    print(table, time_line(result["milliseconds"]), sep="\n")
    if options.out is not None:
        from bench.score_plots import write_plots

        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "score.md").write_text(table, encoding="utf-8")
        write_plots(result, options.out)
    print(json.dumps(result))
    return 0
