"""The shipped model, whole commands, minutes each: MLXGEN_SLOW=1 python -m pytest tests/test_real_runs.py"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_runs import invoke, kill_in_chunk_5, launch_two

from mlxgen.commands.options import default_model_folder
from mlxgen.files.midi import read_midi

pytestmark = [
    pytest.mark.skipif(not os.environ.get("MLXGEN_SLOW"), reason="minutes long; set MLXGEN_SLOW=1"),
    pytest.mark.skipif(not default_model_folder().is_dir(), reason="no shipped model here"),
]
COMMAND = ["generate-long", "--mode", "quartet", "--key", "D major", "--style", "classical", "--chunks", 7,
           "--overlap", 400, "--chunk-tokens", 240, "-n", 9, "--seed", 3, "--no-picture"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    invoke(*COMMAND, "--out", folder)
    return folder


def same_run(folder: Path, other: Path) -> bool:
    """The piece, byte by byte, and every candidate's figures."""
    names = sorted(path.name for path in other.glob("chunk-*.json"))
    return ((folder / "piece.mid").read_bytes() == (other / "piece.mid").read_bytes()
            and names == sorted(path.name for path in folder.glob("chunk-*.json"))
            and all((folder / name).read_bytes() == (other / name).read_bytes() for name in names))


def test_killed_in_chunk_5_and_resumed_is_the_same_run(whole, tmp_path):
    folder = tmp_path / "run"
    assert 4 <= kill_in_chunk_5(COMMAND, folder, patience_s=600) < 7
    assert read_midi(folder / "piece.mid").note_count > 0
    invoke("generate-long", "--resume", folder, "--no-picture")
    assert same_run(folder, whole)


def test_two_processes_make_the_same_piece(whole, tmp_path):
    folder = tmp_path / "run"
    done = launch_two([*COMMAND, "--out", folder], tmp_path, timeout_s=900)
    assert done.returncode == 0, done.stderr
    assert (folder / "piece.mid").read_bytes() == (whole / "piece.mid").read_bytes()
