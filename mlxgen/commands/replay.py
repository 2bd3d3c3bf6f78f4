"""`mlxgen replay`: a session's log played again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("log", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--midi-port", metavar="NAME", default=None, help="[default: a virtual port named mlxgen]")
@click.option(
    "--midi-api", default="auto", show_default=True, metavar="API", help="auto, core, alsa or jack."
)
@click.option("--output", "-o", type=click.Path(path_type=Path), default=None,
              help="Write a MIDI file instead of playing.")
@click.option("--check", is_flag=True, help="Draw every id again with the model and compare; play nothing.")
@click.option("--model", "model_folder", type=click.Path(path_type=Path), default=None, metavar="FOLDER",
              help="[default: the one that the log names]")
def command(log, midi_port, midi_api, output, check, model_folder) -> None:
    """Play a streamed session again: the same notes at the same ticks, controls included."""
    from mlxgen.music.vocab import Vocab
    from mlxgen.perform.log import read_log
    from mlxgen.perform.replay import replay

    entries = list(read_log(log))
    if not entries:
        raise ValueError(f"{log}: empty; expected a session log")
    folder = model_folder or Path(entries[0]["model"])
    if check:
        from mlxgen.model.blas import at_most_threads
        from mlxgen.perform.live import make_engines

        with at_most_threads(1):        # as the performance did
            make_engine, vocab = make_engines(folder, entries[0]["window"])
            tape = replay(entries, vocab, make_engine)
        click.echo(f"{log}: every id drawn again is the same, {len(tape.notes)} notes")
        return
    tape = replay(entries, Vocab.load(folder / "tokenizer.json"))
    if output is not None:
        write_tape(tape, entries[0], output)
        click.echo(f"{output}: {len(tape.notes)} notes")
        return
    _play(tape, entries[0], midi_port, midi_api)


def write_tape(tape, header: dict, path: Path) -> None:
    """The tape as a MIDI file."""
    from mlxgen.files.midi import write_midi
    from mlxgen.music.piece import Note, Piece
    from mlxgen.music.prompt import Conditioning
    from mlxgen.music.theory import Key

    voices = [[] for _ in range(max((note.voice for note in tape.notes), default=1))]
    for note in tape.notes:
        voices[note.voice - 1].append(Note(note.start_ticks, note.duration_ticks, note.pitch))
    write_midi(Piece(voices, Key.parse(header["key"]), Conditioning(**header["conditioning"]).meter,
                     header["tempo_bpm"]), path)


def _play(tape, header: dict, midi_port: str | None, midi_api: str) -> None:
    from mlxgen.perform.player import PlayerSettings
    from mlxgen.perform.ports import PortSpec, open_output
    from mlxgen.perform.replay import play_tape

    port = open_output(PortSpec(midi_port, midi_api))
    click.echo(f"playing {len(tape.notes)} notes to {port.name!r}", err=True)
    settings = PlayerSettings(tempo_bpm=header["tempo_bpm"], channels=header["channels"])
    try:
        play_tape(tape, port, settings)
    finally:
        port.close()
