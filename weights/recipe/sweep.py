"""How to draw: temperature x min-p x sets of soft rules, a form at a time, judged twice.

    python -m weights.recipe.sweep --model FOLDER --work DIR --out DIR [--forms F ...] [--count 16] [--apply]
        [--temperatures T ...] [--min-ps P ...] [--sets S ...]

Each cell generates `--count` pieces of `--bars` bars, half in major, and is judged by `mlxgen.score`
(median composite) and by a judge that nothing is selected with: the distance of distances.py between the
cell's pieces and the openings of held-out real ones of the form, for chorales the median of Fang's grade. The
lowest sum of ranks under both wins, of two equals the one with fewer soft rules. `--apply` writes the winners
into the folder's config.json as its `generation` defaults. Cells in DIR are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from mlxgen.music.piece import Piece

from .corpus import read_rows
from .distances import RealMusic
from .generation import Order, generate_to, pieces_of
from .samples import SAMPLE_FORMS, real_rows, row_piece

TEMPERATURES = (0.8, 0.9, 1.0)
MIN_PS = (0.03, 0.1)
SOFT_SETS = {
    "none": "none",
    "ours": "ours",
    "no-coverage": "ours,range,chromatic,repeat,pattern,special,separator,lockstep",
    "all": "all",
}
MAX_TOKENS = 900


def judge_cell(pieces: list[Piece], real: RealMusic | FangJudge) -> dict:
    """What both judges say of one cell's pieces."""
    from mlxgen.scoring.score import score

    return {
        "score": round(float(np.median([score(piece, last=False).composite for piece in pieces])), 4),
        "distance": round(real.distance(pieces), 4),
    }


def ranked(rows: list[dict]) -> list[dict]:
    """The cells with their `rank`, the sum of places under both judges, lowest first."""
    by_score = sorted(range(len(rows)), key=lambda index: -rows[index]["score"])
    by_distance = sorted(range(len(rows)), key=lambda index: rows[index]["distance"])
    placed = [
        {**row, "rank": by_score.index(index) + by_distance.index(index)} for index, row in enumerate(rows)
    ]
    return sorted(placed, key=lambda row: (row["rank"], len(row["soft_rules"])))


@dataclass(frozen=True)
class Cells:
    """What is tried, and how much of each."""

    temperatures: Sequence[float] = TEMPERATURES
    min_ps: Sequence[float] = MIN_PS
    sets: Sequence[str] = tuple(SOFT_SETS)
    count: int = 16
    bars: int = 8


def sweep_form(model, vocab, form: str, real: RealMusic | FangJudge, out: Path, cells: Cells) -> list[dict]:
    """One row a cell: knobs, median composite, distance, share of ranks."""
    rows, count = [], cells.count
    for temperature, min_p, named in product(cells.temperatures, cells.min_ps, cells.sets):
        soft_rules = SOFT_SETS[named]
        order = Order(form, temperature, min_p, soft_rules, "allow", max_tokens=MAX_TOKENS, bars=cells.bars)
        name = f"sweep.{form}.{temperature}.{min_p}.{named}.jsonl"
        made = generate_to(out / name, model, vocab, order, count, batch=-(-count // 2))
        pieces = [piece for piece in pieces_of(made, vocab) if piece.note_count >= 8]
        rows.append(
            {
                "form": form,
                "temperature": temperature,
                "min_p": min_p,
                "soft_rules": soft_rules,
                **judge_cell(pieces, real),
            }
        )
    return ranked(rows)


def knobs(row: dict) -> dict[str, float | str]:
    """A cell as config.json says it."""
    return {name: row[name] for name in ("temperature", "min_p", "soft_rules")}


def apply_defaults(folder: Path, tables: dict[str, list[dict]]) -> None:
    """Write each form's best cell into config.json under `generation`, whole or not at all.

    Forms that were not swept get the cell with the lowest sum of ranks over all that were.
    """
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    cells = [knobs(row) for row in next(iter(tables.values()))]
    everywhere = [
        sum(row["rank"] for rows in tables.values() for row in rows if knobs(row) == cell) for cell in cells
    ]
    data["generation"] = {
        **data.get("generation", {}),
        **cells[everywhere.index(min(everywhere))],
        "forms": {form: knobs(rows[0]) for form, rows in tables.items()},
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def opening(piece: Piece, bars: int) -> Piece:
    """As much of a real piece as a cell's pieces have: a fugue's beginning is thinner than a fugue."""
    return piece.between(0, bars * piece.bar_ticks)


class FangJudge:
    """Bach's chorales as Fang et al. 2020 grade by them, in the place of a `RealMusic`."""

    def __init__(self, real: Iterable[Piece]):
        from bench.fang import Judge

        self._judge = Judge(list(real))

    def distance(self, pieces: Iterable[Piece]) -> float:
        return float(np.median([self._judge.grade(piece) for piece in pieces]))


def make_judge(corpus: list[dict], form: str, bars: int) -> RealMusic | FangJudge:
    if form == "chorale":
        own = [row for row in corpus if row["form"] == form and row["split"] == "train"]
        return FangJudge(row_piece(row) for row in own)
    return RealMusic(opening(row_piece(row), bars) for row in real_rows(corpus, form)[0])


def main() -> None:
    from mlxgen.model.load import load

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--model", "--work", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--forms", nargs="+", default=list(SAMPLE_FORMS))
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument("--min-ps", type=float, nargs="+", default=MIN_PS)
    parser.add_argument("--sets", nargs="+", choices=list(SOFT_SETS), default=list(SOFT_SETS))
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--bars", type=int, default=8)
    parser.add_argument("--apply", action="store_true")
    args = parser.parse_args()
    model, vocab = load(args.model)
    cells = Cells(args.temperatures, args.min_ps, args.sets, args.count, args.bars)
    corpus, tables = read_rows(args.work), {}
    for form in args.forms:
        judge = make_judge(corpus, form, args.bars)
        tables[form] = rows = sweep_form(model, vocab, form, judge, args.out, cells)
        (args.out / f"sweep.{form}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print("\n".join(json.dumps(row) for row in rows), flush=True)
    if args.apply:
        apply_defaults(args.model, tables)


if __name__ == "__main__":
    main()
