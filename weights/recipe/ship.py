"""A checkpoint becomes the shipped folder: `python -m weights.recipe.ship CHECKPOINT --out weights/default`.

What the folder says of how to draw (`generation` in config.json) stays; card.md is written anew, its table
alone, and is finished by hand. `--longest` is the longest crop of the training: positions may go further.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from convert.export import export
from convert.interop import add_interop

from .corpus import TOKENIZER
from .schedule import STAGES


def ship(checkpoint: Path, folder: Path, longest: int) -> None:
    path = folder / "config.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    export(checkpoint, TOKENIZER, folder, dtype="float16", force=True)
    config = json.loads(path.read_text(encoding="utf-8")) | {"train_seq_len": longest}
    if "generation" in before:
        config["generation"] = before["generation"]
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    add_interop(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    longest = max(length for _, lengths in STAGES for length in lengths)
    parser.add_argument("--longest", type=int, default=longest, metavar="TOKENS")
    args = parser.parse_args()
    ship(args.checkpoint, args.out, args.longest)


if __name__ == "__main__":
    main()
