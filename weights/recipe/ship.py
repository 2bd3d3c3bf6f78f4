"""A checkpoint becomes the shipped folder: `python -m weights.recipe.ship CHECKPOINT --out weights/default`.

What the folder says of how to draw (`generation` in config.json) stays; card.md is written anew, its table
alone, and is finished by hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from convert.export import export
from convert.interop import add_interop

from .vocabulary import TOKENIZER


def ship(checkpoint: Path, folder: Path) -> None:
    path = folder / "config.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    export(checkpoint, TOKENIZER, folder, dtype="float16", force=True)
    if "generation" in before:
        config = json.loads(path.read_text(encoding="utf-8")) | {"generation": before["generation"]}
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    add_interop(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    ship(args.checkpoint, args.out)


if __name__ == "__main__":
    main()
