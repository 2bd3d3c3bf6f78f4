"""mlxgen generate-long: a long piece, chunk by chunk."""

from __future__ import annotations

from pathlib import Path

import click

from mlxgen.commands import options

DEFAULT_CHUNKS = 4


@click.command("generate-long")
@options.conditioning_options
@click.option("--chunks", type=click.IntRange(1, 1000), default=None,
              help=f"How many chunks.  [default: {DEFAULT_CHUNKS}]")
@click.option("--bars", type=click.IntRange(1, 10_000), default=None,
              help="How many bars, instead of --chunks.")
@click.option("--plan", "plan_name", metavar="PLAN", default=None,
              help="A section plan: a TOML file, or one of sonata-movement, fugue, chorale-prelude, "
                   "minuet-and-trio.")
@click.option("--overlap", type=click.IntRange(1), default=None,
              help="Ids of the music so far that a chunk sees; cut back to a bar line.  [default: 800]")
@click.option("--chunk-tokens", type=click.IntRange(16), default=None,
              help="New ids in a chunk.  [default: as many as --overlap; 400 without either]")
@click.option("--window", type=click.IntRange(256), default=None,
              help="Ids that the model looks back on while it draws.  [default: the model's]")
@click.option("--num-candidates", "-n", type=click.IntRange(1, 10_000), default=12, show_default=True,
              help="Candidates for each chunk; the best one is kept.")
@options.sampling_options
@options.theme_options
@click.option("--tempo", "tempo_bpm", type=float, default=80.0, show_default=True, help="Quarters a minute.")
@options.model_option
@click.option("--out", "-o", type=click.Path(path_type=Path), default=None, metavar="FOLDER",
              help="The run folder.  [default: a new one under runs/]")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, show_default=True,
              help="How many pieces.")
@click.option("--resume", type=click.Path(path_type=Path), default=None, metavar="FOLDER",
              help="Go on with an interrupted run; the piece is the one it would have been.")
@click.option("--report", is_flag=True,
              help="Also write report.html: the score, every candidate, a play button.")
@click.option("--picture/--no-picture", default=True, show_default=True,
              help="Draw a piano roll beside the MIDI.")
def command(**values):
    """Compose a long piece from overlapping, selected chunks.

    Each chunk sees the end of the music so far, is composed --num-candidates times, and the best candidate
    goes on. A finished chunk is saved at once: an interrupted run goes on with --resume.

    With no options at all: a chorale in G major. A large example:

    \b
      mlxgen generate-long --mode quartet --key "D major" --style classical \\
          --chunks 8 --overlap 2048 --num-candidates 50 --temperature 0.9
    """
    from mlxgen.commands.long_run import resume_runs, start_runs

    if values["resume"] is not None:
        return resume_runs(values)
    return start_runs(values)

