"""mlxgen score: how good is the counterpoint in these files, and where is it not?"""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("score")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file, a line each.")
@click.option(
    "--report",
    "report",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[FILE.html]",
    help="Also write a page that shows where the findings are.  [default: FILE.score.html beside each]",
)
@click.option(
    "--findings",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="How many findings to print for each file; the JSON and the page have them all.",
)
def command(files: tuple[Path, ...], as_json: bool, report: str | None, findings: int):
    """Score the counterpoint in FILES, MIDI or MusicXML: a composite in [0, 1], higher is better, eight
    dimensions, and what was found: bar, voices, rule.

    The composite says how unusual the music's faults would be in real counterpoint of its kind; it is not a
    mark for beauty. Voices are the file's tracks or parts, highest first.
    """
    from mlxgen.files.atomic import write_atomically
    from mlxgen.files.read import read_score
    from mlxgen.scoring.report import make_page, make_record
    from mlxgen.scoring.score import score

    if report and not Path(report).parent.is_dir():
        raise ValueError(f"--report {report}: there is no folder {Path(report).parent}")
    rows = []
    for file in files:
        piece = read_score(file)
        result = score(piece)
        rows.append((file, piece, result))
        if as_json:
            click.echo(json.dumps(make_record(str(file), piece, result)))
        else:
            _print_table(str(file), piece, result, findings)
    if report is None:
        return
    beside = [(row[0].with_suffix(".score.html"), [row]) for row in rows]
    pages = [(Path(report), rows)] if report else beside
    for path, chosen in pages:
        write_atomically(path, make_page([(str(file), *rest) for file, *rest in chosen]).encode())
        click.echo(str(path), err=as_json)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _print_table(name: str, piece, result, limit: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mlxgen.scoring.report import (
        EXPLANATIONS,
        copy_note,
        explained,
        family_name,
        most_costly,
        worst_metrics,
    )

    console = Console(highlight=False)
    wide = console.width >= 110
    console.print(
        f"[bold]{escape(name)}[/]  {_count(len(piece.voices), 'voice')}, {_count(piece.length_bars, 'bar')}, "
        f"{_count(piece.note_count, 'note')}; judged as {family_name(piece)}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("score", justify="right")
    table.add_column("what costs most, in nats")
    if wide:
        table.add_column("asks")
    for dimension, value in result.dimensions.items():
        asks = [EXPLANATIONS[dimension]] if wide else []
        table.add_row(dimension, f"{value:.2f}", worst_metrics(result, dimension), *asks)
    table.add_row("[bold]composite[/]", f"[bold]{result.composite:.2f}[/]", "")
    console.print(table)
    if note := copy_note(piece, result):
        console.print(f"  {note}", soft_wrap=True, markup=False)
    for finding in most_costly(result, limit):
        voices = " and ".join(map(str, finding.voices))
        where = f"bar {finding.bar}" + (
            f", voice{'s' if len(finding.voices) > 1 else ''} {voices}" if voices else ""
        )
        beat, _, detail = explained(piece, finding).partition(": ")
        if not detail:
            beat, detail = "", beat
        rule = "" if detail.startswith(finding.rule) else f"{finding.rule}: "
        console.print(f"  {where}{', ' * bool(beat)}{beat}: {rule}{detail}", soft_wrap=True, markup=False)
    if len(result.findings) > limit:
        console.print(
            f"  and {len(result.findings) - limit} more: --findings {len(result.findings)} or --report"
        )
    console.print()
