"""The figures of the model card, a part at a time: `python -m weights.recipe.evaluate PART --out DIR ...`.

    nll           held-out nats per token by form and style, and on JSB test per token, note and frame
    samples       unselected pieces of a model folder, beside held-out real pieces
    conditioning  does each word of the prompt move what it names? effect sizes with intervals
    table         what is in DIR so far, as Markdown

Every part writes DIR/PART.NAME.json (and the generated ids as JSON lines) and goes on from what is there.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning, make_prefix
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

from .corpus import TOKENIZER, read_rows
from .data import EncodedPiece, load_pieces
from .figures import copied_notes, set_figures
from .generation import MAX_TOKENS, Order, generate_to, pieces_of
from .labels import LABELS
from .windows import make_windows, measure_windows

SIXTEENTH_TICKS = 120
SAMPLE_FORMS = ("chorale", "invention", "fugue", "quartet")
CONDITIONING_BARS = 8


def row_piece(row: dict) -> Piece:
    """The music of a corpus line."""
    return Piece(
        [[Note(*note) for note in voice] for voice in row["voices"]], Key(*row["key"]), tuple(row["meter"])
    )


def load_torch(path: Path):
    """A checkpoint of this recipe or of upstream's trainer as the reference model."""
    from convert.reference import ReferenceModel

    from . import checkpoints

    content = checkpoints.load(path)
    model = ReferenceModel(checkpoints.from_upstream(content["config"]))
    model.load_state_dict(content["model_state_dict"])
    return model


def neutral_prefix(row: dict, vocab: Vocab) -> np.ndarray:
    """A prefix that says nothing that must be read off the notes: style, form, meter, key."""
    said = Conditioning(
        form=row["form"], style=row["style"], meter=tuple(row["meter"]), encoding="interleaved"
    )
    return np.array(make_prefix(said, Key(*row["key"]), vocab), dtype=np.int64)


def frame_count(row: dict) -> int:
    """Sixteenths from the first attack to the last release."""
    starts = [note[0] for voice in row["voices"] for note in voice]
    ends = [note[0] + note[1] for voice in row["voices"] for note in voice]
    return round((max(ends) - min(starts)) / SIXTEENTH_TICKS)


def measure_nll(model, work: Path, length: int, limit: int) -> dict:
    """Nats per token by form and by style of the held-out pieces; JSB test whole, with neutral prefixes.

    limit: windows a piece (of the held-out pieces; JSB test is always charged whole).
    """
    vocab = Vocab.load(TOKENIZER)
    rows, pieces = read_rows(work), load_pieces(work, vocab)
    held = [
        (row, piece)
        for row, piece in zip(rows, pieces, strict=True)
        if row["split"] in ("valid", "jsb_valid")
    ]
    windows = [window for _, piece in held for window in make_windows(piece, length, limit)]
    totals = measure_windows(model, windows)
    groups: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for row, piece in held:
        for group in (f"form {piece.form}", f"style {row['style']}"):
            groups[group][0] += totals[piece.name][0]
            groups[group][1] += totals[piece.name][1]
    result = {group: round(nats / tokens, 4) for group, (nats, tokens) in sorted(groups.items())}
    return {
        "length": length,
        "limit": limit,
        **result,
        "jsb_test": measure_jsb(model, rows, pieces, vocab, length),
    }


def measure_jsb(model, rows: list[dict], pieces: list[EncodedPiece], vocab: Vocab, length: int) -> dict:
    """JSB test: nats per token, per note and per sixteenth frame; every token after the prefix is charged."""
    chosen = [(row, piece) for row, piece in zip(rows, pieces, strict=True) if row["split"] == "jsb_test"]
    windows = [
        window
        for row, piece in chosen
        for window in make_windows(piece, length, prefix=neutral_prefix(row, vocab))
    ]
    totals = measure_windows(model, windows)
    nats, tokens = (sum(total[index] for total in totals.values()) for index in (0, 1))
    notes, frames = sum(row["notes"] for row, _ in chosen), sum(frame_count(row) for row, _ in chosen)
    return {
        "pieces": len(chosen),
        "tokens": tokens,
        "notes": notes,
        "frames": frames,
        "nats_per_token": round(nats / tokens, 4),
        "nats_per_note": round(nats / notes, 4),
        "nats_per_frame": round(nats / frames, 4),
    }


def run_samples(folder: Path, work: Path, out: Path, count: int, forms: tuple[str, ...]) -> dict:
    """Figures of `count` unselected pieces a form at the folder's defaults, beside held-out real pieces."""
    from mlxgen.model.load import load, load_generation_defaults

    model, vocab = load(folder)
    defaults = load_generation_defaults(folder)
    rows = read_rows(work)
    corpus = np.concatenate([piece.events for piece in load_pieces(work, vocab) if piece.split == "train"])
    result = {}
    for form in forms:
        knobs = {**defaults, **defaults.get("forms", {}).get(form, {})}
        order = Order(
            form, knobs.get("temperature", 0.9), knobs.get("min_p", 0.03), max_tokens=MAX_TOKENS[form]
        )
        made = generate_to(out / f"samples.{folder.name}.{form}.jsonl", model, vocab, order, count)
        result[form] = {
            **set_figures(pieces_of(made, vocab)),
            "ended_share": sum(row["ended"] == "eos" for row in made) / len(made),
            "longest_copy_notes": max(copied_notes(row["ids"], corpus, vocab) for row in made),
        }
        real = [
            row_piece(row)
            for row in rows
            if (row["form"] or "none") == form and row["split"] in ("valid", "jsb_valid")
        ]
        result[f"{form} (held-out real)"] = set_figures(real)
    return result


def effect(low: list[float], high: list[float], seed: int = 0) -> dict:
    """Cohen's d of high over low with a 95 % bootstrap interval, and both means."""

    def cohen(a: np.ndarray, b: np.ndarray) -> float:
        spread = ((a.var(ddof=1) + b.var(ddof=1)) / 2) ** 0.5
        return float((b.mean() - a.mean()) / spread) if spread > 0 else 0.0

    a, b, rng = np.array(low), np.array(high), np.random.default_rng(seed)
    draws = [cohen(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(1000)]
    return {
        "low_mean": round(float(a.mean()), 4),
        "high_mean": round(float(b.mean()), 4),
        "d": round(cohen(a, b), 2),
        "interval": [round(float(np.quantile(draws, share)), 2) for share in (0.025, 0.975)],
    }


def run_conditioning(folder: Path, out: Path, count: int, fields: tuple[str, ...], form: str) -> dict:
    """Each word of a label against its opposite, all else equal: the property and its effect size."""
    from mlxgen.model.load import load

    model, vocab = load(folder)
    result = {}
    for field in fields:
        words = LABELS[field].words
        values = {}
        for word in (words[0], words[-1]):
            order = replace(Order(form, max_tokens=600, bars=CONDITIONING_BARS), words={field: word})
            made = generate_to(
                out / f"conditioning.{folder.name}.{form}.{field}.{word}.jsonl", model, vocab, order, count
            )
            values[word] = [LABELS[field].measure(piece) for piece in pieces_of(made, vocab)]
        result[f"{form} {field}"] = {
            "words": [words[0], words[-1]],
            **effect(values[words[0]], values[words[-1]]),
        }
    return result


def write_result(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def make_tables(out: Path) -> str:
    """Every result of DIR as a Markdown table of its own."""
    parts = []
    for path in sorted(out.glob("*.json")):
        parts.append(f"\n**{path.stem}**\n\n| | |\n|---|---|")
        for name, value in json.loads(path.read_text(encoding="utf-8")).items():
            if isinstance(value, dict):
                value = ", ".join(
                    f"{key} {number:.4g}" if isinstance(number, float) else f"{key} {number}"
                    for key, number in value.items()
                )
            parts.append(f"| {name} | {value} |")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("nll", "samples", "conditioning", "table"))
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--work", type=Path, help="folder of the built corpus")
    parser.add_argument("--checkpoint", type=Path, help="nll: a .pt of this recipe or of upstream's trainer")
    parser.add_argument("--model", type=Path, help="samples, conditioning: a model folder")
    parser.add_argument("--length", type=int, default=1024, help="nll: tokens a window")
    parser.add_argument("--limit", type=int, default=1 << 30, help="nll: windows a piece")
    parser.add_argument("--count", type=int, default=100, help="pieces a form, or a level")
    parser.add_argument("--forms", nargs="+", default=list(SAMPLE_FORMS))
    parser.add_argument("--fields", nargs="+", default=list(LABELS))
    args = parser.parse_args()
    if args.part == "nll":
        name = f"nll.{args.checkpoint.stem}.{args.length}.json"
        write_result(
            args.out / name, measure_nll(load_torch(args.checkpoint), args.work, args.length, args.limit)
        )
    elif args.part == "samples":
        write_result(
            args.out / f"samples.{args.model.name}.json",
            run_samples(args.model, args.work, args.out, args.count, tuple(args.forms)),
        )
    elif args.part == "conditioning":
        result = {}
        for form in args.forms:
            result |= run_conditioning(args.model, args.out, args.count, tuple(args.fields), form)
        write_result(args.out / f"conditioning.{args.model.name}.json", result)
    else:
        print(make_tables(args.out))


if __name__ == "__main__":
    main()
