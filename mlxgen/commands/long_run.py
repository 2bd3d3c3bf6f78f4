"""What generate-long does with its options: settings, a run folder, progress, the files of the piece."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from mlxgen.commands import options
from mlxgen.commands.progress import RunView
from mlxgen.compose.chain import check_settings, compose
from mlxgen.compose.outputs import outline, write_piece
from mlxgen.compose.plan import Plan, read_plan, simple_plan
from mlxgen.compose.run_folder import RunFolder, chunk_from_dict, chunk_to_dict, free_folder
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.shards import Shards
from mlxgen.model.load import load, load_generation_defaults
from mlxgen.music.theory import Key

DEFAULT_CHUNKS, DEFAULT_OVERLAP, DEFAULT_CHUNK_TOKENS = 4, 800, 400
INTERRUPTED = 130
_SEED_STEP = 1_000_003  # pieces of one --count differ in their seeds by multiples of this


def make_settings(values: dict, model_folder: Path) -> ChainSettings:
    """Option values -> ChainSettings. ValueError for values that contradict each other or mean nothing."""
    plan = _plan(values)
    values = {**values, **{name: plan.defaults[name] for name in ("form", "key", "style", "meter")
                           if values.get(name) is None and name in plan.defaults}}
    theme = None
    if values["theme"] is not None:
        theme = options.read_theme(values["theme"], values["theme_bars"])
    from_file = theme is not None and options.is_score_file(values["theme"])
    key = theme.key if from_file and not values["key"] else Key.parse(values["key"] or options.DEFAULT_KEY)
    if from_file and values["meter"] is None:
        values["meter"] = theme.meter
    conditioning = options.make_conditioning(values)
    if conditioning.length_bars is None:
        conditioning = replace(conditioning, length_bars=_length_bars(plan, values, conditioning))
    generation = load_generation_defaults(model_folder)
    seed = values["seed"] if values["seed"] is not None else options.new_seed()
    return ChainSettings(
        conditioning=conditioning, key=key, plan=plan, overlap=values["overlap"] or DEFAULT_OVERLAP,
        chunk_tokens=_chunk_tokens(values), window=_window(values, generation, model_folder),
        num_candidates=values["num_candidates"],
        sampling=options.make_sampling(values, conditioning.form, model_folder),
        soft_rules=options.make_soft_rules(values, conditioning.form, model_folder), seed=seed,
        theme=options.place_theme(theme, conditioning.voices) if theme else (),
        tempo_bpm=values["tempo_bpm"],
        markers=bool(generation.get("markers", False)))


def _plan(values: dict) -> Plan:
    given = [f"--{name}" for name, value in
             (("chunks", values["chunks"]), ("bars", values["bars"]), ("plan", values["plan_name"])) if value]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: expected only one of --chunks, --bars, --plan")
    if values["plan_name"]:
        return read_plan(values["plan_name"])
    if values["bars"]:
        return simple_plan(bars=values["bars"])
    return simple_plan(chunks=values["chunks"] or DEFAULT_CHUNKS)


def _chunk_tokens(values: dict) -> int:
    """Half of a window is context, as upstream's plan has it, unless the user says otherwise."""
    return values["chunk_tokens"] or max(16, values["overlap"] or DEFAULT_CHUNK_TOKENS)


def _window(values: dict, generation: dict, model_folder: Path) -> int | None:
    """What was asked for, else what the model folder says its weights are good for."""
    window = values.get("window") or generation.get("window")
    if window is not None and (isinstance(window, bool) or not isinstance(window, int)):
        raise ValueError(f"{model_folder}: generation: window {window!r}; expected a whole number")
    return window


def _length_bars(plan: Plan, values: dict, conditioning) -> int:
    """How long the piece will be, for the model's LENGTH token."""
    per_chunk = _chunk_tokens(values)
    per_bar = ChainSettings(conditioning, Key(0, "major"), plan).tokens_per_bar()
    bars = [section.bars or (section.chunks or 0) * per_chunk / per_bar for section in plan.sections]
    return max(1, round(sum(bars)))


def start_runs(values: dict) -> int:
    """Begin `--count` runs and finish them."""
    model_folder = values["model_folder"] or options.default_model_folder()
    shards = Shards()
    settings = ChainSettings.from_dict(
        shards.from_first(lambda: make_settings(values, model_folder).to_dict()))
    model, vocab = load(model_folder)
    check_settings(settings, vocab, model.config.max_seq_len)
    folder = values["out"] or free_folder(Path("runs") / default_name(settings))
    runs = [_Run(replace(settings, seed=(settings.seed + number * _SEED_STEP) % 2**31), path)
            for number, path in enumerate(_piece_folders(folder, values["count"]))]

    def create() -> None:
        for run in runs:
            run.folder = RunFolder.create(run.path, run.settings, model_folder, _command_line())

    shards.from_first(create)
    return _finish(runs, model, vocab, shards, values, resume=folder)


def resume_runs(values: dict) -> int:
    """Go on with the run of a folder, or with every piece of a --count run."""
    folder, shards = values["resume"], Shards()
    found: list[RunFolder] = []

    def read() -> dict:
        single = (folder / "manifest.json").exists()
        paths = [folder] if single else sorted(path.parent for path in folder.glob("piece-*/manifest.json"))
        found.extend(RunFolder.open(path) for path in paths or [folder])
        model_folder = values["model_folder"] or Path(found[0].manifest["model"]["folder"])
        for run_folder in found:
            run_folder.check_model(model_folder)
        return {"model": str(model_folder), "runs": [
            {"settings": run_folder.settings.to_dict(), "path": str(run_folder.path),
             "chunks": [chunk_to_dict(chunk) for chunk in run_folder.chunks()]} for run_folder in found]}

    state = shards.from_first(read)
    model, vocab = load(state["model"])
    runs = [_Run(ChainSettings.from_dict(row["settings"]), Path(row["path"]),
                 [chunk_from_dict(chunk) for chunk in row["chunks"]]) for row in state["runs"]]
    for run, run_folder in zip(runs, found, strict=False):  # only the first process has found any
        run.folder = run_folder
    return _finish(runs, model, vocab, shards, values, resume=folder)


class _Run:
    """One piece on its way: settings, the folder (None on all but the first process), chunks so far."""

    def __init__(self, settings: ChainSettings, path: Path, chunks: Sequence = ()):
        self.settings, self.path, self.chunks = settings, path, list(chunks)
        self.folder: RunFolder | None = None


def _finish(runs: Sequence[_Run], model, vocab, shards: Shards, values: dict, resume: Path) -> int:
    quiet = shards.rank != 0
    for number, run in enumerate(runs, start=1):
        title = f"piece {number} of {len(runs)}" if len(runs) > 1 else ""
        view = RunView(run.settings, title, quiet=quiet, processes=shards.size)
        try:
            with view:
                _compose(run, model, vocab, shards, view, values)
        except KeyboardInterrupt:
            if not quiet:
                _say_interrupted(run, resume)
            return INTERRUPTED
        if not quiet:
            _say_done(run, view, vocab)
    return 0


def _compose(run: _Run, model, vocab, shards: Shards, view: RunView, values: dict) -> None:
    written, form = False, run.settings.conditioning.form
    for chunk in compose(model, vocab, run.settings, run.chunks, shards=shards, report=view.progress):
        run.chunks.append(chunk)
        if run.folder is not None:
            run.folder.save_chunk(len(run.chunks), chunk)
            write_piece(run.path, outline(run.settings, run.chunks, vocab), form, values["picture"])
        view.chunk_done(run.chunks)
        written = True
    if run.folder is None:
        return
    drawn = outline(run.settings, run.chunks, vocab)
    if not written:
        write_piece(run.path, drawn, form, values["picture"])
    if values["report"]:
        from mlxgen.compose.report import write_report

        write_report(run.path / "report.html", run.settings, run.chunks, drawn, run.folder.manifest)


def _piece_folders(folder: Path, count: int) -> list[Path]:
    return [folder] if count == 1 else [folder / f"piece-{number:02d}" for number in range(1, count + 1)]


def default_name(settings: ChainSettings) -> str:
    key = settings.key.name.replace(" ", "-").replace("#", "-sharp")
    return f"{settings.conditioning.form}-{key}-{settings.seed}"


def _command_line() -> str:
    return shlex.join(["mlxgen", *sys.argv[1:]])


def _say_done(run: _Run, view: RunView, vocab) -> None:
    piece = outline(run.settings, run.chunks, vocab).piece
    seconds = piece.length_ticks / 480 * 60 / piece.tempo_bpm
    click.echo(f"{run.path / 'piece.mid'}")
    click.echo(f"{piece.length_bars} bars, {int(seconds // 60)}:{int(seconds % 60):02d} at "
               f"{piece.tempo_bpm:g} quarters a minute, {len(run.chunks)} chunks, seed {run.settings.seed}; "
               f"composed in {time.monotonic() - view.started_s:.0f} s", err=True)


def _say_interrupted(run: _Run, resume: Path) -> None:
    if run.chunks:
        click.echo(f"interrupted; the piece so far ({len(run.chunks)} chunks): {run.path / 'piece.mid'}",
                   err=True)
    else:
        click.echo("interrupted before the first chunk was finished", err=True)
    click.echo(f"go on with: mlxgen generate-long --resume {shlex.quote(str(resume))}", err=True)
