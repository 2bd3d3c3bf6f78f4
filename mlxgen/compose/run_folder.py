"""A run on disk: manifest, a file per finished chunk. Enough to go on from, after anything.

    manifest.json     settings, seed, model hash, versions
    chunk-001.json    ids and candidates of a finished chunk
    piece.mid ...     what the command writes from them

Every file is written under another name and renamed, so a file that is there is whole.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlxgen
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.steps import Chunk
from mlxgen.files.atomic import write_atomically
from mlxgen.music.theory import Key

FORMAT = "mlxgen-run-1"
MODEL_FILES = ("config.json", "tokenizer.json", "model.safetensors")


def model_hash(folder: str | Path) -> str:
    """sha256 over the files that decide what a model draws."""
    digest = hashlib.sha256()
    for name in MODEL_FILES:
        digest.update((Path(folder) / name).read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What else the ids can depend on."""
    return {"mlxgen": mlxgen.__version__, "mlx": _version("mlx"), "numpy": _version("numpy"),
            "python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def chunk_to_dict(chunk: Chunk) -> dict:
    """JSON-able; `chunk_from_dict` reads it back."""
    return {**asdict(chunk), "key": chunk.key.name}


def chunk_from_dict(data: dict) -> Chunk:
    """Raises KeyError or TypeError for what is not a chunk, ValueError for a key that is none."""
    return Chunk(**{**data, "key": Key.parse(data["key"])})


class RunFolder:
    """One run. `create` begins one, `open` finds one again."""

    def __init__(self, path: Path, manifest: dict):
        self.path, self.manifest = path, manifest

    @classmethod
    def create(cls, path: str | Path, settings: ChainSettings, model_folder: str | Path,
               command: str = "") -> RunFolder:
        """Make the folder and its manifest. ValueError if a run is there already."""
        path = Path(path)
        if (path / "manifest.json").exists():
            raise ValueError(f"{path}: holds a run already; continue it with --resume {path}, "
                             f"or choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        model = {"folder": str(Path(model_folder).resolve()), "sha256": model_hash(model_folder)}
        manifest = {"format": FORMAT, "settings": settings.to_dict(), "command": command,
                    "versions": versions(), "model": model}
        write_atomically(path / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
        return cls(path, manifest)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """ValueError if there is no run, or it is of another format."""
        path = Path(path)
        file = path / "manifest.json"
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path}: no manifest.json; expected a run folder of generate-long") from None
        except ValueError as error:
            raise ValueError(f"{file}: not JSON ({error})") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(f"{file}: expected format {FORMAT!r}")
        model = manifest.get("model")
        if not isinstance(model, dict) or not {"folder", "sha256"} <= set(model):
            raise ValueError(f"{file}: says nothing of the model; expected its folder and sha256")
        return cls(path, manifest)

    @property
    def settings(self) -> ChainSettings:
        try:
            return ChainSettings.from_dict(self.manifest["settings"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path / 'manifest.json'}: settings cannot be read ({error})") from None

    def check_model(self, model_folder: str | Path) -> None:
        """ValueError if the run was begun with another model."""
        found, expected = model_hash(model_folder), self.manifest["model"]["sha256"]
        if found != expected:
            raise ValueError(f"{model_folder}: not the model this run was begun with "
                             f"(sha256 {found[:12]}, expected {expected[:12]})")

    def save_chunk(self, number: int, chunk: Chunk) -> None:
        text = json.dumps(chunk_to_dict(chunk)) + "\n"
        write_atomically(self.path / f"chunk-{number:03d}.json", text.encode())

    def chunks(self) -> list[Chunk]:
        """The finished chunks, in order. ValueError names a file that cannot be read."""
        return list(self._chunks())

    def _chunks(self) -> Iterator[Chunk]:
        for number in range(1, 100_000):
            file = self.path / f"chunk-{number:03d}.json"
            if not file.exists():
                return
            try:
                yield chunk_from_dict(json.loads(file.read_text(encoding="utf-8")))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{file}: not a finished chunk ({error})") from None


def free_folder(wanted: Path) -> Path:
    """`wanted`, or wanted-2, wanted-3 ... : the first that is not there."""
    number, path = 1, wanted
    while path.exists():
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")
    return path
