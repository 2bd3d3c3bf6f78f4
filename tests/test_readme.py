"""The README's commands exist, its links lead somewhere, its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from mlxgen.cli import main as cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shell_lines() -> list[str]:
    joined = "\n".join(code_blocks("bash")).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


MLXGEN_LINES = [line for line in shell_lines() if re.search(r"\b(mlxgen|bach-gen) ", line)]


def test_the_readme_shows_the_two_commands_and_the_two_modes():
    text = "\n".join(shell_lines())
    for command in ("uv run mlxgen generate-long", "uv run pytest", "uv run bach-gen generate-long",
                    "uv run bach-gen stream", "python -m convert "):
        assert command in text, command


@pytest.mark.parametrize("line", MLXGEN_LINES)
def test_every_command_line_in_the_readme_is_understood(line):
    words = shlex.split(line, comments=True)
    start = next(i for i, word in enumerate(words) if word in ("mlxgen", "bach-gen"))
    words = words[start + 1:]
    if words[0].startswith("-"):
        return
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, words[0]
    known = {flag for parameter in command.params if isinstance(parameter, click.Option)
             for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
    used = [word.split("=")[0] for word in words[1:] if word.startswith("-")]
    assert set(used) <= known, set(used) - known


def test_every_command_has_a_line_in_the_readme():
    shown = {shlex.split(line)[shlex.split(line).index(name) + 1]
             for line in MLXGEN_LINES for name in ("mlxgen", "bach-gen") if name in shlex.split(line)}
    assert set(cli.list_commands(click.Context(cli))) <= shown


def test_every_local_link_and_picture_exists():
    targets = re.findall(r"\]\(([^)#\s]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    missing = [target for target in targets
               if not target.startswith(("http://", "https://")) and not (ROOT / target).exists()]
    assert not missing


def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    blocks = code_blocks("python")
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
