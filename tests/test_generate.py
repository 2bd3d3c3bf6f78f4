"""generate and generate-long as commands: files, resume, kill -9, several processes, several pieces."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_runs import PROGRAM, invoke, kill_in_chunk_5, launch_two
from tiny_folder import write_tiny_folder

from mlxgen.commands.options import make_soft_rules
from mlxgen.files.midi import read_midi

LONG = ["generate-long", "--mode", "2-part", "--overlap", "120", "--num-candidates", "3", "--seed", "7",
        "--no-picture"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory) -> Path:
    """An uninterrupted run of seven chunks."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    invoke(*LONG, "--chunks", 7, "--model", model, "--out", folder)
    return folder


def test_a_run_leaves_a_piece_and_everything_needed_to_make_it_again(whole):
    names = sorted(path.name for path in whole.iterdir())
    assert names == [*(f"chunk-00{number}.json" for number in range(1, 8)), "manifest.json", "outline.json",
                     "piece.mid"]
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["settings"]["seed"] == 7 and len(manifest["model"]["sha256"]) == 64
    assert {"mlxgen", "mlx", "python"} <= set(manifest["versions"])
    rows = json.loads((whole / "chunk-003.json").read_text())["candidates"]
    assert len(rows) == 3 and all("dimensions" in row for row in rows)
    piece = read_midi(whole / "piece.mid")
    assert len(piece.voices) == 2 and piece.key.name == "G major"


def test_standard_output_is_the_path_of_the_midi_file(model, tmp_path):
    result = invoke(*LONG, "--chunks", 1, "--model", model, "--out", tmp_path / "run")
    assert result.stdout.strip() == str(tmp_path / "run" / "piece.mid")


def test_killed_in_chunk_5_and_resumed_is_the_same_file(model, whole, tmp_path):
    folder = tmp_path / "run"
    assert 4 <= kill_in_chunk_5([*LONG, "--chunks", 7, "--model", model], folder) < 7
    assert read_midi(folder / "piece.mid").note_count > 0  # the piece so far plays
    invoke("generate-long", "--resume", folder, "--no-picture")
    assert (folder / "piece.mid").read_bytes() == (whole / "piece.mid").read_bytes()


def test_control_c_leaves_the_piece_so_far_and_says_how_to_go_on(model, tmp_path):
    folder = tmp_path / "run"
    arguments = [*LONG, "--chunks", "40", "--model", str(model), "--out", str(folder)]
    # a shell's background job ignores Ctrl-C, and so would its children: these tests may be one
    process = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline_s = time.monotonic() + 120
    while not (folder / "chunk-002.json").exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"mlxgen generate-long --resume {folder}" in said and "Traceback" not in said
    assert read_midi(folder / "piece.mid").note_count > 0


def test_resuming_a_finished_run_writes_the_same_piece_again(model, whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    (copy / "piece.mid").unlink()
    invoke("generate-long", "--resume", copy, "--no-picture")
    assert (copy / "piece.mid").read_bytes() == (whole / "piece.mid").read_bytes()


def test_two_processes_make_the_same_piece(model, whole, tmp_path):
    folder = tmp_path / "run"
    done = launch_two([*LONG, "--chunks", 7, "--model", model, "--out", folder], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (folder / "piece.mid").read_bytes() == (whole / "piece.mid").read_bytes()
    assert done.stdout.count("piece.mid") == 1


def test_count_makes_that_many_different_pieces_and_resumes_all_of_them(model, tmp_path):
    folder = tmp_path / "many"
    invoke(*LONG, "--chunks", 1, "--count", 3, "--model", model, "--out", folder)
    pieces = {path.read_bytes() for path in folder.glob("piece-*/piece.mid")}
    assert len(pieces) == 3
    for path in folder.glob("piece-*/piece.mid"):
        path.unlink()
    (folder / "piece-02" / "chunk-001.json").unlink()
    invoke("generate-long", "--resume", folder, "--no-picture")
    assert {path.read_bytes() for path in folder.glob("piece-*/piece.mid")} == pieces


def test_the_model_says_how_hot_to_sample(model, tmp_path):
    for mode, expected in (("2-part", 0.95), ("quartet", 1.05)):
        folder = tmp_path / mode
        invoke("generate-long", "--mode", mode, "--chunks", 1, "--overlap", 200, "-n", 1, "--no-picture",
               "--model", model, "--out", folder)
        found = json.loads((folder / "manifest.json").read_text())["settings"]
        assert (found["sampling"]["temperature"], found["sampling"]["min_p"]) == (expected, 0.02)
        assert found["soft_rules"] == (["repeat"] if mode == "quartet" else [])


@pytest.mark.parametrize(("option", "expected"), [
    (None, ("repeat",)), ("none", ()), ("pattern, chromatic", ("chromatic", "pattern"))])
def test_soft_rules_are_the_models_for_the_form_unless_asked_for(model, option, expected):
    assert make_soft_rules({"soft_rules": option}, "quartet", model) == expected


def test_a_run_goes_on_only_with_its_own_model(whole, tmp_path):
    other = write_tiny_folder(tmp_path / "other", seed=5)
    result = invoke("generate-long", "--resume", whole, "--model", other, code=2)
    assert "not the model this run was begun with" in result.stderr


def test_a_folder_that_holds_a_run_is_not_overwritten(model, whole):
    before = (whole / "piece.mid").read_bytes()
    result = invoke(*LONG, "--chunks", 1, "--model", model, "--out", whole, code=2)
    assert "--resume" in result.stderr
    assert (whole / "piece.mid").read_bytes() == before


@pytest.mark.parametrize("plan", ["minuet-and-trio", "fugue"])
def test_ready_plans_run(model, tmp_path, plan):
    folder = tmp_path / plan
    invoke("generate-long", "--plan", plan, "--mode", "2-part", "--overlap", 200, "-n", 2, "--seed", 1,
           "--no-picture", "--model", model, "--out", folder)
    settings = json.loads((folder / "manifest.json").read_text())["settings"]
    assert settings["conditioning"]["form"] == "2-part"
    sections = {json.loads(path.read_text())["section"] for path in folder.glob("chunk-*.json")}
    assert sections == set(range(len(settings["plan"]["sections"])))


def test_generate_keeps_the_best(model, tmp_path):
    folder = tmp_path / "short"
    result = invoke("generate", "--mode", "2-part", "--max-tokens", 150, "-n", 4, "--keep", 2, "--seed", 3,
                    "--no-picture", "--model", model, "--out", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["piece-1.mid", "piece-2.mid", "scores.json"]
    assert result.stdout.splitlines() == [str(folder / "piece-1.mid"), str(folder / "piece-2.mid")]
    first, second = json.loads((folder / "scores.json").read_text())["kept"]
    assert (bool(first["cadence"]), first["value"]) >= (bool(second["cadence"]), 0)
    again = tmp_path / "again"
    invoke("generate", "--mode", "2-part", "--max-tokens", 150, "-n", 4, "--keep", 1, "--seed", 3,
           "--no-picture", "--model", model, "--out", again)
    assert (again / "piece-1.mid").read_bytes() == (folder / "piece-1.mid").read_bytes()


@pytest.mark.parametrize(("length", "least", "most", "ended"), [("short", 1, 16, 3), ("medium", 17, 32, 1)])
def test_a_piece_that_is_told_its_length_ends_inside_it(model, tmp_path, length, least, most, ended):
    invoke("generate", "--mode", "2-part", "--length", length, "-n", 6, "-t", 3, "--seed", 2, "--no-picture",
           "--model", model, "--out", tmp_path)
    kept = json.loads((tmp_path / "scores.json").read_text())["kept"]
    # random weights seldom close, and the model holds fewer ids than 32 of its bars have
    assert [row["ended"] for row in kept].count("eos") >= ended
    for number in (1, 2, 3):
        # a close is looked for in the second half; from bar `most` + 2 on any strong beat will do
        assert least // 2 <= read_midi(tmp_path / f"piece-{number}.mid").length_bars <= most + 6


def test_a_theme_as_notes_opens_the_piece(model, tmp_path):
    folder = tmp_path / "themed"
    invoke("generate", "--mode", "2-part", "--key", "D minor", "--theme", "D4:q A4:e r:e Bb4:q. C5:e",
           "--max-tokens", 150, "-n", 2, "--seed", 3, "--no-picture", "--model", model, "--out", folder)
    piece = read_midi(folder / "piece-1.mid")
    voice = next(voice for voice in piece.voices if voice[0].start_ticks == 0 and voice[0].pitch == 62)
    assert [(note.start_ticks, note.pitch) for note in voice[:3]] == [(0, 62), (480, 69), (960, 70)]


def test_sequential_pieces_are_written_voice_by_voice(model, tmp_path):
    folder = tmp_path / "sequential"
    invoke("generate", "--mode", "2-part", "--encoding", "sequential", "--max-tokens", 150, "-n", 2,
           "--seed", 3, "--no-picture", "--model", model, "--out", folder)
    assert read_midi(folder / "piece-1.mid").note_count > 0


@pytest.mark.parametrize("command", ["generate", "generate-long"])
def test_every_option_of_the_conditioning_reaches_the_model(model, tmp_path, command):
    folder = tmp_path / command
    more = ["--chunks", "1", "--overlap", "150"] if command == "generate-long" else ["--max-tokens", "150"]
    invoke(command, "--form", "invention", "--key", "C# minor", "--style", "renaissance", "--length", "long",
           "--meter", "3/4", "--texture", "mixed", "--imitation", "low", "--harmonic-rhythm", "fast",
           "--tension", "low", "--chromaticism", "moderate", "--temperature", 0.8, "--min-p", 0.05,
           "--top-k", 20, "--top-p", 0.95, "--soft-rules", "all", "--seed", 1, "-n", 1, "--no-picture",
           "--model", model, "--out", folder, *more)
    name = "manifest.json" if command == "generate-long" else "scores.json"
    settings = json.loads((folder / name).read_text())["settings"]
    assert settings["conditioning"] == {
        "form": "invention", "style": "renaissance", "length_bars": 64, "meter": [3, 4], "texture": "mixed",
        "imitation": "low", "harmonic_rhythm": "fast", "harmonic_tension": "low", "chromaticism": "moderate",
        "encoding": "interleaved" if command == "generate" else None}
    assert settings["sampling"] == {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "min_p": 0.05}
    assert settings["key"] == "C# minor" and len(settings["soft_rules"]) > 3
    piece = read_midi(next(folder.glob("piece*.mid")))
    assert (piece.key.name, piece.meter) == ("C# minor", (3, 4))


def test_a_picture_lies_beside_the_piece_and_show_draws_it_again(model, tmp_path):
    folder = tmp_path / "run"
    invoke("generate-long", "--mode", "2-part", "--chunks", 2, "--overlap", 150, "-n", 2, "--seed", 7,
           "--model", model, "--out", folder)
    picture = (folder / "piece.svg").read_text()
    assert picture.startswith("<svg") and picture.count("seam") == 1
    result = invoke("show", folder, "--out", tmp_path / "again.svg")
    assert result.stdout.strip() == str(tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == picture
    invoke("show", folder / "piece.mid", "--png")
    assert (folder / "piece.png").read_bytes()[:4] == b"\x89PNG"


def test_show_writes_a_score(whole, tmp_path):
    pytest.importorskip("music21")
    invoke("show", whole / "piece.mid", "--musicxml", "--out", tmp_path / "piece.musicxml")
    from mlxgen.files.read import read_score

    again = read_score(tmp_path / "piece.musicxml")
    assert again.voices == read_midi(whole / "piece.mid").voices


def test_a_report_is_written_with_the_run_or_afterwards(whole, model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    invoke("generate-long", "--resume", copy, "--no-picture", "--report")
    page = (copy / "report.html").read_text()
    assert page.count("Chunk ") == 7 and "--seed 7" in page


def test_info_tells_card_sizes_vocabulary_and_defaults(model):
    said = invoke("info", model).stdout
    for fact in ("Tiny random model", "embed_dim      32", "scale_degree, 125 ids", "24 keys",
                 "quartet", "temperature 1.05", "min_p 0.02"):
        assert fact in said


def test_an_error_of_the_first_process_stops_all_of_them(model, whole, tmp_path):
    done = launch_two([*LONG, "--chunks", 1, "--model", model, "--out", whole], tmp_path)
    assert "holds a run already" in done.stdout + done.stderr


def test_the_live_line_tells_rate_best_and_time_left():
    from mlxgen.commands.progress import RunView
    from mlxgen.compose.attempt import Progress
    from mlxgen.compose.plan import simple_plan
    from mlxgen.compose.settings import ChainSettings
    from mlxgen.music.prompt import Conditioning
    from mlxgen.music.theory import Key

    clock_s = [100.0]
    settings = ChainSettings(Conditioning(form="chorale"), Key(0, "major"), plan=simple_plan(chunks=3))
    view = RunView(settings, quiet=True, now=lambda: clock_s[0])
    for seconds, tokens, best in ((0, 0, None), (2, 200, None), (8, 1000, 0.75)):
        clock_s[0] = 100.0 + seconds + 2
        view.progress(Progress(1, "piece", tokens, 4000, 14, best))
    # 800 ids in the last 6 s; a quarter of the chunk in 8 s: 24 s for the rest of it, 64 s for two more
    line = view.line(Progress(1, "piece", 1000, 4000, 14, 0.75))
    assert line.startswith("chunk 1 of 3 ██████░") and "133 ids/s" in line
    assert "best 0.750" in line and "about 1:28 left" in line
