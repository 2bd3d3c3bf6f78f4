"""`mlxgen stream`: endless music to a MIDI port, with live controls."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from mlxgen.commands.options import (
    DEFAULT_KEY,
    conditioning_options,
    default_model_folder,
    make_conditioning,
    make_sampling,
    make_soft_rules,
    model_option,
    new_seed,
    read_theme,
    sampling_options,
    theme_options,
)

STATUS_S = 2.0
SESSION = LOG, RECORDING = "session.jsonl", "recording.mid"     # what a session's folder holds


@click.command()
@conditioning_options
@sampling_options
@theme_options
@model_option
@click.option("--midi-port", metavar="NAME", default=None,
              help="Play to this port; 'none' only records.  [default: a virtual port named mlxgen]")
@click.option(
    "--midi-api", default="auto", show_default=True, metavar="API", help="auto, core, alsa or jack."
)
@click.option("--tempo", "tempo_bpm", type=float, default=80.0, show_default=True, help="Quarters a minute.")
@click.option(
    "--bars", type=click.IntRange(min=2), default=None, help="End after so many bars.  [default: never]"
)
@click.option("--buffer-bars", type=click.FloatRange(0.5, 16), default=2.0, show_default=True,
              help="How far ahead to generate.")
@click.option(
    "--window", type=click.IntRange(min=64), default=1024, show_default=True,
    help="Context in ids. More costs time a step, and the shipped model is at its best with so many.",
)
@click.option("--channels", type=click.Choice(["one", "per-voice"]), default="one", show_default=True,
              help="All voices on MIDI channel 1, or a channel a voice.")
@click.option(
    "--velocity", type=click.IntRange(1, 127), default=72, show_default=True, help="Middle loudness."
)
@click.option("--shaping", type=click.Choice(["full", "metric", "flat"]), default="full", show_default=True,
              help="Accents of the meter and the phrase, of the meter alone, or none.")
@click.option(
    "--nudge", "nudge_ms", type=click.FloatRange(-200, 200), default=0.0, help="Notes later, in ms."
)
@click.option("--clock", type=click.Choice(["off", "out", "in"]), default="off", show_default=True,
              help="Send MIDI clock, or follow the clock of the control or listen port.")
@click.option(
    "--osc", "osc_port", type=click.IntRange(1, 65535), default=None, help="Listen for OSC on this port."
)
@click.option(
    "--control-port",
    metavar="NAME",
    default=None,
    help="MIDI input whose CCs turn the controls; 'virtual' makes one.",
)
@click.option("--listen", "listen_port", metavar="NAME", default=None,
              help="MIDI input: play a theme, the music answers on the next bar; 'virtual' makes one.")
@click.option("--mapping", type=click.Path(path_type=Path), default=None, help="TOML file of CC mappings.")
@click.option("--session-folder", type=click.Path(path_type=Path), default=None,
              help="Where log and recording go.  [default: mlxgen-sessions/<date>]")
@click.option("--record", type=click.Path(path_type=Path), default=None, help="The recording, elsewhere.")
@click.option("--log", "log_path", type=click.Path(path_type=Path), default=None, help="The log, elsewhere.")
@click.option("--headless", is_flag=True, help="No screen: a status line now and then.")
@click.option(
    "--json", "as_json", is_flag=True, help="With --headless: the status as one JSON object a line."
)
def command(**values) -> None:
    """Play endless music to a MIDI port, with live controls."""
    from mlxgen.perform.conductor import Conductor, install_signals

    settings = make_stream_settings(values)
    conductor = Conductor(settings)
    install_signals(conductor)
    with conductor:
        click.echo(
            f"playing to {conductor.port_name!r}, seed {settings.session.seed}, session in {settings.folder}",
            err=True,
        )
        if values["headless"] or not sys.stdout.isatty():
            run_headless(conductor, values["as_json"])
        else:
            from mlxgen.perform.screen import run_screen

            run_screen(conductor, settings.mapping)


def make_stream_settings(values: dict):
    """The command's options -> StreamSettings; makes the session's folder."""
    from mlxgen.music.theory import Key
    from mlxgen.perform.player import PlayerSettings
    from mlxgen.perform.ports import PortSpec
    from mlxgen.perform.settings import SessionSettings
    from mlxgen.perform.troupe import StreamSettings
    from mlxgen.perform.velocity import VelocityShape
    from mlxgen.sampling.rules import RuleSet

    folder = make_session_folder(values["session_folder"])
    model_folder = values["model_folder"] or default_model_folder()
    conditioning = make_conditioning(values)
    theme = read_theme(values["theme"], values["theme_bars"]).voices[0] if values["theme"] else ()
    shape = {"full": {}, "metric": {"phrase": 0.0, "register": 0.0},
             "flat": {"metric": 0.0, "phrase": 0.0, "register": 0.0}}[values["shaping"]]
    session = SessionSettings(
        conditioning=conditioning,
        key=Key.parse(values["key"] or DEFAULT_KEY),
        params=make_sampling(values, conditioning.form, model_folder),
        rules=RuleSet(soft=frozenset(make_soft_rules(values, conditioning.form, model_folder)), eos="mask"),
        seed=new_seed() if values["seed"] is None else values["seed"],
        buffer_bars=values["buffer_bars"],
        bars=values["bars"],
        theme=tuple(theme),
        listen=values["listen_port"] is not None,
        find_key=values["listen_port"] is not None and values["key"] is None,
        velocity=VelocityShape(base=values["velocity"], **shape),
    )
    return StreamSettings(
        model_folder=model_folder,
        session=session,
        player=PlayerSettings(
            tempo_bpm=values["tempo_bpm"],
            channels=values["channels"],
            clock_out=values["clock"] == "out",
            clock_in=values["clock"] == "in",
            nudge_s=values["nudge_ms"] / 1e3,
        ),
        spec=PortSpec(values["midi_port"], values["midi_api"]),
        window=values["window"],
        folder=folder,
        record=values["record"] or folder / RECORDING,
        log=values["log_path"] or folder / LOG,
        mapping=values["mapping"] or Path.home() / ".config" / "mlxgen" / "controls.toml",
        osc_port=values["osc_port"],
        control_port=values["control_port"],
        listen_port=values["listen_port"],
    )


def make_session_folder(wanted: Path | None) -> Path:
    """The folder asked for, or a new one by date and time; with a number behind it where that one holds a
    session: nobody's recording is written over.
    """
    base = Path("mlxgen-sessions") / time.strftime("%Y-%m-%d_%H%M%S") if wanted is None else wanted.absolute()
    if base.exists() and not base.is_dir():
        raise ValueError(f"{wanted}: expected a folder")
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        folder = base.with_name(base.name + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if wanted is None or any((folder / name).exists() for name in SESSION):
                continue
        return folder if wanted is None or suffix else wanted
    raise ValueError(f"{base}: expected a folder without a session; a thousand of that name have one")


def run_headless(conductor, as_json: bool) -> None:
    """Play until it ends, with a line of status now and then."""
    from mlxgen.perform.status import make_status, status_line

    said_s = 0.0
    while conductor.tick():
        if time.monotonic() - said_s >= STATUS_S:
            said_s = time.monotonic()
            status = make_status(conductor)
            print(json.dumps(status) if as_json else status_line(status), flush=True)
