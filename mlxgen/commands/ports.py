"""`mlxgen ports`: which MIDI ports there are."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--midi-api", default="auto", show_default=True, metavar="API", help="auto, core, alsa or jack."
)
def command(midi_api: str) -> None:
    """List the MIDI ports of this machine."""
    from mlxgen.perform.ports import list_ports

    for title, names in zip(("outputs (stream --midi-port)", "inputs (--listen, --control-port)"),
                            (list_ports(midi_api)[kind] for kind in ("outputs", "inputs")), strict=True):
        click.echo(f"{title}:")
        for name in names:
            click.echo(f"  {name}")
        if not names:
            click.echo("  none")
