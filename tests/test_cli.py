"""The command line itself: help without imports, documented commands, errors as one line and a code."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mlxgen.cli import COMMANDS, LazyGroup, main

ROOT = Path(__file__).resolve().parent.parent


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT,
                          timeout=120, check=False)


def test_help_lists_every_command_with_its_line():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name} " in result.output
        assert summary.split()[0] in result.output


def test_help_imports_no_command_and_nothing_heavy():
    code = ("import sys\nfrom mlxgen.cli import main\n"
            "try: main(['--help'])\nexcept SystemExit: pass\n"
            "heavy = {'mlx.core', 'numpy', 'mido', 'rtmidi', 'torch', 'transformers', 'rich', 'music21'}\n"
            "print('found', sorted(heavy & set(sys.modules)),"
            " sorted(name for name in sys.modules if name.startswith('mlxgen.')))")
    assert python(code).stdout.splitlines()[-1] == "found [] ['mlxgen.cli']"


def test_help_takes_under_four_tenths_of_a_second():
    def cpu_s() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    took_s = []
    for _ in range(4):
        before_s = cpu_s()
        assert "generate-long" in python("from mlxgen.cli import main; main()", "--help").stdout
        took_s.append(cpu_s() - before_s)  # the wall clock of a busy machine says little
    assert min(took_s) < 0.4


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_what_each_option_means(name):
    module, summary = COMMANDS[name]
    command = import_module(module).command
    assert isinstance(command, click.Command) and command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}: no help"
    assert summary.endswith(".")


def test_both_names_are_the_same_group():
    scripts = (ROOT / "pyproject.toml").read_text()
    assert 'mlxgen = "mlxgen.cli:main"' in scripts and 'bach-gen = "mlxgen.cli:main"' in scripts
    assert isinstance(main, LazyGroup)


def test_the_roadmaps_own_line_is_understood():
    """Parsed only: running it is a matter of minutes."""
    command = import_module("mlxgen.commands.generate_long").command
    line = ["--mode", "quartet", "--key", "D major", "--style", "classical", "--chunks", "8",
            "--overlap", "2048", "--num-candidates", "50", "--temperature", "0.9"]
    values = command.make_context("generate-long", line).params
    assert (values["form"], values["key"], values["style"]) == ("quartet", "D major", "classical")
    assert (values["chunks"], values["overlap"], values["num_candidates"]) == (8, 2048, 50)
    assert values["temperature"] == 0.9


class Raising(LazyGroup):
    """The group with one command that raises."""

    error: BaseException

    def get_command(self, ctx, name):
        def fail():
            raise self.error

        return click.Command("fail", callback=fail)

    def resolve_command(self, ctx, args):
        return "fail", self.get_command(ctx, "fail"), []


@pytest.mark.parametrize(("error", "code", "said"), [
    (ValueError("key 'H': expected\n  a note"), 2, "mlxgen: key 'H': expected a note\n"),
    (FileNotFoundError(2, "No such file", "a.mid"), 2, "mlxgen: a.mid: No such file\n"),
    (OSError("the port is gone"), 2, "mlxgen: the port is gone\n"),
    (click.UsageError("No such option: --x"), 2, "mlxgen: No such option: --x\n"),
    (KeyboardInterrupt(), 130, "mlxgen: interrupted\n"),
])
def test_an_error_is_one_line_and_an_exit_code(error, code, said):
    group = Raising()
    group.error = error
    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == code
    assert result.stderr.lstrip("\n") == said and result.stdout == ""


def test_a_bug_is_not_hidden():
    group = Raising()
    group.error = KeyError("a bug")
    assert isinstance(CliRunner().invoke(group, ["fail"]).exception, KeyError)


def test_an_unknown_command_lists_the_commands():
    result = CliRunner().invoke(main, ["compose"])
    assert result.exit_code == 2
    assert "generate-long" in result.stderr and result.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error():
    process = subprocess.Popen([sys.executable, "-c", "from mlxgen.cli import main; main()", "info"],
                               cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "PYTHONUNBUFFERED": "1"})
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait()


@pytest.mark.parametrize("module", ["commands.long_run", "commands.short_run", "commands.stream",
                                    "compose.shards", "sampling.engine"])
def test_a_fast_blas_is_loaded_before_mlx(module):
    alone = python("from mlxgen.model import blas; print(blas.LOADED)").stdout
    behind = python(f"import mlxgen.{module}; from mlxgen.model import blas; print(blas.LOADED)").stdout
    assert behind == alone
