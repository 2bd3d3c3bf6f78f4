"""Results as Markdown: each kind of file as the table that the model card holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

FIGURES = {  # of a set of pieces: name in the result -> its words
    "pieces": "pieces",
    "notes": "notes",
    "bars": "bars, mean",
    "grammar_errors": "grammar errors",
    "parallel_fifths_per_1000": "parallel fifths per 1,000 notes",
    "parallel_octaves_per_1000": "parallel octaves per 1,000 notes",
    "out_of_range_per_1000": "notes out of range per 1,000",
    "crossing_share": "time with voices crossed",
    "downbeat_dissonance": "dissonant intervals on downbeats",
    "notes_per_beat": "notes a beat, all voices",
    "in_key_share": "time on notes of the key",
    "home_key_share": "time heard in the home key",
    "ended_share": "ended by themselves",
    "closing_share": "last chord ends an authentic cadence",
    "score_median": "the scorer's median",
    "fang_median": "Fang grade, median (lower is better)",
    "fang_quartiles": "its quartiles",
    "longest_copy_notes": "longest run also in the training data, notes",
    "median_copy_notes": "the same, median piece",
}


def cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if isinstance(value, list):
        return " to ".join(cell(part) for part in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def grid(head: list[str], rows: list[list[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(cell, row))} |" for row in rows)])


def samples_table(data: dict) -> str:
    """Figures down, sets of pieces across."""
    rows = [
        [words, *(one.get(name, "") for one in data.values())]
        for name, words in FIGURES.items()
        if any(name in one for one in data.values())
    ]
    return grid(["", *data], rows)


def conditioning_table(data: dict) -> str:
    rows = [
        [name, one["from"], one["to"], one["low_mean"], one["high_mean"], one["d"], one["interval"]]
        for name, one in data.items()
    ]
    return grid(["control", "from", "to", "mean", "mean", "d", "95 % interval"], rows)


def plain_table(data: dict | list) -> str:
    if isinstance(data, list):
        return grid(list(data[0]), [list(row.values()) for row in data])
    rows = []
    for name, value in data.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {cell(number)}" for key, number in value.items())
        rows.append([name, f"{value:.4f}" if isinstance(value, float) else value])
    return grid(["", ""], rows)


def curve_table(log: Path, every: int = 8) -> str:
    """A run's log.jsonl as its loss curve: training loss since the row before, and each validation."""
    rows, losses = [], []
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        losses += [entry["loss"]] if "loss" in entry else []
        if "valid" in entry or len(losses) >= every:
            mean = sum(losses) / len(losses) if losses else ""
            minutes = f"{entry['elapsed_s'] / 60:.0f}"
            rows.append([f"{entry['tokens'] / 1e6:.2f}", minutes, mean, entry.get("valid", "")])
            losses = []
    return grid(["M tokens", "minutes", "training loss", "held out, mean of forms"], rows)


TABLES: dict[str, Callable[[dict], str]] = {"samples": samples_table, "conditioning": conditioning_table}


def make_tables(out: Path) -> str:
    """Every result of DIR as a Markdown table of its own."""
    parts = []
    for path in sorted(out.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        parts.append(f"**{path.stem}**\n\n{TABLES.get(path.name.split('.')[0], plain_table)(data)}\n")
    return "\n".join(parts)
