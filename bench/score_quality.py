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
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench import corruptions
from bench.adversaries import TypicalFakes, make_copy, make_patchwork
from bench.fang import Judge
from bench.score_corpus import Corpus, read_corpus
from bench.score_statistics import auc, bootstrap, spearman, variance_shares
from mlxgen.music.piece import Piece
from mlxgen.scoring.boundary import find_seams
from mlxgen.scoring.metrics import DIMENSIONS
from mlxgen.scoring.score import Score, score

LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
PICK_SIZES = (16, 64)
LARGEST_NOISE = 0.3
VARIANCE_LIMIT = 0.5

# row -> the composite's target on chorales
TARGETS = {"pitches shuffled": .99, "tenor a semitone up": .99, "tenor a beat late": .99, "inner voices swapped": .99,
           "parallel fifths 5 %": .80, "parallel fifths 15 %": .95, "jitter 5 %": .95, "jitter 10 %": .99,
           "jitter 20 %": .995, "2-bar loop": .95, "bars permuted": .90, "spliced": None, "spliced, same key": None,
           "registers jump": None, "cut short": None, "opening exchanged": None}
ADVERSARY_TARGET = .95
# dimension -> the rows it claims to judge
CLAIMS = {
    "voice leading": ("pitches shuffled", "tenor a semitone up", "tenor a beat late", "inner voices swapped",
                      "parallel fifths 5 %", "parallel fifths 15 %", "jitter 5 %", "jitter 10 %", "jitter 20 %",
                      "bars permuted", "registers jump"),
    "counterpoint": ("pitches shuffled", "tenor a semitone up", "tenor a beat late", "inner voices swapped",
                     "parallel fifths 5 %", "parallel fifths 15 %", "jitter 5 %", "jitter 10 %", "jitter 20 %",
                     "bars permuted"),
    "statistics": ("pitches shuffled", "tenor a semitone up", "jitter 5 %", "jitter 10 %", "jitter 20 %", "2-bar loop",
                   "bars permuted"),
    "structure": ("pitches shuffled", "tenor a semitone up", "tenor a beat late", "inner voices swapped", "jitter 5 %",
                  "jitter 10 %", "jitter 20 %", "2-bar loop"),
    "theme": ("pitches shuffled", "opening exchanged"),
    "boundary": ("bars permuted", "spliced", "spliced, same key"),
    "continuity": ("spliced", "spliced, same key", "registers jump", "pitches shuffled"),
    "completeness": ("cut short", "tenor a beat late", "bars permuted"),
}


def make_rows(pool: Sequence[Piece]) -> dict[str, Callable]:
    """Corruptions by the names of TARGETS; `pool` lends voices and second halves."""
    return {
        "pitches shuffled": corruptions.shuffled, "tenor a semitone up": corruptions.tenor_semitone_up,
        "tenor a beat late": corruptions.tenor_beat_late, "inner voices swapped": corruptions.make_inner_swap(pool),
        "parallel fifths 5 %": corruptions.make_parallel_fifths(.05),
        "parallel fifths 15 %": corruptions.make_parallel_fifths(.15),
        "jitter 5 %": corruptions.make_jitter(.05), "jitter 10 %": corruptions.make_jitter(.10),
        "jitter 20 %": corruptions.make_jitter(.20), "2-bar loop": corruptions.looped,
        "bars permuted": corruptions.bars_permuted, "spliced": corruptions.make_splice(pool),
        "spliced, same key": corruptions.make_splice(pool, same_key=True),
        "registers jump": corruptions.registers_jump, "cut short": corruptions.cut_short,
        "opening exchanged": corruptions.make_opening_exchanged(pool),
    }


def generator(*names: object) -> np.random.Generator:
    """A generator that depends on nothing but the names."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, names)).encode()))


def composites(scores: Sequence[Score]) -> np.ndarray:
    return np.array([one.composite for one in scores])


def dimension_column(scores: Sequence[Score], name: str) -> np.ndarray:
    return np.array([one.dimensions[name] for one in scores])


def corruption_table(name: str, pieces: Sequence[Piece], real: Sequence[Score]) -> tuple[list[dict], dict]:
    """Rows of AUCs with intervals, and the scores of every row's corrupted pieces."""
    rows, everything = [], {}
    for row, corrupt in make_rows(pieces).items():
        random = generator(name, row)
        spoiled = [score(corrupt(piece, random)) for piece in pieces]
        everything[row] = spoiled
        value = auc(composites(real), composites(spoiled))
        low, high = bootstrap(auc, composites(real), composites(spoiled), paired=True)
        dimensions = {dimension: auc(dimension_column(real, dimension), dimension_column(spoiled, dimension))
                      for dimension in DIMENSIONS}
        rows.append({"row": row, "auc": value, "interval": (low, high), "target": TARGETS[row],
                     "dimensions": dimensions})
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
        result[name] = {"pooled": pooled(table), "interval": bootstrap(pooled, table),
                        "within a piece": float(np.median([-spearman(LEVELS, row) for row in table])),
                        "means": table.mean(axis=0).tolist()}
    return result


def claims_table(rows: list[dict]) -> list[dict]:
    """The rows that each dimension claims, with its AUC there."""
    by_row = {row["row"]: row["dimensions"] for row in rows}
    return [{"dimension": dimension, "row": row, "auc": by_row[row][dimension]}
            for dimension, claimed in CLAIMS.items() for row in claimed]


def shares(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Shares of the composite's variance by dimension: as dimensions are reported, and as the exponent sums
    them."""
    raw = {name: dimension_column(scores, name) for name in DIMENSIONS}
    logs = {name: np.log(np.maximum(column, 1e-12)) for name, column in raw.items()}
    target = composites(scores)
    return {"dimensions": variance_shares(raw, target),
            "exponent": variance_shares({name: knee_of(column) for name, column in logs.items()},
                                        np.log(np.maximum(target, 1e-12)))}


def knee_of(logs: np.ndarray) -> np.ndarray:
    """log dimension (K,) -> what the composite's exponent adds up, without its weight."""
    from mlxgen.scoring.score import DIMENSION_NATS, KNEE_NATS

    return -KNEE_NATS * np.log1p(-logs * DIMENSION_NATS / KNEE_NATS)


def pick_of_n(pieces: Sequence[Piece], same_piece: bool) -> dict[int, dict]:
    """The true noise (share of altered notes) of the best-scored of N candidates, against the least noisy
    one's.

    Candidate levels are uniform in 0..LARGEST_NOISE; `same_piece` noises one piece N times, otherwise N
    pieces once.
    """
    result = {}
    for size in PICK_SIZES:
        picked, oracle = [], []
        for number, piece in enumerate(pieces):
            random = generator("pick", size, number, same_piece)
            noise, value = [], []
            for _ in range(size):
                source = piece if same_piece else pieces[int(random.integers(len(pieces)))]
                noised = corruptions.make_jitter(float(random.uniform(0, LARGEST_NOISE)))(source, random)
                altered = sum(left.pitch != right.pitch for own, new in zip(source.voices, noised.voices, strict=True)
                              for left, right in zip(own, new, strict=True))
                noise.append(altered / source.note_count)
                value.append(score(noised).composite)
            picked.append(noise[int(np.argmax(value))])
            oracle.append(min(noise))

        def ratio(own: np.ndarray, best: np.ndarray) -> float:
            return float(own.mean() / best.mean())
        result[size] = {"picked": float(np.mean(picked)), "oracle": float(np.mean(oracle)),
                        "ratio": ratio(np.array(picked), np.array(oracle)),
                        "interval": bootstrap(ratio, picked, oracle, paired=True)}
    return result


def judged_picks(pieces: Sequence[Piece], judge: Judge, size: int = 16) -> dict:
    """Fang grades of the best-scored of 16 noised versions against a random one of them: lower is better."""
    chosen, usual = [], []
    for number, piece in enumerate(pieces):
        random = generator("judge", number)
        candidates = [corruptions.make_jitter(float(random.uniform(0, LARGEST_NOISE)))(piece, random)
                      for _ in range(size)]
        best = candidates[int(np.argmax([score(one).composite for one in candidates]))]
        chosen.append(judge.grade(best))
        usual.append(judge.grade(candidates[0]))
    gain = np.array(usual) - np.array(chosen)
    return {"picked": float(np.mean(chosen)), "random": float(np.mean(usual)), "gain": float(gain.mean()),
            "interval": bootstrap(np.mean, gain)}


def seam_table(pieces: Sequence[Piece]) -> dict[str, dict]:
    """AUC of the seam's score against the interior bar lines of the same joined pieces."""
    plants = {"spliced": lambda piece, random: corruptions.splice_at_seam(piece, pieces, random),
              "spliced, same key": lambda piece, random: corruptions.splice_at_seam(piece, pieces, random, True),
              "4-bar jump": corruptions.jump_at_seam}
    result = {}
    for name, plant in plants.items():
        random = generator("seam", name)
        per_piece = []
        for piece in pieces:
            joined = plant(piece, random)
            if joined is None:
                continue
            ticks, values = find_seams(joined[0])
            inside = np.isin(ticks, corruptions.bar_lines(joined[0])) & (ticks != joined[1])
            if (ticks == joined[1]).any():
                per_piece.append((values[ticks == joined[1]], values[inside]))

        def pooled(which: np.ndarray, rows: list = per_piece) -> float:
            return auc(np.concatenate([rows[at][0] for at in which]), np.concatenate([rows[at][1] for at in which]))
        indexes = np.arange(len(per_piece))
        result[name] = {"auc": pooled(indexes), "interval": bootstrap(pooled, indexes), "pieces": len(per_piece)}
    return result


def chunk_table(pieces: Sequence[Piece]) -> dict[str, dict]:
    """Boundary and composite of a true continuation against another piece's music behind the same context."""
    random = generator("chunk")
    true, other = [], []
    for piece in pieces:
        lines = corruptions.bar_lines(piece, 4)
        if not lines:
            continue
        seam = lines[len(lines) // 2]
        source = pieces[int(random.integers(len(pieces)))]
        if source is piece:
            continue
        source = source.transposed((piece.key.root - source.key.root + 6) % 12 - 6)
        their = corruptions.bar_lines(source)
        begin = their[len(their) // 2] if their else 0
        for kept, chunk in ((true, piece.between(seam, piece.length_ticks)),
                            (other, source.between(begin, source.length_ticks))):
            kept.append(score(chunk, piece.between(0, seam), last=False, seam_ticks=seam))
    result = {}
    for name, column in (("boundary", lambda rows: dimension_column(rows, "boundary")), ("composite", composites)):
        result[name] = {"auc": auc(column(true), column(other)),
                        "interval": bootstrap(auc, column(true), column(other), paired=True)}
    return result


def adversary_table(corpus: Corpus, pieces: Sequence[Piece], real: Sequence[Score]) -> list[dict]:
    """AUC of real pieces against what tries to pass for one."""
    training = corpus.chorales["train"]
    makers = {"random canons": corruptions.random_canon, "2-bar loops": corruptions.looped,
              "over-typical fakes": TypicalFakes(training), "copies of training pieces": make_copy(training),
              "patchwork of training pieces": make_patchwork(training)}
    rows = []
    for name, make in makers.items():
        random = generator("adversary", name)
        values = composites([score(make(piece, random)) for piece in pieces])
        low, high = bootstrap(auc, composites(real), values)
        rows.append({"row": name, "auc": auc(composites(real), values), "interval": (low, high),
                     "target": ADVERSARY_TARGET, "median": float(np.median(values))})
    return rows


def milliseconds(pieces: Sequence[Piece], wanted_notes: int = 450, repeats: int = 40) -> dict[str, float]:
    """CPU time of one score for a chunk of about 2048 tokens (450 notes in four voices) behind its context.
    """
    piece = max(pieces, key=lambda one: one.note_count)
    bars = piece.length_ticks // piece.bar_ticks
    begin = next((bar for bar in range(bars, 0, -1)
                  if piece.between(bar * piece.bar_ticks, piece.length_ticks).note_count >= wanted_notes), 0)
    seam = begin * piece.bar_ticks
    chunk, context = piece.between(seam, piece.length_ticks), piece.between(0, seam)
    times = []
    for _ in range(repeats):
        started = time.process_time()
        score(chunk, context, last=False, seam_ticks=seam)
        times.append(1000 * (time.process_time() - started))
    return {"notes": chunk.note_count, "median": float(np.median(times)), "least": min(times)}


def run(corpus: Corpus, split: str) -> dict:
    """Every part of the protocol on the chorales of a split, and the tables on other families."""
    pieces = corpus.chorales[split]
    real = [score(piece) for piece in pieces]
    rows, spoiled = corruption_table("chorales", pieces, real)
    judge = Judge(corpus.chorales["train"])
    result = {
        "split": split, "pieces": len(pieces), "composite quantiles": np.quantile(
            composites(real), (.05, .25, .5, .75, .95)).tolist(),
        "corruptions": rows, "claims": claims_table(rows), "levels": level_correlations(pieces),
        "variance, real": shares(real), "variance, real and corrupted": shares(
            [*real, *(one for scores in spoiled.values() for one in scores)]),
        "pick, one piece": pick_of_n(pieces, True), "pick, many pieces": pick_of_n(pieces, False),
        "judge": {"real median": float(np.median([judge.grade(piece) for piece in pieces])),
                  "picks": judged_picks(pieces, judge)},
        "seams": seam_table(pieces), "chunks": chunk_table(pieces),
        "adversaries": adversary_table(corpus, pieces, real), "milliseconds": milliseconds(
            [*pieces, *(piece for others in corpus.others.values() for piece in others)]),
        "others": {},
    }
    for name, others in corpus.others.items():
        own = [score(piece) for piece in others]
        result["others"][name] = {"pieces": len(others), "median": float(np.median(composites(own))),
                                  "corruptions": corruption_table(name, others, own)[0], "seams": seam_table(others)}
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.quality score", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--quick", action="store_true", help="chorales only: needs neither music21 nor other scores")
    parser.add_argument("--plots", type=Path, default=None, metavar="FOLDER", help="write PNG plots (needs matplotlib)")
    parser.add_argument("--model", type=Path, default=None, metavar="FOLDER",
                        help="also judge this model's own pieces: best of 16 by the Fang grade, seams of its chains")
    options = parser.parse_args(arguments)
    from bench.score_print import print_result

    result = run(read_corpus(options.corpus, options.quick), options.split)
    if options.model is not None:
        from bench.score_generated import judge_model

        result["model"] = judge_model(options.model, options.corpus)
    print_result(result)
    if options.plots is not None:
        from bench.score_plots import write_plots

        write_plots(result, options.plots)
    print(json.dumps(result))
    return 0
