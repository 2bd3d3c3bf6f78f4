"""How to draw: temperature x min-p x soft rules, a form at a time, judged twice.

    python -m weights.recipe.sweep --model FOLDER --work DIR --out DIR [--forms F ...] [--count 16] [--apply]

Each cell generates `--count` pieces of `--bars` bars (seeds 0, 1, 2, ...) and is judged by `mlxgen.score`
(median composite) and by a judge that nothing is selected with: the mean Wasserstein distance, over nine
properties, between the cell's pieces and held-out real ones of the form (after Fang et al. 2020, who grade
chorales one by one with such distances to Bach). The lowest sum of ranks under both wins. `--apply` writes
the winners into the folder's config.json as its `generation` defaults. Cells in DIR are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from mlxgen.music.piece import Piece
from mlxgen.music.theory import TICKS_PER_QUARTER

from .corpus import read_rows
from .evaluate import SAMPLE_FORMS, row_piece
from .generation import Order, generate_to, pieces_of
from .labels import GRID_TICKS, SILENT, sounding_grid

TEMPERATURES = (0.7, 0.8, 0.9, 1.0)
MIN_PS = (0.02, 0.05, 0.1)
SOFT = (False, True)


def piece_properties(piece: Piece) -> dict[str, list[float]]:
    """Nine properties of a piece, each a sample of numbers."""
    grid = sounding_grid(piece)[:, :: TICKS_PER_QUARTER // GRID_TICKS]
    chords = [sorted({int(pitch) % 12 for pitch in column if pitch != SILENT}) for column in grid.T]
    spans = [(int(column[0] - column[-1])) for column in grid.T if (column != SILENT).all()]
    notes = [note for voice in piece.voices for note in voice]
    outer, inner = (piece.voices[0], piece.voices[-1]), piece.voices[1:-1] or piece.voices

    def leaps(voices) -> list[float]:
        return [float(right.pitch - left.pitch) for voice in voices for left, right in pairwise(voice)]

    return {
        "degree": [float((note.pitch - piece.key.root) % 12) for note in notes],
        "duration": [float(np.log2(note.duration_ticks / 60)) for note in notes],
        "place": [float(note.start_ticks % piece.bar_ticks) / piece.bar_ticks for note in notes],
        "outer_leap": leaps(outer),
        "inner_leap": leaps(inner),
        "register": [float(note.pitch) for note in notes],
        "chord_size": [float(len(chord)) for chord in chords],
        "bass_degree": [float((note.pitch - piece.key.root) % 12) for note in piece.voices[-1]],
        "span": [float(span) for span in spans],
    }


def wasserstein(left: list[float], right: list[float]) -> float:
    """The 1-Wasserstein distance of two samples: the area between their quantile functions."""
    if not left or not right:
        return 0.0
    at = (np.arange(200) + 0.5) / 200
    return float(np.abs(np.quantile(left, at) - np.quantile(right, at)).mean())


def distance_to_real(pieces: list[Piece], real: list[Piece]) -> float:
    """Mean over properties of the pooled sets' distance, in standard deviations of the real sample."""
    pooled = []
    for pool in (pieces, real):
        table: dict[str, list[float]] = {}
        for piece in pool:
            for name, values in piece_properties(piece).items():
                table.setdefault(name, []).extend(values)
        pooled.append(table)
    made, known = pooled
    return float(
        np.mean([wasserstein(made[name], known[name]) / (np.std(known[name]) or 1.0) for name in known])
    )


def sweep_form(model, vocab, form: str, real: list[Piece], out: Path, count: int, bars: int) -> list[dict]:
    """One row a cell: knobs, median composite, distance, share of ranks."""
    from mlxgen.scoring.score import score

    rows = []
    for temperature, min_p, soft in product(TEMPERATURES, MIN_PS, SOFT):
        order = Order(form, temperature, min_p, soft, max_tokens=900, bars=bars)
        name = f"sweep.{form}.{temperature}.{min_p}.{'soft' if soft else 'plain'}.jsonl"
        pieces = [
            piece
            for piece in pieces_of(generate_to(out / name, model, vocab, order, count), vocab)
            if piece.note_count
        ]
        rows.append(
            {
                "form": form,
                "temperature": temperature,
                "min_p": min_p,
                "soft": soft,
                "score": round(float(np.median([score(piece, last=False).composite for piece in pieces])), 4),
                "distance": round(distance_to_real(pieces, real), 4),
            }
        )
    order_by_score = sorted(range(len(rows)), key=lambda index: -rows[index]["score"])
    order_by_distance = sorted(range(len(rows)), key=lambda index: rows[index]["distance"])
    for rank, (by_score, by_distance) in enumerate(zip(order_by_score, order_by_distance, strict=True)):
        rows[by_score]["rank"] = rows[by_score].get("rank", 0) + rank
        rows[by_distance]["rank"] = rows[by_distance].get("rank", 0) + rank
    return sorted(rows, key=lambda row: row["rank"])


def apply_defaults(folder: Path, winners: dict[str, dict]) -> None:
    """Write {form: {temperature, min_p}} into config.json under `generation`, whole or not at all."""
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    forms = {
        form: {"temperature": row["temperature"], "min_p": row["min_p"]} for form, row in winners.items()
    }
    data["generation"] = {
        **data.get("generation", {}),
        "forms": {**data.get("generation", {}).get("forms", {}), **forms},
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def main() -> None:
    from mlxgen.model.load import load

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--model", "--work", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--forms", nargs="+", default=list(SAMPLE_FORMS))
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--bars", type=int, default=12)
    parser.add_argument("--apply", action="store_true")
    args = parser.parse_args()
    model, vocab = load(args.model)
    corpus, winners = read_rows(args.work), {}
    for form in args.forms:
        real = [
            row_piece(row) for row in corpus if row["form"] == form and row["split"] in ("valid", "jsb_valid")
        ]
        rows = sweep_form(model, vocab, form, real, args.out, args.count, args.bars)
        winners[form] = next(row for row in rows if not row["soft"])
        (args.out / f"sweep.{form}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print("\n".join(json.dumps(row) for row in rows[:5]), flush=True)
    if args.apply:
        apply_defaults(args.model, winners)


if __name__ == "__main__":
    main()
