"""What generate does with its options."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from mlxgen.commands import options
from mlxgen.commands.long_run import default_name, make_settings
from mlxgen.commands.progress import RunView
from mlxgen.compose.outputs import programs_of
from mlxgen.compose.run_folder import free_folder, versions
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.single import Kept, check_short, compose_short
from mlxgen.files.atomic import write_atomically
from mlxgen.files.midi import write_midi
from mlxgen.model.load import load
from mlxgen.music.prompt import length_range

DEFAULT_MAX_TOKENS = 768
PROMPT_ROOM = 64  # ids: a prefix and the opening of a bar


def run(values: dict) -> int:
    """Compose, keep, write. Raises ValueError before anything is written."""
    model_folder = values["model_folder"] or options.default_model_folder()
    long_values = {**values, "chunks": None if values["bars"] else 1, "plan_name": None, "overlap": 1,
                   "chunk_tokens": values["max_tokens"] or DEFAULT_MAX_TOKENS}
    settings = make_settings(long_values, model_folder)
    model, vocab = load(model_folder)
    if values["length"] is not None and not values["bars"] and values["encoding"] == "interleaved":
        settings = at_length(settings, values["max_tokens"], model.config.max_seq_len - PROMPT_ROOM)
    check_short(settings, vocab, model.config.max_seq_len, values["keep"])
    folder = values["out"] or free_folder(Path("runs") / default_name(settings))
    folder.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is found now, not afterwards
    with RunView(settings, "all at once") as view:
        kept = compose_short(model, vocab, settings, values["keep"], report=view.progress)
    _write(folder, kept, settings, values["picture"])
    click.echo(f"kept {len(kept)} of {settings.num_candidates}, seed {settings.seed}; "
               f"composed in {time.monotonic() - view.started_s:.0f} s", err=True)
    return 0


def at_length(settings: ChainSettings, max_tokens: int | None, room: int) -> ChainSettings:
    """Ids for the bars that the length token names, at most `room` unless the user gave a number; the piece
    ends inside these bars if even the fewest fit, else where it likes.
    """
    fewest, most = length_range(settings.conditioning.length_bars)
    a_bar = settings.tokens_per_bar()
    tokens = max_tokens or min(room, int(a_bar * (most + 4 if most else 2 * fewest)))
    return replace(settings, chunk_tokens=tokens, timely=fewest * a_bar <= tokens)


def _write(folder: Path, kept: Sequence[Kept], settings: ChainSettings, picture: bool) -> None:
    for place, (piece, row) in enumerate(((one.piece, one.row) for one in kept), start=1):
        path = folder / f"piece-{place}.mid"
        write_midi(piece, path, programs=programs_of(settings.conditioning.form, piece))
        if picture:
            from mlxgen.files.pianoroll import draw_pianoroll

            draw_pianoroll(piece, path.with_suffix(".svg"))
        click.echo(str(path))
        click.echo(f"  {piece.length_bars} bars, score {row['score']:.3f}"
                   f"{', closes with ' + row['cadence'] if row['cadence'] else ''}", err=True)
    data = {"settings": settings.to_dict(), "versions": versions(), "kept": [one.row for one in kept]}
    write_atomically(folder / "scores.json", (json.dumps(data, indent=1) + "\n").encode())
