"""mlxgen audition: a page for a blind listening test."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("audition")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), required=True)
@click.option("--out", "-o", "out", type=click.Path(path_type=Path), default=Path("audition.html"),
              show_default=True, help="The page.")
@click.option("--pairs", type=click.IntRange(1), default=None,
              help="Ask only this many pairs.  [default: all]")
@click.option("--seconds", type=click.FloatRange(1), default=None,
              help="Play only this much of each piece.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Order and sides.")
@click.option("--title", default="Which one would you rather hear again?", show_default=True,
              help="The heading.")
def command(files: tuple[Path, ...], out: Path, **wanted):
    """Make a page for a blind listening test of FILES: two or more MIDI or MusicXML files.

    The page plays shuffled pairs without naming them, keeps the votes in the browser and exports them as
    JSON. It needs nothing but the one file.
    """
    from mlxgen.compose.audition import make_audition
    from mlxgen.files.atomic import write_atomically
    from mlxgen.files.read import read_score

    rows = [(str(file), read_score(file)) for file in files]
    page = make_audition(rows, **wanted)
    write_atomically(out, page.encode())
    click.echo(str(out))
