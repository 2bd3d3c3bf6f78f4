"""mlxgen generate: short pieces, the best K of N."""

from __future__ import annotations

from pathlib import Path

import click

from mlxgen.commands import options


@click.command("generate")
@options.conditioning_options
@click.option("--bars", type=click.IntRange(1, 1000), default=None,
              help="About how many bars; the piece closes near there.  [default: where it ends by itself]")
@click.option("--max-tokens", "--max-length", type=click.IntRange(16), default=None,
              help="Most ids in a piece.  [default: 768, or what --length takes]")
@click.option("--num-candidates", "--candidates", "-n", type=click.IntRange(1, 10_000), default=8,
              show_default=True, help="How many pieces to compose.")
@click.option("--keep", "--top", "-t", type=click.IntRange(1), default=1, show_default=True,
              help="How many of them to keep, the best first.")
@options.sampling_options
@options.theme_options
@click.option("--encoding", type=click.Choice(["interleaved", "sequential"]), default="interleaved",
              show_default=True,
              help="All voices together, or one voice after the other (for models trained so); a theme "
                   "is then the whole top voice.")
@click.option("--tempo", "tempo_bpm", type=float, default=80.0, show_default=True, help="Quarters a minute.")
@options.model_option
@click.option("--out", "-o", type=click.Path(path_type=Path), default=None, metavar="FOLDER",
              help="Where the pieces go.  [default: a new folder under runs/]")
@click.option("--picture/--no-picture", default=True, show_default=True,
              help="Draw a piano roll beside each MIDI file.")
def command(**values):
    """Compose short pieces: N candidates, the best K are kept.

    Every candidate is scored; the best ones are written as piece-1.mid, piece-2.mid, ... with their scores
    in scores.json.
    """
    from mlxgen.commands.short_run import run

    return run(values)
