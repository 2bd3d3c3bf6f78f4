"""Single stream: ids a second at several contexts, percentiles per id, time to the first id.

Contestants take turns, a slice each, `--repeats` times over, every second time the other way round, so that
nobody always follows the same; a figure is the median of its slices, "ours is" the median of the rounds'
ratios, as the machine may be twice as fast a minute later. Every slice begins with a prompt of that context.
A pause comes before it: the one before may still have threads that spin, and whoever came after mlx-lm was a
fifth slower.
Ours draws under the hard rules unless it says otherwise; the torch loop has upstream's rules; mlx-lm none.
"""

from __future__ import annotations

import sys
import time

from bench.common import (
    CONTESTANTS,
    describe_machine,
    finish,
    make_parser,
    median_and_spread,
    open_contestants,
    percentile,
    print_table,
)
from mlxgen.model.config import ModelConfig
from mlxgen.model.load import read_config

OURS = "mlxgen"
SETTLE_S = 0.2


def main(arguments: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--contexts", help="such as 32,512,2048,4096 (that many ids before the first draw)")
    parser.add_argument("--tokens", type=int, default=100, help="ids in a slice")
    parser.add_argument("--only", help="contestants, separated by semicolons: " + "; ".join(CONTESTANTS))
    options = parser.parse_args(arguments)
    window = ModelConfig.from_dict(read_config(options.model)).max_seq_len
    contexts = [int(text) for text in options.contexts.split(",")] if options.contexts else [
        32, *(context for context in (512, 2048) if context < window), window]
    if options.quick:
        contexts, options.tokens, options.repeats = [32], 10, 2
    names = [name.strip() for name in options.only.split(";")] if options.only else list(CONTESTANTS)
    contestants = open_contestants(names, options.model)
    try:
        machine = describe_machine()
        described = {name: contestant.ask("describe") for name, contestant in contestants.items()}
        rows = [row for context in contexts for row in measure(contestants, context, options)]
    finally:
        for contestant in contestants.values():
            contestant.close()
    print(machine)
    for name, facts in described.items():
        print(f"  {name}: {facts}")
    report(rows)
    result = {"bench": "decode", "machine": machine, "contestants": described, "rows": rows}
    return finish(result, options.json)


def measure(contestants: dict, context: int, options) -> list[dict]:
    """One row a contestant at one context."""
    first: dict[str, list[float]] = {name: [] for name in contestants}
    slices: dict[str, list[dict]] = {name: [] for name in contestants}
    for number in range(options.repeats):
        for name, contestant in list(contestants.items())[::-1 if number % 2 else 1]:
            first[name].append(contestant.ask("prepare", context=context)["first_token_s"])
            time.sleep(SETTLE_S)
            slices[name].append(contestant.ask("decode", tokens=options.tokens))
    rows = []
    for name, parts in slices.items():
        rates = [len(part["seconds"]) / sum(part["seconds"]) for part in parts]
        each = [second for part in parts for second in part["seconds"]]
        rate, spread = median_and_spread(rates)
        cpu, _ = median_and_spread([part["cpu_s"] / len(part["seconds"]) for part in parts])
        rows.append({"contestant": name, "context": context, "tokens_per_s": rate, "spread": spread,
                     "ours_is": compare(slices[OURS], parts) if OURS in slices else None,
                     "p50_ms": 1e3 * percentile(each, 0.5), "p95_ms": 1e3 * percentile(each, 0.95),
                     "p99_ms": 1e3 * percentile(each, 0.99), "cpu_ms": 1e3 * cpu,
                     "first_token_ms": 1e3 * median_and_spread(first[name])[0]})
    return rows


def compare(ours: list[dict], theirs: list[dict]) -> float:
    """How many times as fast ours was, the median of the rounds."""
    ratios = [sum(other["seconds"]) / sum(own["seconds"]) for own, other in zip(ours, theirs, strict=True)]
    return median_and_spread(ratios)[0]


def report(rows: list[dict]) -> None:
    table = []
    for row in rows:
        ratio = "" if row["ours_is"] is None else f"{row['ours_is']:.2f}x"
        times = (f"{row[key]:.2f}" for key in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms"))
        table.append([row["contestant"], str(row["context"]),
                      f"{row['tokens_per_s']:.0f} ± {row['spread']:.0f}", ratio, *times,
                      f"{row['first_token_ms']:.0f}"])
    print_table(["contestant", "context", "ids/s", "ours is", "p50 ms", "p95 ms", "p99 ms", "CPU ms",
                 "first id ms"], table)


if __name__ == "__main__":
    main(sys.argv[1:])
