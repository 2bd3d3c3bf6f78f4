"""mlxgen show: a piece as a picture, or as a score."""

from __future__ import annotations

from pathlib import Path

import click

PICTURES = (".svg", ".png")
SCORES = (".musicxml", ".mxl")


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), default=None, metavar="PATH",
              help="Where to write; the suffix says what: .svg, .png, .musicxml.  "
                   "[default: beside FILE, .svg]")
@click.option("--png", is_flag=True, help="A PNG instead of an SVG.")
@click.option("--musicxml", is_flag=True, help="A score that MuseScore opens, instead of a picture.")
def command(file: Path, out: Path | None, png: bool, musicxml: bool):
    """Draw FILE as a piano roll, voices in colours, chunk seams marked; or write it as a score.

    FILE is a MIDI or MusicXML file, or a run folder of generate-long.
    """
    from mlxgen.compose.outputs import outline_of_file, write_picture
    from mlxgen.files.musicxml import write_musicxml

    if png and musicxml:
        raise ValueError("--png and --musicxml: expected only one of them")
    source = file / "piece.mid" if file.is_dir() else file
    target = out or source.with_suffix(".musicxml" if musicxml else ".png" if png else ".svg")
    suffix = target.suffix.lower()
    if suffix not in PICTURES + SCORES:
        raise ValueError(f"{target}: unknown suffix {suffix!r}; "
                         f"expected one of {', '.join(PICTURES + SCORES)}")
    if target.resolve() == source.resolve():
        raise ValueError(f"{target}: is the file to be shown; choose another --out")
    drawn = outline_of_file(source)
    if suffix in SCORES:
        write_musicxml(drawn.piece, target, keys=drawn.keys[1:])
    else:
        write_picture(drawn, target)
    click.echo(str(target))
