"""Whole commands in processes of their own: killed in the middle, spread over two, called in this one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlxgen.cli import main

PROGRAM = [sys.executable, "-c", "from mlxgen.cli import main; main()"]


def invoke(*arguments, code: int = 0):
    """The command in this process; AssertionError with its output for another exit code."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def kill_in_chunk_5(arguments: Sequence, folder: Path, patience_s: float = 120) -> int:
    """Run generate-long, kill -9 when four chunks are there; how many were finished then."""
    process = subprocess.Popen([*PROGRAM, *map(str, arguments), "--out", str(folder)],
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline_s = time.monotonic() + patience_s
    while not (folder / "chunk-004.json").exists() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(list(folder.glob("chunk-*.json")))


def launch_two(arguments: Sequence, scratch: Path, timeout_s: float = 300) -> subprocess.CompletedProcess:
    """mlx.launch -n 2 of the command; skips where there is no mlx.launch."""
    launch = shutil.which("mlx.launch", path=str(Path(sys.executable).parent)) or shutil.which("mlx.launch")
    if launch is None:
        pytest.skip("no mlx.launch here")
    script = scratch / "mlxgen"
    script.write_text(f"#!{sys.executable}\nfrom mlxgen.cli import main\nmain()\n")
    script.chmod(0o755)
    return subprocess.run([launch, "-n", "2", "--", str(script), *map(str, arguments)], capture_output=True,
                          text=True, timeout=timeout_s, env={**os.environ, "OMP_NUM_THREADS": "1"})
