"""Candidates: N continuations of one context. Ids a second, prefill seconds, peak memory.

mlxgen prefills once and shares the context; the torch loop and mlx-lm prefill it for every row, as they do
when asked for N samples of one prompt. Rows draw `--tokens` ids each. Contestants take turns.
"""

from __future__ import annotations

import sys

from bench.common import (
    describe_machine,
    finish,
    make_parser,
    median_and_spread,
    open_contestants,
    print_table,
)

NAMES = ["mlxgen", "torch loop, rules", "mlx-lm, no rules"]


def main(arguments: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", default="1,8,16,50,100")
    parser.add_argument("--contexts", default="128,2048")
    parser.add_argument("--tokens", type=int, default=32, help="ids drawn by each row")
    parser.add_argument("--only", help="contestants, separated by semicolons")
    options = parser.parse_args(arguments)
    sizes = [int(text) for text in options.rows.split(",")]
    contexts = [int(text) for text in options.contexts.split(",")]
    if options.quick:
        sizes, contexts, options.tokens, options.repeats = [2], [64], 4, 1
    names = [name.strip() for name in options.only.split(";")] if options.only else NAMES
    contestants = open_contestants(names, options.model)
    try:
        machine = describe_machine()
        described = {name: contestant.ask("describe") for name, contestant in contestants.items()}
        rows = [row for context in contexts for size in sizes
                for row in measure(contestants, size, context, options)]
    finally:
        for contestant in contestants.values():
            contestant.close()
    print(machine)
    report(rows)
    result = {"bench": "batch", "machine": machine, "contestants": described, "rows": rows}
    return finish(result, options.json)


def measure(contestants: dict, size: int, context: int, options) -> list[dict]:
    """One row a contestant at one batch size and context."""
    runs: dict[str, list[dict]] = {name: [] for name in contestants}
    for _ in range(options.repeats):
        for name, contestant in contestants.items():
            answer = contestant.ask("batch", rows=size, context=context, tokens=options.tokens)
            runs[name].append(answer)
    rows = []
    for name, parts in runs.items():
        rate, spread = median_and_spread([part["tokens"] / part["decode_s"] for part in parts])
        prefill, _ = median_and_spread([part["prefill_s"] for part in parts])
        whole, _ = median_and_spread(
            [part["tokens"] / (part["prefill_s"] + part["decode_s"]) for part in parts])
        rows.append({"contestant": name, "rows": size, "context": context, "tokens_per_s": rate,
                     "spread": spread, "prefill_s": prefill, "with_prefill_per_s": whole,
                     "cpu_ms_per_token": 1e3 * min(part["cpu_s"] / part["tokens"] for part in parts),
                     "peak_mb": max(part["peak_bytes"] for part in parts) / 2**20})
    return rows


def report(rows: list[dict]) -> None:
    table = [[row["contestant"], str(row["context"]), str(row["rows"]),
              f"{row['tokens_per_s']:.0f} ± {row['spread']:.0f}", f"{row['prefill_s']:.2f}",
              f"{row['with_prefill_per_s']:.0f}", f"{row['cpu_ms_per_token']:.2f}", f"{row['peak_mb']:.0f}"]
             for row in rows]
    header = ["contestant", "context", "rows", "ids/s", "prefill s", "with prefill", "CPU ms/id", "peak MB"]
    print_table(header, table)
    ours = {(row["rows"], row["context"]): row["tokens_per_s"]
            for row in rows if row["contestant"] == "mlxgen"}
    for context in sorted({row["context"] for row in rows}):
        for name in {row["contestant"] for row in rows} - {"mlxgen"}:
            best = max((row for row in rows if row["contestant"] == name and row["context"] == context),
                       key=lambda row: row["tokens_per_s"])
            for (size, at), rate in ours.items():
                if at == context:
                    print(f"{size} rows on {context}: {rate / best['tokens_per_s']:.2f}x {name} at its best "
                          f"({best['tokens_per_s']:.0f} ids/s with {best['rows']} rows)")


if __name__ == "__main__":
    main(sys.argv[1:])
