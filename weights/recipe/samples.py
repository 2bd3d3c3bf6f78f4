"""Unselected pieces beside held-out real ones: the same figures for both, and how much is copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key

from .corpus import read_rows
from .data import load_pieces
from .figures import copied_notes, grammar_error, set_figures
from .generation import MAX_TOKENS, generate_to, order_for, pieces_of

SAMPLE_FORMS = ("chorale", "invention", "fugue", "quartet")
ENOUGH_REAL = 20  # fewer held-out pieces of a form than this say little: training pieces are added


def row_piece(row: dict) -> Piece:
    """The music of a corpus line."""
    return Piece(
        [[Note(*note) for note in voice] for voice in row["voices"]], Key(*row["key"]), tuple(row["meter"])
    )


def real_rows(rows: list[dict], form: str, chorale_split: str = "jsb_valid") -> tuple[list[dict], str]:
    """Held-out rows of a form and their name; where they are few, those of the training split too."""
    own = [row for row in rows if (row["form"] or "none") == form]
    held = [row for row in own if row["split"] in ("valid", chorale_split)]
    if len(held) >= ENOUGH_REAL:
        return held, "held-out real"
    return held + [row for row in own if row["split"] == "train"], f"real, {len(held)} held out"


def run_samples(folder: Path, work: Path, out: Path, count: int, forms: tuple[str, ...]) -> dict:
    """Figures of `count` unselected pieces a form at the folder's defaults, beside real pieces.

    The real chorales are JSB's test split; chorales are also graded as Fang et al. grade them, the judge's
    Bach being the training chorales.
    """
    from mlxgen.music.vocab import Vocab

    vocab = Vocab.load(folder / "tokenizer.json")
    rows = read_rows(work)
    encoded = load_pieces(work, vocab)
    events = {piece.name: piece.events for piece in encoded}
    corpus = np.concatenate([piece.events for piece in encoded if piece.split == "train"])
    result = {}
    for form in forms:
        made = make_samples(folder, out, count, form)
        pieces = list(pieces_of(made, vocab))
        ended = [piece for piece, row in zip(pieces, made, strict=True) if row["ended"] == "eos"]
        copied = copied_notes([row["ids"] for row in made], corpus, vocab)
        result[form] = {
            **set_figures(pieces),
            "ended_share": len(ended) / len(made),
            "closing_share": set_figures(ended)["closing_share"] if ended else 0.0,
            "grammar_errors": sum(grammar_error(row["ids"], vocab) for row in made),
            "longest_copy_notes": max(copied),
            "median_copy_notes": float(np.median(copied)),
        }
        real, name = real_rows(rows, form, "jsb_test")
        held = [events[row["name"]].tolist() for row in real if row["split"] != "train"]
        copied = copied_notes(held, corpus, vocab)
        result[f"{form} ({name})"] = {
            **set_figures(row_piece(row) for row in real),
            "longest_copy_notes": max(copied),
            "median_copy_notes": float(np.median(copied)),
        }
        if form == "chorale":
            grades = fang_grades(rows, pieces, [row_piece(row) for row in real])
            for key, values in zip((form, f"{form} ({name})"), grades, strict=True):
                low, middle, high = (round(float(q), 2) for q in np.quantile(values, (0.25, 0.5, 0.75)))
                result[key] |= {"fang_median": middle, "fang_quartiles": [low, high]}
    return result


def make_samples(folder: Path, out: Path, count: int, form: str) -> list[dict]:
    """The rows of `count` pieces of a form, made where they are not there."""
    from mlxgen.model.load import load, load_generation_defaults

    order = order_for(form, load_generation_defaults(folder), max_tokens=MAX_TOKENS[form])
    return generate_to(out / f"samples.{folder.name}.{form}.jsonl", *load(folder), order, count)


def fang_grades(rows: list[dict], made: list[Piece], real: list[Piece]) -> tuple[list[float], list[float]]:
    """Grades of made and of real chorales by the training chorales; lower is better."""
    from bench.fang import Judge

    judge = Judge([row_piece(row) for row in rows if row["form"] == "chorale" and row["split"] == "train"])
    made = [piece for piece in made if piece.note_count >= 8]
    return [judge.grade(piece) for piece in made], [judge.grade(piece) for piece in real]
