"""The figures of the model card, a part at a time: `python -m weights.recipe.evaluate PART --out DIR ...`.

    nll           held-out nats per token by form and style, and on JSB test per token, note and frame
    context       the same held-out tokens with more and more context (for models without positions)
    samples       unselected pieces of a model folder, beside held-out real pieces
    conditioning  does each word of the prompt move what it names? effect sizes with intervals
    table         what is in DIR so far, as Markdown
    curve         the loss curve of a training run, as Markdown

Every part writes DIR/PART.NAME.json (and the generated ids as JSON lines) and goes on from what is there;
forms and controls that were measured before stay in the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from .controls import CONTROLS, run_control
from .likelihood import load_torch, measure_context, measure_nll, with_scale
from .samples import SAMPLE_FORMS, make_samples, run_samples
from .tables import curve_table, make_tables


def write_result(path: Path, result: dict) -> None:
    """Merged into what the file has; printed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**before, **result}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1), flush=True)


def run_nll(args: argparse.Namespace) -> None:
    result = measure_nll(load_torch(args.checkpoint), args.work, args.length, args.limit)
    write_result(args.out / f"nll.{args.name or args.checkpoint.stem}.{args.length}.json", result)


def run_context(args: argparse.Namespace) -> None:
    model = load_torch(args.checkpoint)
    for c in args.scale_c:
        scaled = with_scale(load_torch(args.checkpoint), c, args.train_length) if c else model
        result = {
            f"c {c} {args.split}": measure_context(scaled, args.work, args.lengths, args.split, args.pieces)
        }
        write_result(args.out / f"context.{args.name or args.checkpoint.stem}.json", result)


def run_sampling(args: argparse.Namespace) -> None:
    for form in args.forms:
        if args.only_generate:
            make_samples(args.model, args.out, args.count, form)
        else:
            result = run_samples(args.model, args.work, args.out, args.count, (form,))
            write_result(args.out / f"samples.{args.model.name}.json", result)


def run_conditioning(args: argparse.Namespace) -> None:
    for name in args.controls:
        result = {name: run_control(args.model, args.work, args.out, args.count, name)}
        write_result(args.out / f"conditioning.{args.model.name}.json", result)


# part -> what runs it, and the options it cannot do without
PARTS: dict[str, tuple[Callable[[argparse.Namespace], None], tuple[str, ...]]] = {
    "nll": (run_nll, ("work", "checkpoint")),
    "context": (run_context, ("work", "checkpoint")),
    "samples": (run_sampling, ("work", "model")),
    "conditioning": (run_conditioning, ("work", "model")),
    "table": (lambda args: print(make_tables(args.out)), ()),
    "curve": (lambda args: print(curve_table(args.run / "log.jsonl")), ("run",)),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of results")
    parser.add_argument("--work", type=Path, help="folder of the built corpus")
    parser.add_argument("--checkpoint", type=Path, help="nll, context: a .pt of this recipe or of upstream")
    parser.add_argument("--name", help="nll, context: the name of the result  [default: the file's]")
    parser.add_argument("--run", type=Path, help="curve: folder of a training run")
    parser.add_argument("--model", type=Path, help="samples, conditioning: a model folder")
    parser.add_argument("--length", type=int, default=1024, help="nll: tokens a window")
    parser.add_argument("--limit", type=int, default=1 << 30, help="nll: windows a piece")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096], help="context: windows")
    parser.add_argument("--scale-c", type=float, nargs="+", default=[0.0], help="context: DroPE's c")
    parser.add_argument("--train-length", type=int, default=1024, help="context: where c sets in")
    parser.add_argument("--split", default="valid", help="context: valid, or train to choose c")
    parser.add_argument("--pieces", type=int, default=12, help="context: pieces")
    parser.add_argument("--count", type=int, default=100, help="samples a form, or a level")
    parser.add_argument("--forms", nargs="+", default=list(SAMPLE_FORMS), help="samples: forms")
    parser.add_argument("--only-generate", action="store_true", help="samples: no figures yet")
    parser.add_argument("--controls", nargs="+", default=list(CONTROLS), choices=list(CONTROLS))
    return parser


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    run, needed = PARTS[args.part]
    for name in needed:
        if getattr(args, name) is None:
            parser.error(f"{args.part} needs --{name}")
    run(args)


if __name__ == "__main__":
    main()
