"""python -m bench NAME [options]

    decode    single stream: ids a second at several contexts, beside a torch loop and mlx-lm
    batch     many candidates on one context, beside the same
    startup   from the command to its first effect
    soak      one stream without end: speed, memory, legality
    growth    ids a second against context, batch size and model width, as a plot
    cost      kernels and bytes a token, counted; what M1, M2 and M3 should do, predicted
    latency   control to sound, theme to first note
    quality   does a stream stay as good; does the scorer order music
    plans     do pieces of the ready plans end with a cadence in the home key
    all       decode, batch, startup, soak and cost; --json FILE keeps the results
    compare   A.json B.json

`python -m bench NAME --help` lists a bench's options. The environment counts: OPENBLAS_NUM_THREADS and
OPENBLAS_CORETYPE hold for every MLX contestant alike and are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

BENCHES = {name: f"bench.{name}" for name in (
    "decode", "batch", "startup", "soak", "cost", "growth", "latency", "quality", "plans", "compare")}
ALL = ("decode", "batch", "startup", "soak", "cost")


def run_all(arguments: list[str]) -> dict:
    """Every bench of ALL, one after the other, and all results in one file."""
    parser = argparse.ArgumentParser(prog="python -m bench all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    common = [*(["--model", str(options.model)] if options.model else []),
              *(["--quick"] if options.quick else [])]
    results = []
    for name in ALL:
        print(f"\n== {name}")
        results.append(import_module(BENCHES[name]).main(common))
    if options.json:
        options.json.write_text(json.dumps({"results": results}) + "\n", encoding="utf-8")
    return {"results": results}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in (*BENCHES, "all"):
        print(__doc__, file=sys.stderr)
        return 2
    name, *rest = arguments
    if name == "all":
        run_all(rest)
        return 0
    result = import_module(BENCHES[name]).main(rest)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
