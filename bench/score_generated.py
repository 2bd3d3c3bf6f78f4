"""Does picking by the scorer help a model's own pieces, and can its chains' seams be heard?

Composing takes minutes and judging seconds, so the music is composed once into a folder, as MIDI files, and
judged from there: FOLDER/short/PROMPT/CANDIDATE.mid, and FOLDER/long/NAME/{piece.mid, outline.json} as
generate-long writes them.

    python -m bench.score_generated weights/default --out FOLDER [--prompts 24] [--chains 8]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
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
BARS = 6
MAX_TOKENS = 900
KEYS = (
    "G major",
    "A minor",
    "C major",
    "E minor",
    "D major",
    "G minor",
    "F major",
    "D minor",
    "Bb major",
    "B minor",
    "A major",
    "C minor",
)


def compose_short(model_folder: Path, out: Path, prompts: int) -> None:
    """`prompts` chorale prompts, CANDIDATES pieces of at most BARS bars each; folders that exist are kept."""
    from mlxgen.model.load import load, load_generation_defaults
    from mlxgen.sampling.candidates import candidates, stop_after_bars
    from mlxgen.sampling.engine import Engine
    from mlxgen.sampling.sampler import SamplingParams

    model, vocab = load(model_folder)
    defaults = load_generation_defaults(model_folder)
    params = SamplingParams(**{name: defaults[name] for name in ("temperature", "min_p") if name in defaults})
    for number, key_name in enumerate(islice(cycle(KEYS), prompts)):
        folder = out / "short" / f"{number:02d}"
        if folder.exists():
            continue
        key = Key.parse(key_name)
        prompt = make_prompt(Conditioning(form="chorale", style="bach").with_defaults(), key, vocab)
        engine = Engine(model, vocab, params=params, seed=number)
        engine.prefill(prompt)
        seeds = [1000 * number + row for row in range(CANDIDATES)]
        found = candidates(engine, CANDIDATES, MAX_TOKENS, stop_after_bars(vocab, BARS), seeds)
        folder.mkdir(parents=True)
        for row, candidate in enumerate(found):
            piece = decode([*prompt, *candidate.ids], vocab)
            write_midi(replace(piece.between(0, BARS * piece.bar_ticks), key=key), folder / f"{row:02d}.mid")
        print(folder, flush=True)


def compose_long(model_folder: Path, out: Path, chains: int) -> None:
    """`chains` chorales of four chunks, by the command that users run."""
    for number, key_name in enumerate(islice(cycle(KEYS), chains)):
        folder = out / "long" / f"{number:02d}"
        if folder.exists():
            continue
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from mlxgen.cli import main; main()",
                "generate-long",
                "--model",
                str(model_folder),
                "--form",
                "chorale",
                "--style",
                "bach",
                "--key",
                key_name,
                "--chunks",
                "4",
                "--overlap",
                "256",
                "--chunk-tokens",
                "256",
                "--no-picture",
                "--num-candidates",
                "8",
                "--seed",
                str(number),
                "--out",
                str(folder),
            ],
            check=True,
        )


def read_short(out: Path) -> list[list[Piece]]:
    """Candidates of each prompt; those without a note are left out."""
    folders = sorted(path for path in (out / "short").iterdir() if path.is_dir())
    prompts = [[read_midi(path) for path in sorted(folder.glob("*.mid"))] for folder in folders]
    return [[piece for piece in pieces if piece.note_count] for pieces in prompts]


def judge_picks(prompts: list[list[Piece]], judge: Judge) -> dict:
    """Fang grades of the best-scored candidate against the mean of all (a random one); lower is better.

    Chunk mode: the pieces are cut after BARS bars, so none is asked to end.
    """
    picked, usual, first = [], [], []
    for pieces in prompts:
        grades = np.array([judge.grade(piece) for piece in pieces])
        best = int(np.argmax([score(piece, last=False).composite for piece in pieces]))
        picked.append(grades[best])
        usual.append(grades.mean())
        first.append(grades[0])
    gain = np.array(usual) - np.array(picked)
    single = np.array(first) - np.array(picked)
    return {
        "prompts": len(prompts),
        "candidates": CANDIDATES,
        "picked": float(np.mean(picked)),
        "random": float(np.mean(usual)),
        "gain": float(gain.mean()),
        "interval": bootstrap(np.mean, gain),
        "against one": {"gain": float(single.mean()), "interval": bootstrap(np.mean, single)},
    }


def judge_seams(out: Path) -> dict | None:
    """AUC of our own seams' scores against the interior bar lines of the same pieces; .5 is inaudible."""
    rows = []
    for folder in sorted((out / "long").glob("*")):
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
        result["picks"] = judge_picks(read_short(out), Judge(chorales["train"]))
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
    parser.add_argument("--chains", type=int, default=8)
    options = parser.parse_args()
    compose_short(options.model, options.out, options.prompts)
    compose_long(options.model, options.out, options.chains)


if __name__ == "__main__":
    main()
