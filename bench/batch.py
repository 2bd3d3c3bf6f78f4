"""Candidates: N continuations of one context. Ids a second, prefill seconds, memory.

mlxgen prefills once and shares the context; the torch loop and mlx-lm prefill it for every row, as they do
when asked for N samples of one prompt. Rows draw `--tokens` ids each. Contestants take turns. A cell (a
contestant, a batch size, a context) decodes for `--limit` seconds at most; a run that takes a third of that,
prefill and all, is not repeated, and one that has not ended after three of it and 30 seconds is ended: its
rate is then what it is below. With `--json FILE`, cells that FILE
holds already are not measured again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.common import (
    describe_machine,
    finish,
    make_parser,
    median_and_spread,
    open_contestants,
    print_table,
)

NAMES = ["mlxgen", "torch loop, rules", "mlx-lm, no rules"]


def _patience_s(limit_s: float) -> float:
    """When a worker is ended that does not answer: one prefill or one step may take longer than the limit."""
    return 3 * limit_s + 30


def main(arguments: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", default="1,8,16,50,100")
    parser.add_argument("--contexts", default="128,2048")
    parser.add_argument("--tokens", type=int, default=32, help="ids drawn by each row")
    parser.add_argument("--limit", type=float, default=60, help="seconds for one run of a cell")
    parser.add_argument("--only", help="contestants, separated by semicolons")
    parser.add_argument("--plot", type=Path, help="write the cost of a row against N to this picture")
    options = parser.parse_args(arguments)
    sizes = [int(text) for text in options.rows.split(",")]
    contexts = [int(text) for text in options.contexts.split(",")]
    if options.quick:
        sizes, contexts, options.tokens, options.repeats = [2], [64], 4, 1
    names = [name.strip() for name in options.only.split(";")] if options.only else NAMES
    result = _earlier(options.json)
    result["machine"] = describe_machine()
    with _Workers(names, options.model) as workers:
        result["contestants"] = workers.described
        for context in contexts:
            for size in sizes:
                done = {row["contestant"] for row in result["rows"]
                        if (row["rows"], row["context"]) == (size, context)}
                result["rows"] += measure(workers, [name for name in workers.described if name not in done],
                                          size, context, options)
                _save(result, options.json)
    print(result["machine"])
    report(result["rows"])
    if options.plot:
        plot(result["rows"], options.plot)
    return finish(result, options.json)


def _earlier(path: Path | None) -> dict:
    if path is not None and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"bench": "batch", "rows": []}


def _save(result: dict, path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(result) + "\n", encoding="utf-8")


class _Workers:
    """The contestants' processes; one that was ended is started again."""

    def __init__(self, names: list[str], model: Path):
        self._model = model
        self._open = open_contestants(names, model)
        self.described = {name: contestant.ask("describe") for name, contestant in self._open.items()}

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_) -> None:
        for contestant in self._open.values():
            contestant.close()

    def ask(self, name: str, limit_s: float, **sizes) -> dict | None:
        """One run of a cell; None if it did not end in time."""
        try:
            return self._open[name].ask("batch", timeout_s=_patience_s(limit_s), limit_s=limit_s, **sizes)
        except TimeoutError as error:
            print(f"bench: {error}", file=sys.stderr)
            self._open |= open_contestants([name], self._model)
            return None


def measure(workers: _Workers, names: list[str], size: int, context: int, options) -> list[dict]:
    """One row a contestant at one batch size and context."""
    runs: dict[str, list[dict | None]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name, answers in runs.items():
            if not any(_is_long(answer, options.limit) for answer in answers):
                answers.append(workers.ask(name, options.limit, rows=size, context=context,
                                           tokens=options.tokens))
    return [make_row(name, size, context, answers, options) for name, answers in runs.items()]


def _is_long(answer: dict | None, limit_s: float) -> bool:
    """Whether a run took so long that it is not repeated."""
    return answer is None or answer["prefill_s"] + answer["decode_s"] > limit_s / 3


def make_row(name: str, size: int, context: int, answers: list[dict | None], options) -> dict:
    """The medians of a cell's runs. `cut`: "" or why the figures are from fewer ids, or from none."""
    row = {"contestant": name, "rows": size, "context": context, "cut": ""}
    if None in answers:
        patience_s = _patience_s(options.limit)
        return row | {"cut": f"not done in {patience_s:.0f} s", "spread": 0.0,
                      "tokens_per_s": size * options.tokens / patience_s}
    rate, spread = median_and_spread([part["tokens"] / part["decode_s"] for part in answers])
    prefill, _ = median_and_spread([part["prefill_s"] for part in answers])
    whole, _ = median_and_spread([part["tokens"] / (part["prefill_s"] + part["decode_s"])
                                  for part in answers])
    fewest = min(part["tokens"] for part in answers) // size
    if fewest < options.tokens - 1:
        row["cut"] = f"{fewest} of {options.tokens} ids a row"
    row["runs"] = len(answers)
    kept = {name: answers[0][name] for name in ("kv_bytes", "kv_needed_bytes", "threads")
            if name in answers[0]}
    return row | kept | {
        "tokens_per_s": rate, "spread": spread, "prefill_s": prefill, "with_prefill_per_s": whole,
        "cpu_ms_per_token": 1e3 * min(part["cpu_s"] / part["tokens"] for part in answers),
        "peak_mb": max(part["peak_bytes"] for part in answers) / 2**20}


def report(rows: list[dict]) -> None:
    table = []
    for row in sorted(rows, key=lambda row: (row["context"], row["rows"], NAMES.index(row["contestant"])
                                             if row["contestant"] in NAMES else len(NAMES))):
        cells = [row["contestant"], str(row["context"]), str(row["rows"])]
        if "prefill_s" in row:
            held = f"{row['kv_bytes'] / row['kv_needed_bytes']:.2f}" if "kv_bytes" in row else ""
            cells += [f"{row['tokens_per_s']:.0f} ± {row['spread']:.0f}", f"{row['prefill_s']:.2f}",
                      f"{row['with_prefill_per_s']:.0f}", f"{row['cpu_ms_per_token']:.2f}",
                      f"{row['peak_mb']:.0f}", held, row["cut"]]
        else:
            cells += [f"< {row['tokens_per_s']:.0f}", "", "", "", "", "", row["cut"]]
        table.append(cells)
    print_table(["contestant", "context", "rows", "ids/s", "prefill s", "with prefill", "CPU ms/id",
                 "peak MB", "KV / needed", "cut short"], table)
    compare(rows)


def compare(rows: list[dict]) -> None:
    """Ours against each of the others at *its* best batch size."""
    ours = {(row["rows"], row["context"]): row["tokens_per_s"]
            for row in rows if row["contestant"] == "mlxgen"}
    for context in sorted({row["context"] for row in rows}):
        for name in sorted({row["contestant"] for row in rows} - {"mlxgen"}):
            here = [row for row in rows if row["contestant"] == name and row["context"] == context]
            if not here:
                continue
            best = max(here, key=lambda row: row["tokens_per_s"])
            for (size, at), rate in ours.items():
                if at == context:
                    print(f"{size} rows on {context}: {rate / best['tokens_per_s']:.2f}x {name} at its best "
                          f"({best['tokens_per_s']:.0f} ids/s with {best['rows']} rows)")


def plot(rows: list[dict], path: Path) -> None:
    """Milliseconds an id of one row, against the rows of the batch. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    contexts = sorted({row["context"] for row in rows})
    figure, panels = pyplot.subplots(1, len(contexts), figsize=(4.5 * len(contexts), 3.6), sharey=True,
                                     squeeze=False, layout="constrained")
    for axes, context in zip(panels[0], contexts, strict=True):
        for name in dict.fromkeys(row["contestant"] for row in rows):
            cells = sorted((row["rows"], 1e3 / row["tokens_per_s"]) for row in rows
                           if (row["contestant"], row["context"]) == (name, context) and "prefill_s" in row)
            axes.plot(*zip(*cells, strict=True), marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="rows of the batch", title=f"{context} ids of context")
        sizes = sorted({row["rows"] for row in rows})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("ms an id of one row")
    panels[0][0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
