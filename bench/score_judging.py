"""The scorer as a judge among candidates: picks, seams, continuations, adversaries, and its cost."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence

import numpy as np

from bench import corruptions
from bench.adversaries import TypicalFakes, make_copy, make_patchwork
from bench.fang import Judge
from bench.score_corpus import Corpus
from bench.score_statistics import auc, bootstrap
from mlxgen.music.piece import Piece
from mlxgen.scoring.boundary import find_seams
from mlxgen.scoring.score import Score, score

PICK_SIZES = (16, 64)
POOLS = {"of one piece": True, "of many pieces": False}     # whether all candidates are one piece, noised
LARGEST_NOISE = 0.3
ADVERSARY_TARGET = 0.95


def generator(*names: object) -> np.random.Generator:
    """A generator that depends on nothing but the names."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, names)).encode()))


def composites(scores: Sequence[Score]) -> np.ndarray:
    return np.array([one.composite for one in scores])


def dimension_column(scores: Sequence[Score], name: str) -> np.ndarray:
    return np.array([one.dimensions[name] for one in scores])


def pick_of_n(pieces: Sequence[Piece], size: int, same_piece: bool) -> dict:
    """The true noise (share of altered notes) of the best-scored of `size` candidates, against the least
    noisy one's.

    Candidate levels are uniform in 0..LARGEST_NOISE; `same_piece` noises one piece `size` times, otherwise
    as many pieces once.
    """
    picked, oracle = [], []
    for number, piece in enumerate(pieces):
        random = generator("pick", size, number, same_piece)
        noise, value = [], []
        for _ in range(size):
            source = piece if same_piece else pieces[int(random.integers(len(pieces)))]
            noised = corruptions.make_jitter(float(random.uniform(0, LARGEST_NOISE)))(source, random)
            altered = sum(
                left.pitch != right.pitch
                for own, new in zip(source.voices, noised.voices, strict=True)
                for left, right in zip(own, new, strict=True)
            )
            noise.append(altered / source.note_count)
            value.append(score(noised).composite)
        picked.append(noise[int(np.argmax(value))])
        oracle.append(min(noise))

    def ratio(own: np.ndarray, best: np.ndarray) -> float:
        return float(own.mean() / max(best.mean(), 1e-9))

    return {
        "picked": float(np.mean(picked)),
        "oracle": float(np.mean(oracle)),
        "ratio": ratio(np.array(picked), np.array(oracle)),
        "interval": bootstrap(ratio, picked, oracle, paired=True),
    }


def judged_picks(pieces: Sequence[Piece], judge: Judge, size: int = 16) -> dict:
    """Fang grades of the best-scored of 16 noised versions against a random one of them: lower is better."""
    chosen, usual = [], []
    for number, piece in enumerate(pieces):
        random = generator("judge", number)
        candidates = [
            corruptions.make_jitter(float(random.uniform(0, LARGEST_NOISE)))(piece, random)
            for _ in range(size)
        ]
        best = candidates[int(np.argmax([score(one).composite for one in candidates]))]
        chosen.append(judge.grade(best))
        usual.append(judge.grade(candidates[0]))
    gain = np.array(usual) - np.array(chosen)
    return {
        "picked": float(np.mean(chosen)),
        "random": float(np.mean(usual)),
        "gain": float(gain.mean()),
        "interval": bootstrap(np.mean, gain),
    }


def seam_table(pieces: Sequence[Piece]) -> dict[str, dict]:
    """AUC of the seam's score against the interior bar lines of the same joined pieces."""
    plants = {
        "spliced": lambda piece, random: corruptions.splice_at_seam(piece, pieces, random),
        "spliced, same key": lambda piece, random: corruptions.splice_at_seam(piece, pieces, random, True),
        "4-bar jump": corruptions.jump_at_seam,
    }
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
            return auc(
                np.concatenate([rows[at][0] for at in which]), np.concatenate([rows[at][1] for at in which])
            )

        indexes = np.arange(len(per_piece))
        result[name] = {
            "auc": pooled(indexes),
            "interval": bootstrap(pooled, indexes),
            "pieces": len(per_piece),
        }
    return result


def chunk_table(pieces: Sequence[Piece]) -> dict[str, dict]:
    """Scores of a true continuation against another piece's music behind the same context."""
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
        for kept, chunk in (
            (true, piece.between(seam, piece.length_ticks)),
            (other, source.between(begin, source.length_ticks)),
        ):
            kept.append(score(chunk, piece.between(0, seam), last=False, seam_ticks=seam))
    result = {}
    for name in ("composite", "boundary", "continuity", "theme"):
        left, right = (
            composites(rows) if name == "composite" else dimension_column(rows, name)
            for rows in (true, other)
        )
        result[name] = {"auc": auc(left, right), "interval": bootstrap(auc, left, right, paired=True)}
    return result


def adversary_table(corpus: Corpus, pieces: Sequence[Piece], real: Sequence[Score]) -> list[dict]:
    """AUC of real pieces against what tries to pass for one."""
    training = corpus.chorales["train"]
    makers = {
        "random canons": corruptions.random_canon,
        "2-bar loops": corruptions.looped,
        "over-typical fakes": TypicalFakes(training),
        "copies of training pieces": make_copy(training),
        "patchwork of training pieces": make_patchwork(training),
    }
    rows = []
    for name, make in makers.items():
        random = generator("adversary", name)
        values = composites([score(make(piece, random)) for piece in pieces])
        low, high = bootstrap(auc, composites(real), values)
        rows.append(
            {
                "row": name,
                "auc": auc(composites(real), values),
                "interval": (low, high),
                "target": ADVERSARY_TARGET,
                "median": float(np.median(values)),
            }
        )
    return rows


def milliseconds(pieces: Sequence[Piece], wanted_notes: int = 450, repeats: int = 40) -> dict[str, float]:
    """CPU time of one score for a chunk of about 2048 tokens (450 notes, four voices) behind its context."""
    piece = max(pieces, key=lambda one: one.note_count)
    bars = piece.length_ticks // piece.bar_ticks
    begin = next(
        (
            bar
            for bar in range(bars, 0, -1)
            if piece.between(bar * piece.bar_ticks, piece.length_ticks).note_count >= wanted_notes
        ),
        0,
    )
    seam = begin * piece.bar_ticks
    chunk, context = piece.between(seam, piece.length_ticks), piece.between(0, seam)
    times = []
    for _ in range(repeats):
        started = time.process_time()
        score(chunk, context, last=False, seam_ticks=seam)
        times.append(1000 * (time.process_time() - started))
    return {"notes": chunk.note_count, "median": float(np.median(times)), "least": min(times)}
