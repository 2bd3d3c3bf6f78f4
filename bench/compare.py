"""Compare two result files of `python -m bench all --json FILE`: what got faster, what slower.

A row is compared with the row of the same bench, contestant and sizes; a change within the larger spread of
the two is marked as noise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.common import print_table

# what names a row, and the figures that are compared (a larger one is better where True)
NAMING = ("contestant", "context", "rows", "what", "model", "width")
FIGURES = {"tokens_per_s": True, "seconds": False, "primitives": False, "kernels": False}


def read_rows(path: Path) -> dict[tuple, tuple[float, float]]:
    """{(bench, name of the row, figure): (value, spread)} of one file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    results = data.get("results", [data])
    rows = {}
    for result in results:
        for row in result.get("rows", []):
            name = ", ".join(str(row[key]) for key in NAMING if key in row)
            for figure in FIGURES:
                if isinstance(row.get(figure), int | float):
                    rows[result["bench"], name, figure] = (row[figure], row.get("spread", 0.0))
    return rows


def main(arguments: list[str] | None = None) -> list[dict]:
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 2:
        raise SystemExit("usage: python -m bench compare A.json B.json")
    before, after = (read_rows(Path(argument)) for argument in arguments)
    changes = []
    for name in before.keys() & after.keys():
        (old, old_spread), (new, new_spread) = before[name], after[name]
        changes.append({"bench": name[0], "row": name[1], "figure": name[2], "before": old, "after": new,
                        "ratio": new / old if old else float("nan"),
                        "noise": abs(new - old) <= max(old_spread, new_spread),
                        "better": (new > old) == FIGURES[name[2]]})
    changes.sort(key=lambda change: (change["bench"], change["row"]))
    print_table(["bench", "row", "figure", "before", "after", "ratio", ""],
                [[change["bench"], change["row"], change["figure"], f"{change['before']:.2f}",
                  f"{change['after']:.2f}", f"{change['ratio']:.2f}",
                  "noise" if change["noise"] else "better" if change["better"] else "worse"]
                 for change in changes])
    only = len(before.keys() ^ after.keys())
    if only:
        print(f"{only} figures are in one file only")
    return changes


if __name__ == "__main__":
    main()
