"""The converter as its user meets it: folders of every upstream generation, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from handmade import (
    TINY_NAMES,
    check_refused,
    fuse_qkv,
    make_config,
    make_content,
    make_tensors,
    run_convert,
    write_checkpoint,
    write_legacy,
    write_tokenizer,
    write_zip,
)
from safetensors.numpy import load_file

from convert import export as export_module
from convert.__main__ import main
from convert.export import export
from mlxgen.model.config import ModelConfig


def read_folder(folder: Path) -> tuple[dict, dict[str, np.ndarray], str]:
    config = json.loads((folder / "config.json").read_text())
    return config, load_file(folder / "model.safetensors"), (folder / "card.md").read_text()


# --- every generation ----------------------------------------------------------------------------------

ROWS = len(TINY_NAMES)
# name -> changes of the config (`...` takes a field away), what config.json must then say
GENERATIONS = {
    "pope, grouped": ({}, {"pos_encoding": "pope", "num_kv_heads": 2, "drope": False, "train_seq_len": 64}),
    "rope": ({"pos_encoding": "rope", "rope_theta": 500.0}, {"pos_encoding": "rope", "rope_theta": 500.0}),
    "none": ({"pos_encoding": "none"}, {"pos_encoding": "none"}),
    "heads not grouped": ({"num_kv_heads": None}, {"num_kv_heads": 4}),
    "drope": ({"drope_trained": True, "drope_train_seq_len": 32}, {"drope": True, "train_seq_len": 32}),
    "drope of unknown length": ({"drope_trained": True}, {"drope": True, "train_seq_len": 64}),
    "untied": ({"weight_tying": False}, {"weight_tying": False}),
    "before pope": ({"pos_encoding": ..., "num_kv_heads": ...}, {"pos_encoding": "rope", "num_kv_heads": 4}),
    "before drope": ({"drope_trained": ..., "drope_train_seq_len": ...}, {"drope": False}),
    "loops off": ({"num_recurrent_steps": 1, "num_front_layers": 0, "sandwich_norm": False}, {}),
    "vocab_size too large": ({"vocab_size": 400}, {"vocab_size": ROWS}),
}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("name", GENERATIONS)
def test_every_generation(tmp_path, name, write):
    changes, expected = GENERATIONS[name]
    config = make_config(**changes)
    tensors = make_tensors(config, rows=ROWS)
    content, storages = make_content(config, tensors, legacy=write is write_legacy)
    assert run_convert(tmp_path, write(tmp_path / "a.pt", content, storages)) == 0
    found, weights, _ = read_folder(tmp_path / "model")
    assert found.items() >= expected.items()
    assert (found["format"], found["dtype"]) == ("mlxgen-1", "float32")
    assert ModelConfig.from_dict(found).ffn_dim == 24
    if config["weight_tying"]:
        del tensors["head.weight"]
    assert weights.keys() == tensors.keys()
    for key, array in tensors.items():
        np.testing.assert_array_equal(weights[key], array)


def test_fused_qkv_is_split(tmp_path):
    config = make_config(num_kv_heads=...)
    tensors = make_tensors(config)
    assert run_convert(tmp_path, write_checkpoint(tmp_path / "a.pt", config, fuse_qkv(tensors))) == 0
    weights = read_folder(tmp_path / "model")[1]
    for letter in "qkv":
        for part in ("weight", "bias"):
            name = f"layers.1.attn.{letter}_proj.{part}"
            np.testing.assert_array_equal(weights[name], tensors[name])


def test_swiglu_width_by_upstreams_rule(tmp_path):
    config = make_config(swiglu_dim=None)
    tensors = make_tensors({**config, "swiglu_dim": 64})  # 16 * 8 / 3 = 42, rounded up to a multiple of 64
    assert run_convert(tmp_path, write_checkpoint(tmp_path / "a.pt", config, tensors)) == 0
    assert read_folder(tmp_path / "model")[0]["ffn_dim"] == 64


def test_rows_beyond_the_names_are_kept(tmp_path):
    config = make_config()
    tensors = make_tensors(config, rows=ROWS + 3)
    assert run_convert(tmp_path, write_checkpoint(tmp_path / "a.pt", config, tensors)) == 0
    found, weights, _ = read_folder(tmp_path / "model")
    assert found["vocab_size"] == ROWS + 3
    np.testing.assert_array_equal(weights["token_embed.weight"], tensors["token_embed.weight"])


def test_float16_rounds_the_matrices_of_the_layers_once(tmp_path):
    assert run_convert(tmp_path, write_checkpoint(tmp_path / "a.pt"), "--dtype", "float16") == 0
    found, weights, card = read_folder(tmp_path / "model")
    assert found["dtype"] == "float16" and "float16" in card
    for name, array in make_tensors(make_config()).items():
        if name != "head.weight":
            kept = np.float16 if name.startswith("layers.") and array.ndim == 2 else np.float32
            assert weights[name].dtype == kept, name
            np.testing.assert_array_equal(weights[name], array.astype(kept))


def test_the_card_says_where_it_comes_from(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "run7.pt")
    (tmp_path / "about.md").write_text("## Data\n\nTwo bars of *nothing*.\n")
    assert run_convert(tmp_path, checkpoint, "--card", str(tmp_path / "about.md")) == 0
    _, weights, card = read_folder(tmp_path / "model")
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    count = sum(array.size for array in weights.values())
    for fact in ("run7.pt", digest, "epoch | 3", "validation loss | 1.25", "float32", f"{count:,}",
                 "Two bars of *nothing*."):
        assert fact in card
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_two_conversions_are_the_same_bytes(tmp_path):
    checkpoint, tokenizer = write_checkpoint(tmp_path / "a.pt"), write_tokenizer(tmp_path / "tokenizer.json")
    for name in ("one", "two"):
        export(checkpoint, tokenizer, tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_converts_without_torch(tmp_path):
    """On a Mac without torch: neither torch nor anything that brings it is imported."""
    checkpoint, tokenizer = write_checkpoint(tmp_path / "a.pt"), write_tokenizer(tmp_path / "tokenizer.json")
    code = ("import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'mlx_lm')))\n"
            "from convert.__main__ import main; sys.exit(main(sys.argv[1:]))")
    command = [sys.executable, "-c", code, checkpoint, "--tokenizer", tokenizer, "--out", tmp_path / "model"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "model" / "card.md").is_file()


# --- where it is written -------------------------------------------------------------------------------

@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """A checkpoint and the tokenizer it was trained with."""
    return write_checkpoint(tmp_path / "a.pt"), write_tokenizer(tmp_path / "tokenizer.json")


def test_an_existing_folder_is_kept_unless_forced(tmp_path, capsys, files):
    assert run_convert(tmp_path, files[0]) == 0
    (tmp_path / "model" / "notes.txt").write_text("mine")
    before = set(tmp_path.rglob("*"))
    capsys.readouterr()
    status = run_convert(tmp_path, files[0], "--dtype", "float16")
    check_refused(tmp_path, capsys.readouterr(), before, status, "exists already", "--force")
    assert read_folder(tmp_path / "model")[0]["dtype"] == "float32"
    assert run_convert(tmp_path, files[0], "--dtype", "float16", "--force") == 0
    assert read_folder(tmp_path / "model")[0]["dtype"] == "float16"
    assert not (tmp_path / "model" / "notes.txt").exists()
    assert {part.name for part in tmp_path.iterdir()} == {"a.pt", "tokenizer.json", "model"}


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_force_replaces_nothing_but_a_model_folder(tmp_path, capsys, files, kind):
    out = tmp_path / "model"
    if kind == "file":
        out.write_text("precious")
    elif kind == "folder":
        out.mkdir()
        (out / "precious").write_text("precious")
    else:
        out.symlink_to(tmp_path / ("a.pt" if kind == "link" else "nowhere"))
    before = set(tmp_path.rglob("*"))
    status = run_convert(tmp_path, files[0], "--force")
    check_refused(tmp_path, capsys.readouterr(), before, status, "not a model folder")
    status = run_convert(tmp_path, files[0])
    check_refused(tmp_path, capsys.readouterr(), before, status, "exists already")


def refuse_out(tmp_path, capsys, files, out: Path, message: str) -> None:
    before = set(tmp_path.rglob("*"))
    status = main([str(files[0]), "--tokenizer", str(files[1]), "--out", str(out)])
    check_refused(tmp_path, capsys.readouterr(), before, status, message)


@pytest.mark.parametrize("out", ["no/such", "a.pt/model"])
def test_no_parent_folder(tmp_path, capsys, files, out):
    refuse_out(tmp_path, capsys, files, tmp_path / out, "no such folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_may_not_be_written(tmp_path, capsys, files):
    (tmp_path / "locked").mkdir(mode=0o500)
    refuse_out(tmp_path, capsys, files, tmp_path / "locked" / "model", "Permission denied")


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize(("module", "function"), [
    (export_module, "save_file"), (export_module.shutil, "copyfile"), (export_module.tempfile, "mkdtemp"),
    (Path, "rename"), (Path, "write_text"), (Path, "mkdir"), (Path, "chmod")])
def test_a_full_disk_leaves_all_as_it_was(tmp_path, capsys, monkeypatch, files, module, function, forced):
    if forced:
        assert run_convert(tmp_path, files[0]) == 0
        capsys.readouterr()
    before = {part: part.read_bytes() if part.is_file() else None for part in tmp_path.rglob("*")}

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, function, fail)
        status = main([str(files[0]), "--tokenizer", str(files[1]), "--out", str(tmp_path / "model"),
                       *(["--force"] if forced else [])])
    check_refused(tmp_path, capsys.readouterr(), set(before), status, "No space left on device")
    assert all(data is None or part.read_bytes() == data for part, data in before.items())


def test_force_puts_the_old_folder_back(tmp_path, capsys, monkeypatch, files):
    """The second rename fails: the old folder, already out of the way, returns."""
    assert run_convert(tmp_path, files[0]) == 0
    before, rename = set(tmp_path.rglob("*")), Path.rename

    def fail_on_new(self, target):
        if self.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    capsys.readouterr()
    monkeypatch.setattr(Path, "rename", fail_on_new)
    status = run_convert(tmp_path, files[0], "--force")
    check_refused(tmp_path, capsys.readouterr(), before, status, "Input/output error")


def test_a_card_that_is_not_there(tmp_path, capsys, files):
    before = set(tmp_path.rglob("*"))
    status = run_convert(tmp_path, files[0], "--card", str(tmp_path / "no.md"))
    check_refused(tmp_path, capsys.readouterr(), before, status, "no.md")
