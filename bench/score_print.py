"""The bench's result as tables that fit a README."""

from __future__ import annotations


def _interval(pair) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


def _verdict(value: float, target: float | None) -> str:
    if target is None:
        return ""
    return "reached" if round(value, 3) >= target else "SHORT"


def print_rows(title: str, rows: list[dict], dimensions: bool = False) -> None:
    print(f"\n## {title}\n")
    names = list(rows[0]["dimensions"]) if dimensions else []
    print("| row | AUC | 95 % interval | target | |" + "".join(f" {name} |" for name in names))
    print("|---|---|---|---|---|" + "---|" * len(names))
    for row in rows:
        target = row.get("target")
        cells = "".join(f" {row['dimensions'][name]:.2f} |" for name in names)
        print(
            f"| {row['row']} | {row['auc']:.3f} | {_interval(row['interval'])} | "
            f"{'' if target is None else target} | {_verdict(row['auc'], target)} |{cells}"
        )


def print_claims(rows: list[dict]) -> None:
    short = [row for row in rows if row["auc"] < 0.5]
    least = min(rows, key=lambda row: row["auc"])
    print("\n## Dimensions on the rows they claim (each must be at least .5)\n")
    print(
        f"{len(rows) - len(short)} of {len(rows)} claims hold; the weakest is {least['dimension']} on "
        f"{least['row']}: {least['auc']:.3f}."
    )
    for row in short:
        print(f"- SHORT: {row['dimension']} on {row['row']}: {row['auc']:.3f}")


def print_levels(levels: dict) -> None:
    print("\n## Rank correlation with the level of corruption (target .90)\n")
    print("| corruption | pooled | 95 % interval | inside a piece, median |")
    print("|---|---|---|---|")
    for name, row in levels.items():
        print(
            f"| {name} | {row['pooled']:.3f} | {_interval(row['interval'])} | {row['within a piece']:.3f} |"
        )


def print_shares(title: str, table: dict) -> None:
    print(f"\n## Shares of the composite's variance, {title} (none above .5)\n")
    print("| | " + " | ".join(table["dimensions"]) + " |")
    print("|---" * (len(table["dimensions"]) + 1) + "|")
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")


def print_picks(result: dict) -> None:
    print("\n## Picking among N: altered notes of the pick and of the oracle (target: twice; 64 not worse)\n")
    print("| candidates | N | picked | oracle | ratio | 95 % interval |")
    print("|---|---|---|---|---|---|")
    for name in ("pick, one piece", "pick, many pieces"):
        for size, row in result[name].items():
            print(
                f"| {name[6:]} | {size} | {row['picked']:.4f} | {row['oracle']:.4f} | {row['ratio']:.2f} | "
                f"{_interval(row['interval'])} |"
            )


def print_judge(judge: dict) -> None:
    picks = judge["picks"]
    print("\n## An unselected judge: the grade of Fang et al. (lower is better)\n")
    print(
        f"Real chorales: median {judge['real median']:.2f} (the paper's: 4.91). Best-scored of 16 noised "
        f"versions {picks['picked']:.2f}, a random one {picks['random']:.2f}; gain {picks['gain']:.2f} "
        f"({_interval(picks['interval'])})."
    )


def print_seams(title: str, seams: dict, targets: dict[str, float]) -> None:
    print(f"\n## Seams: {title}\n")
    print("| seam | AUC | 95 % interval | pieces | target | |")
    print("|---|---|---|---|---|---|")
    for name, row in seams.items():
        target = targets.get(name)
        cells = (name, f"{row['auc']:.3f}", _interval(row["interval"]), row.get("pieces", ""), target or "",
                 _verdict(row["auc"], target))
        print("| " + " | ".join(map(str, cells)) + " |")


def print_result(result: dict) -> None:
    """Everything `bench.score_quality.run` measured, as Markdown."""
    print(f"# The scorer on {result['pieces']} chorales of the {result['split']} split")
    low, _, middle, _, high = result["composite quantiles"]
    print(f"\nReal pieces score {middle:.2f} (nine in ten between {low:.2f} and {high:.2f}).")
    print_rows(
        "Corruptions: real pieces against their corrupted twins", result["corruptions"], dimensions=True
    )
    print_claims(result["claims"])
    print_levels(result["levels"])
    print_shares("real pieces", result["variance, real"])
    print_shares("real and corrupted pieces", result["variance, real and corrupted"])
    print_picks(result)
    print_judge(result["judge"])
    print_seams("planted, against interior bar lines", result["seams"], {"spliced": 0.93, "4-bar jump": 0.85})
    print_seams("a chunk behind its context: true continuation against other music", result["chunks"], {})
    print_rows("Adversaries", result["adversaries"])
    for name, other in result["others"].items():
        print_rows(
            f"Held-out {name}: {other['pieces']} pieces, median {other['median']:.2f} (reported, no target)",
            [{**row, "target": None} for row in other["corruptions"]],
            dimensions=True,
        )
        print_seams(f"held-out {name}", other["seams"], {})
    if "model" in result:
        print_model(result["model"])
    times = result["milliseconds"]
    print(
        f"\n## Time\n\nA chunk of {times['notes']} notes behind its context: "
        f"median {times['median']:.2f} ms of CPU, least {times['least']:.2f} ms (target 5).\n"
    )


def print_model(model: dict) -> None:
    print("\n## The model's own pieces\n")
    picks = model["picks"]
    print(
        f"Best of {picks['candidates']} against a random candidate, {picks['prompts']} prompts, Fang grade: "
        f"picked {picks['picked']:.2f}, random {picks['random']:.2f}, gain {picks['gain']:.2f} "
        f"({_interval(picks['interval'])}; must exclude 0)."
    )
    if "seams" in model:
        print_seams("our own chained pieces (at most .58)", {"own chains": model["seams"]}, {})
