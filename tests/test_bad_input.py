"""Broken input of every kind: one clear line, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import mlx.core as mx
import pytest
from click.testing import CliRunner
from tiny_folder import write_tiny_folder

from mlxgen.cli import main
from mlxgen.files.midi import write_midi
from mlxgen.music.piece import Note, Piece

LONG = ("generate-long", "--mode", "2-part", "--chunks", "1", "--overlap", "100", "-n", "1")
SHORT = ("generate", "--mode", "2-part", "--max-tokens", "100", "-n", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty working folder with a MIDI file beside it, and nothing else."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def refused(place: Path, *arguments) -> str:
    """The one line that a refused command says; it must not have written anything."""
    before = sorted(place.rglob("*"))
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert sorted(place.rglob("*")) == before
    assert result.stdout == ""
    assert result.stderr.startswith("mlxgen: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("command", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize(("options", "said"), [
    (["--key", "H major"], "key 'H major'"),
    (["--key", "D locrian"], "key 'D locrian'"),
    (["--mode", "waltz"], "form 'waltz': expected one of 2-part, invention"),
    (["--style", "jazz"], "style 'jazz': this model's vocabulary has bach, baroque"),
    (["--meter", "5/4"], "this model's vocabulary has 2_4, 3_4"),
    (["--meter", "three"], "meter 'three'"),
    (["--meter", "0/4"], "meter '0/4'"),
    (["--length", "endless"], "length 'endless': expected short, medium"),
    (["--length", "0"], "length '0'"),
    (["--texture", "thick"], "texture 'thick': this model's vocabulary has homophonic"),
    (["--imitation", "some"], "imitation 'some'"),
    (["--harmonic-rhythm", "allegro"], "harmonic rhythm 'allegro'"),
    (["--tension", "extreme"], "harmonic tension 'extreme'"),
    (["--chromaticism", "12"], "chromaticism '12'"),
    (["--temperature", "-1"], "temperature -1"),
    (["--temperature", "hot"], "'hot' is not a valid float"),
    (["--temperature", "nan"], "temperature nan"),
    (["--min-p", "1.5"], "min_p 1.5: expected 0 to 1"),
    (["--top-k", "-1"], "top_k -1"),
    (["--top-p", "0"], "top_p 0.0"),
    (["--soft-rules", "repeat,politeness"], "politeness"),
    (["--seed", "-1"], "-1 is not in the range"),
    (["--num-candidates", "0"], "0 is not in the range"),
    (["--tempo", "0"], "tempo 0"),
    (["--theme", "D4:q X9"], "theme item 2, 'X9'"),
    (["--theme", ""], "no notes"),
    (["--theme", "missing.mid"], "missing.mid: No such file"),
    (["--theme", "C4:w " * 900], "expected at most"),
    (["--bars", "0"], "0 is not in the range"),
    (["--model", "nowhere"], "expected a model folder"),
    (["--nonsense"], "No such option"),
    (["surplus"], "unexpected extra argument"),
])
def test_options(place, model, command, options, said):
    more = [] if "--model" in options else ["--model", model]
    assert said in refused(place, *command, *more, *options)


@pytest.mark.parametrize(("options", "said"), [
    (["--chunks", "0"], "0 is not in the range"),
    (["--chunks", "two"], "'two' is not a valid integer"),
    (["--overlap", "0"], "0 is not in the range"),
    (["--chunk-tokens", "8"], "8 is not in the range"),
    (["--chunk-tokens", "5000"], "chunk_tokens 5000"),
    (["--bars", "8"], "--chunks and --bars: expected only one"),
    (["--plan", "rondo"], "ready plans are chorale-prelude"),
    (["--count", "0"], "0 is not in the range"),
    (["--resume", "nowhere"], "nowhere: no manifest.json"),
])
def test_options_of_long_pieces(place, model, options, said):
    start = [argument for argument in LONG if "--plan" not in options or argument not in ("--chunks", "1")]
    if "--plan" in options:
        start = ["generate-long", "--overlap", "100", "-n", "1"]
    assert said in refused(place, *start, "--model", model, *options)


def test_more_pieces_kept_than_made(place, model):
    assert "keep 3: expected 1 to" in refused(place, *SHORT, "--model", model, "--keep", "3")


def test_a_theme_with_more_voices_than_the_form(place, model, tmp_path):
    voices = [[Note(0, 480, 72 - 5 * voice)] for voice in range(4)]
    write_midi(Piece(voices), tmp_path / "four.mid")
    said = refused(place, *LONG, "--model", model, "--theme", tmp_path / "four.mid")
    assert "theme has 4 voices" in said


@pytest.mark.parametrize("command", [LONG, SHORT], ids=["long", "short"])
def test_a_place_that_cannot_be_written(place, model, tmp_path, command):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"
    assert "Not a directory" in refused(place, *command, "--no-picture", "--model", model, "--out", out)


def _config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in data.items() if value != "gone"}))


def _weights(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    weights = mx.load(str(path))
    mx.eval(weights)
    change(weights)
    mx.save_safetensors(str(path), weights)


def _cut(folder: Path, name: str, share: float) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:int(len(data) * share)])


def _tokenizer(folder: Path, **changes) -> None:
    path = folder / "tokenizer.json"
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in data.items() if value != "gone"}))


def _more_names(folder: Path) -> None:
    names = json.loads((folder / "tokenizer.json").read_text())["token_to_name"]
    extra = {str(len(names) + index): f"EXTRA_{index}" for index in range(5)}
    _tokenizer(folder, token_to_name={**names, **extra}, vocab_size=len(names) + 5)


def _huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")


BREAKS = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    "config is not JSON": (lambda folder: _cut(folder, "config.json", 0.5), "config.json: not JSON"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
    "another format": (lambda folder: _config(folder, format="gguf"), "format 'gguf'"),
    "no format": (lambda folder: _config(folder, format="gone"), "format None"),
    "a size is missing": (lambda folder: _config(folder, num_layers="gone"), "no num_layers"),
    "a size is a word": (lambda folder: _config(folder, num_layers="two"), "num_layers is 'two'"),
    "heads do not divide": (lambda folder: _config(folder, num_heads=3), "num_heads 3"),
    "unknown positions": (lambda folder: _config(folder, pos_encoding="alibi"), "pos_encoding 'alibi'"),
    "more layers than tensors": (lambda folder: _config(folder, num_layers=3), "layers.2"),
    "fewer layers than tensors": (lambda folder: _config(folder, num_layers=1), "layers.1"),
    "unknown dtype": (lambda folder: _config(folder, dtype="int3"), "dtype 'int3'"),
    "generation is a list": (lambda folder: _config(folder, generation=[1]), "generation"),
    "temperature is a word": (lambda folder: _config(folder, generation={"temperature": "hot"}),
                              "temperature 'hot'"),
    "a tensor is missing": (lambda folder: _weights(folder, lambda weights: weights.pop("ln_final.weight")),
                            "no ln_final.weight"),
    "a tensor too many": (lambda folder: _weights(folder, lambda weights: weights.update(x=mx.zeros(3))),
                          "unexpected tensor x"),
    "a tensor of another shape": (
        lambda folder: _weights(folder, lambda weights: weights.update({"ln_final.weight": mx.ones(5)})),
        "ln_final.weight is (5,)"),
    "weights cut short": (lambda folder: _cut(folder, "model.safetensors", 0.6), "model.safetensors"),
    "weights empty": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors"),
    "weights are text": (lambda folder: (folder / "model.safetensors").write_text("hello, hello, hello"),
                         "model.safetensors"),
    "weights with a huge header": (_huge_header, "model.safetensors"),
    "tokenizer is not JSON": (lambda folder: _cut(folder, "tokenizer.json", 0.5), "tokenizer.json: not JSON"),
    "tokenizer of another kind": (lambda folder: _tokenizer(folder, tokenizer_type="bpe"), "'bpe'"),
    "tokenizer without names": (lambda folder: _tokenizer(folder, token_to_name="gone"), "token_to_name"),
    "tokenizer larger than the model": (_more_names, "names"),
    "model is a file": (lambda folder: (shutil.rmtree(folder), folder.write_text("x")), "config.json"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_model_folder(place, model, tmp_path, kind):
    folder = tmp_path / "broken"
    shutil.copytree(model, folder)
    break_it, said = BREAKS[kind]
    break_it(folder)
    assert said in refused(place, *LONG, "--model", folder)


@pytest.mark.parametrize("kind", ["no config", "config is not JSON", "no weights", "tokenizer is not JSON",
                                  "a size is a word", "generation is a list"])
def test_info_on_a_broken_folder(place, model, tmp_path, kind):
    folder = tmp_path / "broken"
    shutil.copytree(model, folder)
    break_it, said = BREAKS[kind]
    break_it(folder)
    assert said in _info_refused(folder)


def _info_refused(folder: Path) -> str:
    result = CliRunner().invoke(main, ["info", str(folder)])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    return result.stderr


@pytest.mark.parametrize("command", [["show"], ["audition", "a.mid"]], ids=["show", "audition"])
@pytest.mark.parametrize(("name", "content", "said"), [
    ("missing.mid", None, "missing.mid: No such file"),
    ("text.mid", b"not a MIDI file", "text.mid"),
    ("cut.mid", b"MThd\x00\x00\x00\x06\x00\x01", "cut.mid"),
    ("broken.musicxml", b"<score-partwise><part>", "broken.musicxml"),
    ("piece.docx", b"PK", "'.docx'"),
])
def test_files_that_are_no_music(place, command, name, content, said):
    write_midi(Piece([[Note(0, 480, 60)]]), "a.mid")
    if content is not None:
        Path(name).write_bytes(content)
    assert said in refused(place, *command, name)


@pytest.mark.parametrize(("arguments", "said"), [
    (["show", "a.mid", "--out", "a.gif"], "'.gif'"),
    (["show", "a.mid", "--png", "--musicxml"], "expected only one"),
    (["show", "a.mid", "--out", "nowhere/a.svg"], "nowhere"),
    (["show"], "Missing argument"),
    (["audition", "a.mid"], "1 pieces: expected 2 or more"),
    (["audition"], "Missing argument"),
    (["audition", "a.mid", "a.mid", "--out", "nowhere/a.html"], "nowhere"),
    (["generate-long", "--resume", "a.mid"], "a.mid"),
])
def test_commands_that_read_pieces(place, arguments, said):
    write_midi(Piece([[Note(0, 480, 60)]]), "a.mid")
    assert said in refused(place, *arguments)


@pytest.mark.parametrize(("name", "content", "said"), [
    ("manifest.json", "{", "not JSON"),
    ("manifest.json", "{}", "expected format"),
    ("manifest.json", '{"format": "mlxgen-run-1", "settings": {}, "model": {}}', "manifest.json"),
    ("chunk-001.json", "{", "not a finished chunk"),
    ("chunk-001.json", '{"section": 0}', "not a finished chunk"),
])
def test_a_damaged_run_folder(place, model, tmp_path, name, content, said):
    folder = tmp_path / "run"
    result = CliRunner().invoke(main, [*LONG, "--no-picture", "--model", str(model), "--out", str(folder)])
    assert result.exit_code == 0
    (folder / name).write_text(content)
    assert said in refused(place, "generate-long", "--resume", folder, "--no-picture")
