"""How speed falls: ids a second against context length, batch size and model width (1x, 2x, 4x), as a plot.

Our engine under the hard rules. Wider models have the folder's shape with everything but layers and
vocabulary widened, and random weights. `--plot FILE.svg` needs matplotlib.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.common import (
    CONTESTANTS,
    describe_machine,
    find_allocator,
    finish,
    make_parser,
    median_and_spread,
    print_table,
)
from bench.worker import Contestant
from mlxgen.model.config import ModelConfig
from mlxgen.model.load import FORMAT, read_config

WIDTHS = (1, 2, 4)
NAME = "mlxgen"
BATCH_CONTEXT, LIMIT_S = 128, 60.0


def widen_folder(model: Path, times: int, folder: Path) -> Path:
    """A model folder `times` as wide, random weights; `model` itself for 1."""
    if times == 1:
        return model
    import mlx.core as mx

    from mlxgen.model.blocks import expected_shapes

    config = ModelConfig.from_dict(read_config(model))
    config = replace(config, embed_dim=config.embed_dim * times, num_heads=config.num_heads * times,
                     num_kv_heads=config.num_kv_heads * times, ffn_dim=config.ffn_dim * times)
    shapes = expected_shapes(config)
    keys = mx.random.split(mx.random.key(times), len(shapes))
    weights = {name: mx.ones(shape) if "ln" in name else mx.random.normal(shape, key=key) * 0.02
               for (name, shape), key in zip(shapes.items(), keys, strict=True)}
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"format": FORMAT, "dtype": "float32"}))
    shutil.copyfile(model / "tokenizer.json", folder / "tokenizer.json")
    return folder


def measure(folder: Path, width: int, options) -> list[dict]:
    allocator = find_allocator()
    environment = {"LD_PRELOAD": allocator} if allocator else {}
    ours = Contestant(NAME, CONTESTANTS[NAME], str(folder), environment=environment)
    rows = []
    try:
        for context in options.contexts:
            ours.ask("prepare", context=context)
            rates = []
            for _ in range(options.repeats):
                seconds = ours.ask("decode", tokens=options.tokens)["seconds"]
                rates.append(len(seconds) / sum(seconds))
            rate, spread = median_and_spread(rates)
            rows.append({"what": "context", "width": width, "context": context, "rows": 1,
                         "tokens_per_s": rate, "spread": spread})
        for size in options.rows:
            answer = ours.ask("batch", rows=size, context=BATCH_CONTEXT, tokens=options.tokens,
                              limit_s=LIMIT_S)
            rows.append({"what": "batch", "width": width, "context": BATCH_CONTEXT, "rows": size,
                         "tokens_per_s": answer["tokens"] / answer["decode_s"], "spread": 0.0})
    finally:
        ours.close()
    return rows


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    for axes, what, axis in zip(panels, ("context", "batch"), ("context", "rows"), strict=True):
        for width in sorted({row["width"] for row in rows}):
            points = sorted((row[axis], row["tokens_per_s"]) for row in rows
                            if row["what"] == what and row["width"] == width)
            axes.plot(*zip(*points, strict=True), marker="o", label=f"{width}x as wide")
        axes.set(xscale="log", yscale="log",
                 xlabel="ids of context" if what == "context" else f"rows on {BATCH_CONTEXT} ids of context")
        axes.set_xticks([point for point, _ in points], [str(point) for point, _ in points], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("ids a second")
    panels[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--contexts", default="32,512,1024,2048,4096")
    parser.add_argument("--rows", default="1,4,16,50")
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--plot", type=Path, help="draw it into this file")
    options = parser.parse_args(arguments)
    if options.quick:
        options.contexts, options.rows, options.widths, options.tokens = "32,64", "1,2", "1,2", 4
    options.contexts, options.rows, options.widths = (
        [int(text) for text in texts.split(",")]
        for texts in (options.contexts, options.rows, options.widths))
    rows = []
    with tempfile.TemporaryDirectory() as workspace:
        for width in options.widths:
            rows += measure(widen_folder(options.model, width, Path(workspace, f"{width}x")), width, options)
    machine = describe_machine()
    print(machine)
    print_table(["width", "context", "rows", "ids/s"],
                [[f"{row['width']}x", str(row["context"]), str(row["rows"]),
                  f"{row['tokens_per_s']:.0f} ± {row['spread']:.0f}"] for row in rows])
    if options.plot:
        draw(rows, options.plot)
    return finish({"bench": "growth", "machine": machine, "rows": rows}, options.json)


if __name__ == "__main__":
    main(sys.argv[1:])
