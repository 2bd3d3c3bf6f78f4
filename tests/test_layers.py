"""Who may import whom, read from the source; and what `import mlxgen` must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("music", "model", "sampling", "scoring", "files", "compose", "perform", "commands", "cli")

# A layer imports those before it in LAYERS, except where this table allows fewer.
NARROWER = {"files": ("music",)}

# A package outside the standard library, or a part of the library, and the only places that may import it.
PLACES = {
    "torch": ("convert/reference.py", "convert/parity.py", "weights/recipe/", "bench/peers/"),
    "transformers": (),
    "mlx_lm": ("bench/peers/", "convert/mlx_lm_model.py"),
    "mido": ("mlxgen/files/midi.py", "mlxgen/perform/"),
    "rtmidi": ("mlxgen/files/midi.py", "mlxgen/perform/"),
    "click": ("mlxgen/cli.py", "mlxgen/commands/"),
    "PIL": ("mlxgen/files/canvas.py",),
    "music21": ("mlxgen/files/musicxml.py", "weights/recipe/"),
    "matplotlib": ("bench/",),
    "mlx": ("mlxgen/model/", "mlxgen/sampling/", "mlxgen/scoring/", "mlxgen/compose/", "mlxgen/perform/",
            "mlxgen/commands/", "mlxgen/cli.py", "convert/", "bench/", "weights/recipe/"),
    "threading": ("mlxgen/perform/", "convert/", "bench/", "weights/recipe/"),
    "multiprocessing": ("mlxgen/perform/", "convert/", "bench/", "weights/recipe/"),
    "concurrent": ("mlxgen/perform/", "convert/", "bench/", "weights/recipe/"),
    "asyncio": ("mlxgen/perform/",),
}  # fmt: skip
TOOLS = ("convert", "bench", "weights")


def imported(source: str, path: str) -> set[str]:
    """The dotted names that a file imports anywhere in it, relative ones resolved against its `path`."""
    package = list(Path(path).with_suffix("").parts[:-1])
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= (
                {f"{module}.{alias.name}" for alias in node.names} if module in ("", "mlxgen") else {module}
            )
    return names


def faults(source: str, path: str) -> list[str]:
    """What a file imports and must not, one line each."""
    parts = Path(path).with_suffix("").parts
    found = []
    for name in sorted(imported(source, path)):
        head, *rest = name.split(".")
        allowed = PLACES.get(head)
        if allowed is not None and not any(path.startswith(place) for place in allowed):
            found.append(f"{path} imports {head}, which belongs in {', '.join(allowed) or 'no file'}")
        if parts[0] != "mlxgen" or len(parts) < 2:
            continue
        if head in TOOLS:
            found.append(f"{path} imports {name}: tools import mlxgen, never the reverse")
        if head == "mlxgen" and rest and rest[0] in LAYERS and parts[1] in LAYERS:
            above = NARROWER.get(parts[1], LAYERS[: LAYERS.index(parts[1])])
            if rest[0] not in (*above, parts[1]):
                found.append(f"{path} imports {name}: {parts[1]} stands above {rest[0]}")
    return found


def sources() -> list[str]:
    """Not the copy of convert/mlx_lm_model.py that lies in a model folder, which is data."""
    folders = ("mlxgen", *TOOLS)
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))
             if not (path.parent / "model.safetensors").exists()]
    return [path.relative_to(ROOT).as_posix() for path in paths]


@pytest.mark.parametrize("path", sources())
def test_every_file_imports_only_what_it_may(path):
    assert faults((ROOT / path).read_text(encoding="utf-8"), path) == []


def test_every_room_is_a_layer():
    rooms = {Path(path).with_suffix("").parts[1] for path in sources() if path.startswith("mlxgen/")}
    assert rooms - {"__init__", "__main__"} <= set(LAYERS)
    assert {"music", "model", "sampling", "files"} <= rooms


@pytest.mark.parametrize(
    "path, source, says",
    [
        ("mlxgen/music/a.py", "import mlx.core as mx", "imports mlx"),
        ("mlxgen/music/a.py", "from mlxgen.model.load import load", "music stands above model"),
        (
            "mlxgen/model/a.py",
            "def f():\n    from mlxgen.sampling import engine",
            "model stands above sampling",
        ),
        ("mlxgen/model/a.py", "from ..scoring import score", "model stands above scoring"),
        ("mlxgen/model/a.py", "from mlxgen import compose", "model stands above compose"),
        ("mlxgen/files/a.py", "from mlxgen.model.load import load", "files stands above model"),
        ("mlxgen/compose/a.py", "from mlxgen.commands import generate", "compose stands above commands"),
        ("mlxgen/compose/a.py", "import threading", "imports threading"),
        ("mlxgen/compose/a.py", "import click", "imports click"),
        ("mlxgen/files/musicxml.py", "import mido", "imports mido"),
        ("mlxgen/sampling/a.py", "import torch.nn as nn", "imports torch"),
        ("mlxgen/commands/a.py", "from convert.export import export", "never the reverse"),
        ("convert/export.py", "import torch", "imports torch"),
        ("bench/a.py", "from mlx_lm import load", "imports mlx_lm"),
        ("mlxgen/cli.py", "import transformers", "no file"),
    ],
)
def test_the_walk_sees_a_planted_fault(path, source, says):
    assert [fault for fault in faults(source, path) if says in fault]


@pytest.mark.parametrize(
    "path, source",
    [
        ("mlxgen/files/midi.py", "import mido\nfrom mlxgen.music.piece import Piece\nfrom .atomic import x"),
        (
            "mlxgen/commands/a.py",
            "import click\nfrom mlxgen import __version__\nfrom mlxgen.perform import session",
        ),
        ("convert/parity.py", "import torch\nfrom mlxgen.model.load import load"),
        ("mlxgen/perform/a.py", "import threading, rtmidi\nfrom mlxgen.compose.plan import Plan"),
    ],
)
def test_the_walk_lets_good_files_pass(path, source):
    assert faults(source, path) == []


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"torch", "transformers", "mlx_lm", "mido", "rtmidi", "mlx", "music21", "PIL", "click", "numpy"}


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import mlxgen") & HEAVY


def test_the_music_room_loads_nothing_heavy():
    statement = "import mlxgen; mlxgen.encode, mlxgen.decode, mlxgen.Piece, mlxgen.Conditioning, mlxgen.Vocab"
    assert not loaded_by(statement) & HEAVY


def test_reading_a_midi_file_opens_no_midi_port_and_no_score_library():
    assert not loaded_by("import mlxgen; mlxgen.read_score, mlxgen.write_midi") & {
        "rtmidi",
        "music21",
        "mlx",
        "PIL",
    }


def test_every_public_name_is_where_the_package_says():
    import mlxgen

    for name, home in mlxgen._HOME.items():
        path = ROOT / (home.replace(".", "/") + ".py")
        if not path.is_file():
            path = ROOT / home.replace(".", "/") / "__init__.py"
        defined = {node.name for node in ast.parse(path.read_text()).body if hasattr(node, "name")}
        assert name in defined, f"{home} defines no {name}"
    with pytest.raises(AttributeError, match="no_such_name"):
        mlxgen.no_such_name  # noqa: B018


def test_the_map_of_perform_names_every_file_once():
    folder = ROOT / "mlxgen" / "perform"
    words = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())).split("\n\n")[1].split()
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {name: words.count(name) for name in files if words.count(name) != 1} == {}
