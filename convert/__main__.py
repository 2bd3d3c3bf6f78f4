"""python -m convert CKPT.pt --tokenizer tokenizer.json --out FOLDER"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from convert.export import DTYPES, export


def main(arguments: list[str] | None = None) -> int:
    """0, or 2 with one line on stderr for input that cannot be converted."""
    parser = argparse.ArgumentParser(prog="python -m convert",
                                     description="An upstream checkpoint to a model folder.")
    parser.add_argument("checkpoint", help="the .pt file that upstream's trainer saved")
    parser.add_argument("--tokenizer", required=True, help="the tokenizer.json it was trained with")
    parser.add_argument("--out", required=True, help="the model folder to write")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--card", help="a Markdown file that is appended to card.md")
    parser.add_argument("--force", action="store_true", help="replace an existing model folder")
    options = parser.parse_args(arguments)
    try:
        card = Path(options.card).read_text(encoding="utf-8") if options.card else ""
        folder = export(options.checkpoint, options.tokenizer, options.out, dtype=options.dtype, card=card,
                        force=options.force)
    except (ValueError, OSError) as error:
        print(f"convert: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    size_bytes = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {options.dtype}, {size_bytes / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
