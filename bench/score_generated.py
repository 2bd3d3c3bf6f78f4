"""Does picking by the scorer help a model's own pieces, and can its chains' seams be heard?

Composing takes minutes and judging seconds, so the music is composed once into a folder, as MIDI files, and
judged from there: FOLDER/short/PROMPT/CANDIDATE.mid, and FOLDER/long/NAME/{piece.mid, outline.json} as
generate-long writes them. What a stopped run has finished is kept.

    python -m bench.score_generated weights/default --out FOLDER [--prompts 24] [--chains 10]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from bench import corruptions
from bench.fang import Judge
from bench.score_corpus import read_chorales
from bench.score_statistics import auc, bootstrap
from mlxgen.files.midi import read_midi, write_midi
from mlxgen.music.decode import decode
from mlxgen.music.piece import Piece
from mlxgen.music.prompt import Conditioning, make_prompt
from mlxgen.music.theory import Key
from mlxgen.scoring.boundary import find_seams
from mlxgen.scoring.score import score

CANDIDATES = 16
POOLED = 4  # prompts of one key whose candidates are one set of 64
BARS = 8
MAX_TOKENS = 1200
KEYS = ("G major", "A minor", "D major", "G minor", "F major", "E minor")
CHAIN = ("--form", "chorale", "--style", "bach", "--chunks", "5", "--num-candidates", "8", "--no-picture")


def _missing(folder: Path, count: int) -> Iterator[tuple[int, str, Path]]:
    """(number, key, folder) of what is not composed yet; says on stderr how long the rest may take."""
    rows = [(number, key, folder / f"{number:02d}") for number, key in enumerate(islice(cycle(KEYS), count))]
    rows = [row for row in rows if not row[2].exists()]
    started = time.monotonic()
    for done, row in enumerate(rows):
        left = (time.monotonic() - started) / done * (len(rows) - done) if done else None
        note = "" if left is None else f", about {left:.0f} s left"
        print(f"{row[2]} ({row[1]}), {done} of {len(rows)} done{note}", file=sys.stderr, flush=True)
        yield row


def compose_short(model_folder: Path, out: Path, prompts: int) -> None:
    """`prompts` chorale prompts, CANDIDATES pieces of at most BARS bars each, drawn as the model's folder
    says for chorales."""
    from bench.plans import UNSAID
    from mlxgen.commands.options import make_sampling, make_soft_rules
    from mlxgen.model.load import load
    from mlxgen.sampling.candidates import candidates, stop_after_bars
    from mlxgen.sampling.engine import Engine
    from mlxgen.sampling.rules import RuleSet

    model, vocab = load(model_folder)
    params = make_sampling(UNSAID, "chorale", model_folder)
    rules = RuleSet(soft=frozenset(make_soft_rules(UNSAID, "chorale", model_folder)))
    for number, key_name, folder in _missing(out / "short", prompts):
        key = Key.parse(key_name)
        prompt = make_prompt(Conditioning(form="chorale", style="bach").with_defaults(), key, vocab)
        engine = Engine(model, vocab, params=params, rules=rules, seed=number)
        engine.prefill(prompt)
        seeds = [1000 * number + row for row in range(CANDIDATES)]
        found = candidates(engine, CANDIDATES, MAX_TOKENS, stop_after_bars(vocab, BARS), seeds)
        fresh = folder.with_suffix(".new")
        fresh.mkdir(parents=True, exist_ok=True)
        for row, candidate in enumerate(found):
            piece = decode([*prompt, *candidate.ids], vocab)
            write_midi(replace(piece.between(0, BARS * piece.bar_ticks), key=key), fresh / f"{row:02d}.mid")
        fresh.rename(folder)


def compose_long(model_folder: Path, out: Path, chains: int) -> None:
    """`chains` chorales of five chunks, by the command that users run."""
    for number, key_name, folder in _missing(out / "long", chains):
        fresh = folder.with_suffix(".new")
        where = ("--model", model_folder, "--key", key_name, "--seed", number, "--out", fresh)
        if (fresh / "manifest.json").exists():
            where = ("--resume", fresh)
        options = where if where[0] == "--resume" else (*CHAIN, *where)
        command = [sys.executable, "-m", "mlxgen", "generate-long", *map(str, options)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        fresh.rename(folder)


def read_short(out: Path) -> list[list[Piece]]:
    """Candidates of each prompt; those without a note are left out."""
    folders = sorted(path for path in (out / "short").iterdir() if path.is_dir() and path.name.isdigit())
    prompts = [[read_midi(path) for path in sorted(folder.glob("*.mid"))] for folder in folders]
    return [[piece for piece in pieces if piece.note_count] for pieces in prompts]


def judge_picks(sets: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict:
    """(scores, Fang grades) of each set of candidates -> the grade of the best-scored one against the mean of
    all (a random one) and against the first; lower is better."""
    picked = np.array([grades[int(np.argmax(scores))] for scores, grades in sets])
    usual = np.array([grades.mean() for _, grades in sets])
    first = np.array([grades[0] for _, grades in sets])
    return {
        "prompts": len(sets),
        "candidates": max(len(scores) for scores, _ in sets),
        "picked": float(picked.mean()),
        "random": float(usual.mean()),
        "gain": float((usual - picked).mean()),
        "interval": bootstrap(np.mean, usual - picked),
        "against one": {
            "gain": float((first - picked).mean()), "interval": bootstrap(np.mean, first - picked)
        },
    }


def pick_sets(prompts: list[list[Piece]], judge: Judge) -> dict[str, dict]:
    """Picks of CANDIDATES from each prompt, and of POOLED times as many from prompts of one key.

    Chunk mode: the pieces are cut after BARS bars, so none is asked to end.
    """
    judged = [
        (
            np.array([score(piece, last=False).composite for piece in pieces]),
            np.array([judge.grade(piece) for piece in pieces]),
        )
        for pieces in prompts
    ]
    result = {"each prompt": judge_picks(judged)}
    by_key = [judged[at :: len(KEYS)] for at in range(len(KEYS))]
    pooled = [
        tuple(np.concatenate(columns) for columns in zip(*rows[at : at + POOLED], strict=True))
        for rows in by_key
        for at in range(0, len(rows) - POOLED + 1, POOLED)
    ]
    if len(pooled) > 1:
        result["prompts of one key together"] = judge_picks(pooled)
    return result


def judge_seams(out: Path) -> dict | None:
    """AUC of our own seams' scores against the interior bar lines of the same pieces; .5 is inaudible."""
    rows = []
    for folder in sorted(path for path in (out / "long").glob("*") if path.name.isdigit()):
        piece = read_midi(folder / "piece.mid")
        seams = json.loads((folder / "outline.json").read_text())["seams"]
        ticks, values = find_seams(piece)
        ours = np.isin(ticks, seams)
        inside = np.isin(ticks, corruptions.bar_lines(piece)) & ~ours
        if ours.any() and inside.any():
            rows.append((values[ours], values[inside]))
    if not rows:
        return None

    def pooled(which: np.ndarray) -> float:
        return auc(
            np.concatenate([rows[at][0] for at in which]), np.concatenate([rows[at][1] for at in which])
        )

    indexes = np.arange(len(rows))
    return {
        "auc": pooled(indexes),
        "interval": bootstrap(pooled, indexes),
        "pieces": len(rows),
        "seams": int(sum(len(row[0]) for row in rows)),
    }


def judge_model(out: Path, corpus: Path) -> dict:
    """Everything about the music in `out`; the judge's Bach is the JSB train split."""
    result = {}
    if (out / "short").is_dir():
        chorales = read_chorales(corpus / "Jsb16thSeparated.json")
        result["picks"] = pick_sets(read_short(out), Judge(chorales["train"]))
    if (out / "long").is_dir():
        seams = judge_seams(out)
        if seams is not None:
            result["seams"] = seams
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--chains", type=int, default=10)
    options = parser.parse_args()
    compose_short(options.model, options.out, options.prompts)
    compose_long(options.model, options.out, options.chains)


if __name__ == "__main__":
    main()
