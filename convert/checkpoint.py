"""Upstream .pt files, read without running anything of them and without torch.

A torch file is a zip of one pickle and raw storages (or, before torch 1.6, a run of pickles and then the
storages). Only the model's tensors are read; the optimizer's stay on the disk. This file knows torch's
container, not the architecture: export.py judges names and shapes.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert.unpickle import Global, Record, describe, read_pickle

CONFIG_CLASS = "bach_gen.model.config.ModelConfig"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, the first pickle of the old format
LEGACY_PROTOCOL = 1001
MAX_PICKLE_BYTES = 2 << 20  # an 8-layer checkpoint with its optimizer has about 70 KB
MAX_DIMENSIONS = 8

# Storage class -> bytes of an element, numpy type. bfloat16 is read as the upper halves of float32.
STORAGES = {
    "FloatStorage": (4, "f4"), "DoubleStorage": (8, "f8"), "HalfStorage": (2, "f2"),
    "BFloat16Storage": (2, "u2"), "LongStorage": (8, None), "IntStorage": (4, None),
    "ShortStorage": (2, None), "CharStorage": (1, None), "ByteStorage": (1, None), "BoolStorage": (1, None),
}


@dataclass(frozen=True)
class Storage:
    kind: str
    key: str
    count: int

    @property
    def size_bytes(self) -> int:
        return self.count * STORAGES[self.kind][0]


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's elements lie; nothing is read until `Checkpoint.tensors` is made."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """config: the fields the file has, unjudged; tensors: state-dict name -> float32 array."""

    path: Path
    config: dict[str, object]
    tensors: dict[str, np.ndarray]
    epoch: object
    best_val_loss: object


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read an upstream checkpoint. ValueError with the path, what is wrong and what was expected."""
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise ValueError(f"{path}: not a file; expected a checkpoint written by torch.save")
    try:
        with open(path, "rb") as file:
            return _read_open(path, file)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_open(path: Path, file: BinaryIO) -> Checkpoint:
    start = file.read(16)
    file.seek(0)
    if not start:
        raise ValueError("the file is empty; expected a checkpoint written by torch.save")
    if start.startswith(b"PK"):
        content, read_storage = _open_zip(file)
    elif start.startswith(b"\x80"):
        content, read_storage = _open_legacy(file)
    elif start[8:10] == b'{"':
        raise ValueError("a safetensors file; expected a checkpoint written by torch.save")
    else:
        raise ValueError("neither a zip nor a pickle; expected a checkpoint written by torch.save")
    if not isinstance(content, dict):
        raise ValueError(f"holds {describe(content)}; expected a dict with model_state_dict and config")
    state = _part(content, "model_state_dict", dict)
    config = _part(content, "config", (Record, dict))
    config = config.fields if isinstance(config, Record) else {str(key): config[key] for key in config}
    tensors = _read_tensors(state, read_storage, os.fstat(file.fileno()).st_size)
    return Checkpoint(path, config, tensors, content.get("epoch"), content.get("best_val_loss"))


def _part(content: dict, name: str, expected: type | tuple[type, ...]) -> object:
    if name not in content:
        found = ", ".join(describe(key) for key in list(content)[:4]) or "nothing"
        raise ValueError(f"no {name!r}, found {found}; expected what upstream's trainer saves: "
                         "model_state_dict, config, epoch, best_val_loss")
    if not isinstance(content[name], expected):
        raise ValueError(f"{name} is {describe(content[name])}; expected what upstream's trainer saves")
    return content[name]


# --- the pickle's vocabulary ---------------------------------------------------------------------------

def _rebuild_tensor(arguments: tuple) -> Tensor:
    if len(arguments) not in (6, 7):
        raise ValueError(f"a tensor of {len(arguments)} arguments; expected 6")
    storage, offset, shape, stride = arguments[:4]
    if not (isinstance(storage, Storage) and _are_sizes((offset,)) and _are_sizes(shape)
            and _are_sizes(stride) and len(shape) == len(stride)):
        raise ValueError("a tensor whose storage, offset, shape or stride is not one")
    return Tensor(storage, offset, shape, stride)


def _are_sizes(values: object) -> bool:
    return (isinstance(values, tuple) and len(values) <= MAX_DIMENSIONS
            and all(type(value) is int and 0 <= value < 1 << 40 for value in values))


def _make_ordered_dict(arguments: tuple) -> dict:
    if arguments:
        raise ValueError("an OrderedDict with arguments; expected it empty, its items after it")
    return {}


def find_storage(identity: object) -> Storage:
    """torch's persistent id: ("storage", class, key, device, count), and in the old format a view, None."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[5:] not in ((), (None,)):
        raise ValueError("a persistent id that is not a torch storage")
    tag, kind, key, _, count = identity[:5]
    if not (isinstance(kind, Global) and kind.value in STORAGES and isinstance(key, str)
            and _are_sizes((count,)) and isinstance(tag, str) and tag == "storage"):
        raise ValueError("a persistent id that is not a torch storage")
    return Storage(kind.value, key, count)


KNOWN_GLOBALS = {row.name: row for row in (
    Global("torch._utils._rebuild_tensor_v2", call=_rebuild_tensor),
    Global("collections.OrderedDict", call=_make_ordered_dict),
    Global(CONFIG_CLASS, make=lambda: Record(CONFIG_CLASS)),
    *(Global(f"torch.{name}", value=name) for name in STORAGES),
)}


# --- the two containers --------------------------------------------------------------------------------

ReadStorage = Callable[[Storage], bytes]


def _open_zip(file: BinaryIO) -> tuple[object, ReadStorage]:
    try:
        archive = zipfile.ZipFile(file)
        entries = {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ValueError(f"a truncated or damaged zip ({_brief(error)}); expected a whole one") from None
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"a zip with {len(pickles)} data.pkl; expected the one of a torch checkpoint")
    prefix = pickles[0].removesuffix("data.pkl")

    def read(name: str, size_bytes: int | None = None) -> bytes:
        entry = entries.get(prefix + name)
        if entry is None:
            raise ValueError(f"the zip has no {describe(prefix + name)}; expected a whole checkpoint")
        if entry.compress_type != zipfile.ZIP_STORED:  # torch stores; a compressed entry could be any size
            raise ValueError(f"{describe(prefix + name)} is compressed; torch.save compresses nothing")
        if size_bytes is not None and entry.file_size != size_bytes:
            raise ValueError(f"{describe(prefix + name)} has {entry.file_size} bytes; "
                             f"its tensor says {size_bytes}")
        try:
            return archive.read(entry)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
            raise ValueError(f"{describe(prefix + name)} is truncated or damaged ({_brief(error)})") from None

    if entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
        raise ValueError(f"its pickle has {entries[pickles[0]].file_size} bytes; "
                         f"expected at most {MAX_PICKLE_BYTES}")
    if prefix + "byteorder" in entries and read("byteorder").strip() != b"little":
        raise ValueError("its byteorder is not 'little'; only little-endian checkpoints are read")
    content = read_pickle(io.BytesIO(read("data.pkl")), KNOWN_GLOBALS, find_storage)
    return content, lambda storage: read(f"data/{storage.key}", storage.size_bytes)


def _open_legacy(file: BinaryIO) -> tuple[object, ReadStorage]:
    """Before torch 1.6: pickles of magic, protocol, system, content and storage keys; then the storages."""
    seen: dict[str, Storage] = {}

    def find(identity: object) -> Storage:
        storage = find_storage(identity)
        return seen.setdefault(storage.key, storage)

    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    parts = [read_pickle(head, KNOWN_GLOBALS, find)]
    if parts[0] != LEGACY_MAGIC:
        raise ValueError("a pickle, but not torch.save's; expected a checkpoint written by torch.save")
    parts += [read_pickle(head, KNOWN_GLOBALS, find) for _ in range(4)]
    _, protocol, system, content, keys = parts
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("an old torch file of another protocol or byte order; expected little-endian, 1001")
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in seen for key in keys):
        raise ValueError("an old torch file whose storages do not belong to its tensors")
    places, place = {}, head.tell()
    for key in keys:  # each storage: its count as 8 bytes, then its elements
        places[key] = place + 8
        place += 8 + seen[key].size_bytes

    def read(storage: Storage) -> bytes:
        if storage.key not in places:
            raise ValueError(f"storage {describe(storage.key)} is missing; expected a whole checkpoint")
        file.seek(places[storage.key] - 8)
        count = int.from_bytes(file.read(8), "little")
        data = file.read(storage.size_bytes) if count == storage.count else b""
        if len(data) != storage.size_bytes:
            raise ValueError(f"storage {describe(storage.key)} is truncated or damaged; its tensor says "
                             f"{storage.size_bytes} bytes")
        return data

    return content, read


def _brief(error: Exception) -> str:
    """What zipfile says, which may quote a great deal of the file."""
    return ascii(str(error)[:60])[1:-1]


# --- tensors -------------------------------------------------------------------------------------------

def _read_tensors(state: dict, read_storage: ReadStorage, file_bytes: int) -> dict[str, np.ndarray]:
    storages, total_bytes = set(), 0
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"model_state_dict[{describe(name)}] is {describe(tensor)}; expected a tensor")
        storages.add(tensor.storage)
        total_bytes += _check_bounds(name, tensor) * STORAGES[tensor.storage.kind][0]
    # Twice, for a tied head and its embedding share a storage; more is a small file made to fill a memory.
    if sum(storage.size_bytes for storage in storages) > file_bytes or total_bytes > 2 * file_bytes:
        raise ValueError(f"its tensors claim {total_bytes} bytes; the file has {file_bytes}")
    data = {storage: read_storage(storage) for storage in storages}
    return {name: _make_array(tensor, data[tensor.storage]) for name, tensor in state.items()}


def _check_bounds(name: str, tensor: Tensor) -> int:
    """The number of elements; ValueError if one of them lies outside the storage or is no weight."""
    if STORAGES[tensor.storage.kind][1] is None:
        raise ValueError(f"{describe(name)} is a torch.{tensor.storage.kind}; expected floating point")
    count = math.prod(tensor.shape)
    steps = zip(tensor.shape, tensor.stride, strict=True)
    last = tensor.offset + sum((size - 1) * step for size, step in steps)
    if count > tensor.storage.count or (count and last >= tensor.storage.count):
        raise ValueError(f"{describe(name)} of shape {tensor.shape} reaches outside its storage of "
                         f"{tensor.storage.count} elements")
    return count


def _make_array(tensor: Tensor, data: bytes) -> np.ndarray:
    """float32, contiguous. A float64 weight too large for float32 becomes Inf, which export.py refuses."""
    size_bytes, kind = STORAGES[tensor.storage.kind]
    flat = np.frombuffer(data, dtype=f"<{kind}")[tensor.offset:]
    strides = [step * size_bytes for step in tensor.stride]
    values = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
    if tensor.storage.kind == "BFloat16Storage":
        return (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32).reshape(tensor.shape)
