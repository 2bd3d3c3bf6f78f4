"""Four pieces for readers, one a form: `python -m weights.recipe.render --out docs/pieces`.

The rule: `mlxgen generate` at the folder's defaults, 16 candidates of one seed, the best by the scorer.
Writes FORM.mid and FORM.svg (the engraved score). Nobody listens before the choice.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .generation import STYLE_OF_FORM
from .samples import SAMPLE_FORMS

CANDIDATES = 16
KEY_OF_FORM = {"chorale": "G major", "invention": "D minor", "fugue": "C minor", "quartet": "Bb major"}
MAX_TOKENS = 1400


def make_command(folder: Path, form: str, bars: int, seed: int, out: Path) -> list[str]:
    """What a user types for the same piece."""
    options = {
        "--model": folder,
        "--form": form,
        "--style": STYLE_OF_FORM[form],
        "--key": KEY_OF_FORM[form],
        "--bars": bars,
        "--max-tokens": MAX_TOKENS,
        "--num-candidates": CANDIDATES,
        "--seed": seed,
        "--out": out,
    }
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "mlxgen", "generate", *words, "--no-picture"]


def render(folder: Path, form: str, bars: int, seed: int, out: Path) -> None:
    """FORM.mid and FORM.svg in `out`."""
    from mlxgen.compose.engraving import engrave
    from mlxgen.files.midi import read_midi

    with tempfile.TemporaryDirectory() as workspace:
        command = make_command(folder, form, bars, seed, Path(workspace))
        print(" ".join(["mlxgen", *command[3:]]), flush=True)
        subprocess.run(command, check=True)
        shutil.copyfile(Path(workspace, "piece-1.mid"), out / f"{form}.mid")
    pages = engrave(read_midi(out / f"{form}.mid")).pages
    if len(pages) != 1:
        raise ValueError(f"{form}: {len(pages)} pages; expected the score on one")
    (out / f"{form}.svg").write_text(slim(pages[0]), encoding="utf-8")


def slim(svg: str) -> str:
    """A score without what a still picture does not need: the mark of tempo with the font embedded for it,
    and indents. White behind it, so that it can be read on a dark page."""
    svg = re.sub(r'<g [^>]*class="tempo">.*?</g>', "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>\s*@font-face.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\n\s+", "\n", svg)
    paper = '<rect width="100%" height="100%" style="fill:white;stroke:none"/>'
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{paper}", svg, count=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("weights/default"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--forms", nargs="+", default=list(SAMPLE_FORMS))
    parser.add_argument("--bars", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for form in args.forms:
        render(args.model, form, args.bars, args.seed, args.out)


if __name__ == "__main__":
    main()
