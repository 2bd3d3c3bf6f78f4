"""The bench's result as tables that fit a README."""

from __future__ import annotations

from collections.abc import Iterable

SEAM_TARGETS = {"spliced": 0.93, "4-bar jump": 0.85}


def _interval(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


def _verdict(value: float, target: float | None) -> str:
    if target is None:
        return ""
    return "reached" if round(value, 3) >= target else "SHORT"


def _table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    lines = [list(map(str, line)) for line in (header, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return ["| " + " | ".join(line) + " |" for line in lines]


def _title(text: str, level: int = 2) -> list[str]:
    return ["", "#" * level + " " + text, ""]


def row_table(rows: list[dict], targets: bool = True) -> list[str]:
    """AUC, interval, target, and what each dimension makes of the row where that was measured."""
    names = list(rows[0].get("dimensions", ()))
    header = ["row", "AUC", "95 % interval", *(["target", ""] if targets else []), *names]
    lines = []
    for row in rows:
        target = row.get("target")
        cells = ["" if target is None else target, _verdict(row["auc"], target)] if targets else []
        judged = (f"{row['dimensions'][name]:.2f}" for name in names)
        lines.append([row["row"], f"{row['auc']:.3f}", _interval(row["interval"]), *cells, *judged])
    return _table(header, lines)


def claim_lines(rows: list[dict]) -> list[str]:
    short = [row for row in rows if row["auc"] < 0.5]
    least = min(rows, key=lambda row: row["auc"])
    return [
        f"{len(rows) - len(short)} of {len(rows)} claims hold; the weakest is {least['dimension']} on "
        f"{least['row']}: {least['auc']:.3f}.",
        *(f"- SHORT: {row['dimension']} on {row['row']}: {row['auc']:.3f}" for row in short),
    ]


def level_table(levels: dict) -> list[str]:
    header = ("corruption", "pooled", "95 % interval", "inside a piece, median")
    return _table(
        header,
        (
            (name, f"{row['pooled']:.3f}", _interval(row["interval"]), f"{row['within a piece']:.3f}")
            for name, row in levels.items()
        ),
    )


def share_table(shares: dict) -> list[str]:
    return _table(
        ("", *shares["dimensions"]),
        ((name, *(f"{value:.2f}" for value in row.values())) for name, row in shares.items()),
    )


def pick_table(result: dict) -> list[str]:
    header = ("candidates", "picked", "oracle", "ratio", "95 % interval")
    return _table(
        header,
        (
            (name.removeprefix("picks, "), f"{row['picked']:.4f}", f"{row['oracle']:.4f}",
             f"{row['ratio']:.2f}", _interval(row["interval"]))
            for name, row in result.items() if name.startswith("picks, ")
        ),
    )


def judge_lines(judge: dict) -> list[str]:
    picks = judge["picks"]
    return [
        f"Real chorales: median {judge['real median']:.2f} (the paper's: 4.91). Best-scored of 16 noised "
        f"versions {picks['picked']:.2f}, a random one {picks['random']:.2f}; gain {picks['gain']:.2f} "
        f"({_interval(picks['interval'])})."
    ]


def seam_rows(seams: dict, targets: dict[str, float]) -> list[str]:
    header = ("seam", "AUC", "95 % interval", "pieces", "target", "")
    return _table(
        header,
        (
            (name, f"{row['auc']:.3f}", _interval(row["interval"]), row.get("pieces", ""),
             targets.get(name, ""), _verdict(row["auc"], targets.get(name)))
            for name, row in seams.items()
        ),
    )


def model_lines(model: dict) -> list[str]:
    """The shipped model's own music: picks on the unselected judge, and its seams."""
    lines = _title("The model's own pieces")
    for title, picks in model.get("picks", {}).items():
        lines.append(
            f"{title}: best-scored of {picks['candidates']}, {picks['prompts']} prompts, Fang grade "
            f"{picks['picked']:.2f}, a random candidate {picks['random']:.2f}; gain {picks['gain']:.2f} "
            f"({_interval(picks['interval'])}; must exclude 0).\n"
        )
    if "seams" in model:
        seams = model["seams"]
        lines.append(
            f"Seams of {seams['pieces']} chained chorales ({seams['seams']} seams) against their own other "
            f"bar lines: AUC {seams['auc']:.3f} ({_interval(seams['interval'])}; at most .58)."
        )
    return lines


def other_lines(name: str, other: dict) -> list[str]:
    if not other["pieces"]:
        return [*_title(f"Held-out {name}: none found")]
    return [
        *_title(f"Held-out {name}: {other['pieces']} pieces, median {other['median']:.2f}"),
        *row_table(other["corruptions"], targets=False),
        *_title(f"Seams: {name}"),
        *seam_rows(other["seams"], {}),
    ]


def time_line(times: dict) -> str:
    return (
        f"A chunk of {times['notes']} notes behind its context: median {times['median']:.2f} ms of CPU, "
        f"least {times['least']:.2f} ms (target 5)."
    )


def write_table(result: dict) -> str:
    """Everything `bench.score_quality.run` measured but the time, as Markdown."""
    low, _, middle, _, high = result["composite quantiles"]
    lines = [
        f"# The scorer on {result['pieces']} chorales of the {result['split']} split",
        "",
        f"Real pieces score {middle:.2f} (nine in ten between {low:.2f} and {high:.2f}).",
        *_title("Corruptions: real pieces against their corrupted twins"),
        *row_table(result["corruptions"]),
        *_title("Dimensions on the rows they claim (each must be at least .5)"),
        *claim_lines(result["claims"]),
        *_title("Rank correlation with the level of corruption (target .90)"),
        *level_table(result["levels"]),
        *_title("Shares of the composite's variance, real pieces (none above .5)"),
        *share_table(result["variance, real"]),
        *_title("Shares of the composite's variance, real and corrupted pieces (none above .5)"),
        *share_table(result["variance, real and corrupted"]),
        *_title("Picking among N: altered notes of the pick and of the oracle (at 16: twice; 64 not worse)"),
        *pick_table(result),
        *_title("An unselected judge: the grade of Fang et al. (lower is better)"),
        *judge_lines(result["judge"]),
        *_title("Seams: planted, against interior bar lines"),
        *seam_rows(result["seams"], SEAM_TARGETS),
        *_title("Seams: a chunk behind its context: true continuation against other music"),
        *seam_rows(result["chunks"], {}),
        *_title("Adversaries"),
        *row_table(result["adversaries"]),
    ]
    if "model" in result:
        lines += model_lines(result["model"])
    if result["others"]:
        lines += _title("Held-out pieces of other families (reported, no targets)", 1)[:-1]
        for name, other in result["others"].items():
            lines += other_lines(name, other)
    return "\n".join(lines) + "\n"
