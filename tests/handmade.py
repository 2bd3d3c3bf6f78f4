"""Checkpoints made by hand, byte by byte: the tests of the reader need neither torch nor its opinion.

`assemble` writes the opcodes that torch.save writes (pickle protocol 2), and whatever a test smuggles in.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tiny import make_vocab

from convert.__main__ import main

CONFIG_CLASS = "bach_gen.model.config ModelConfig"
STORAGE_NAMES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage",
                 "uint16": "BFloat16Storage", "int64": "LongStorage"}
TINY_NAMES = make_vocab().names
TINY = {"vocab_size": len(TINY_NAMES), "embed_dim": 16, "num_heads": 4, "num_kv_heads": 2, "num_layers": 2,
        "ffn_dim": 1024, "max_seq_len": 64, "dropout": 0.1, "weight_tying": True, "rope_theta": 10000.0,
        "pos_encoding": "pope", "swiglu_dim": 24, "drope_trained": False, "drope_train_seq_len": None}


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    code: bytes


def name_global(name: str) -> Raw:
    """'module name' -> the GLOBAL opcode."""
    module, attribute = name.split(" ")
    return Raw(f"c{module}\n{attribute}\n".encode())


def call(function: str, *arguments: object) -> Raw:
    return Raw(name_global(function).code + assemble(arguments) + b"R")


def instance(kind: str, state: object) -> Raw:
    return Raw(name_global(kind).code + b")\x81" + assemble(state) + b"b")


def assemble(value: object) -> bytes:
    """The opcodes that leave `value` on the stack, without PROTO and STOP."""
    if isinstance(value, Raw):
        return value.code
    if isinstance(value, tuple):
        return b"(" + b"".join(map(assemble, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(assemble, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(assemble(part) for pair in value.items() for part in pair) + b"u"
    return pickle.dumps(value, protocol=2)[2:-1]  # a plain number, string, bool or None


def make_pickle(value: object) -> bytes:
    return b"\x80\x02" + assemble(value) + b"."


def tensor(key: str, array: np.ndarray, *, offset: int = 0, shape=None, stride=None, count=None,
           legacy: bool = False) -> Raw:
    """A tensor of torch's pickles over the storage `key`; `array` gives whatever is not said."""
    shape = array.shape if shape is None else shape
    if stride is None:
        stride = tuple(int(np.prod(shape[axis + 1:])) for axis in range(len(shape)))
    storage = name_global(f"torch {STORAGE_NAMES[array.dtype.name]}")
    identity = ("storage", storage, key, "cpu", array.size if count is None else count)
    place = Raw(assemble((*identity, None) if legacy else identity) + b"Q")
    return call("torch._utils _rebuild_tensor_v2", place, offset, shape, stride, False,
                call("collections OrderedDict"))


def make_config(**changes: object) -> dict:
    """TINY with changes; a value of `...` takes the field away."""
    return {name: value for name, value in {**TINY, **changes}.items() if value is not ...}


def make_tensors(config: dict, seed: int = 0, rows: int | None = None) -> dict[str, np.ndarray]:
    """Random weights of the shapes that upstream makes of a config, the tied head included."""
    rng = np.random.default_rng(seed)
    width, ffn = config["embed_dim"], config["swiglu_dim"]
    kv_width = width * (config.get("num_kv_heads") or config["num_heads"]) // config["num_heads"]
    rows = config["vocab_size"] if rows is None else rows
    shapes = {"token_embed.weight": (rows, width)}
    for layer in range(config["num_layers"]):
        parts = {"ln1.weight": (width,), "ln2.weight": (width,), "ffn.w_gate.weight": (ffn, width),
                 "ffn.w1.weight": (ffn, width), "ffn.w2.weight": (width, ffn)}
        for name, size in (("q_proj", width), ("k_proj", kv_width), ("v_proj", kv_width), ("proj", width)):
            parts |= {f"attn.{name}.weight": (size, width), f"attn.{name}.bias": (size,)}
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in parts.items()}
    shapes |= {"ln_final.weight": (width,), "head.weight": (rows, width)}
    tensors = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    if config.get("weight_tying", True):
        tensors["head.weight"] = tensors["token_embed.weight"]
    return tensors


def fuse_qkv(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict as it was before q, k and v were apart."""
    fused = {name: array for name, array in tensors.items() if "q_proj" not in name and "k_proj" not in name
             and "v_proj" not in name}
    for name in tensors:
        if "q_proj" in name:
            parts = [tensors[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            fused[name.replace("q_proj", "qkv")] = np.concatenate(parts)
    return fused


def make_content(config: dict, tensors: dict[str, np.ndarray], *, legacy: bool = False) -> tuple[dict, list]:
    """What upstream saves, ready to assemble, and the storages behind it."""
    state = {name: tensor(str(number), array, legacy=legacy)
             for number, (name, array) in enumerate(tensors.items())}
    content = {"epoch": 3, "model_state_dict": state,
               "optimizer_state_dict": {"state": {}, "param_groups": []},
               "config": instance(CONFIG_CLASS, config), "best_val_loss": 1.25}
    return content, list(tensors.values())


def write_zip(path: Path, content: object, storages: list, *, leave_out: str = "",
              compress: bool = False) -> Path:
    """A torch file of today: data.pkl (an object to assemble, or bytes), then a storage for each array."""
    data = content if isinstance(content, bytes) else make_pickle(content)
    entries = {"data.pkl": data, "byteorder": b"little", "version": b"3\n"}
    entries |= {f"data/{number}": array.tobytes() for number, array in enumerate(storages)}
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", compression=kind) as archive:
        for name, part in entries.items():
            if name != leave_out:
                archive.writestr(f"{path.stem}/{name}", part)
    return path


def write_legacy(path: Path, content: object, storages: list) -> Path:
    """A torch file from before version 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}
    keys = [str(number) for number in range(len(storages))]
    parts = [make_pickle(part) for part in (0x1950A86A20F9469CFC6C, 1001, system, content, keys)]
    parts += [struct.pack("<q", array.size) + array.tobytes() for array in storages]
    path.write_bytes(b"".join(parts))
    return path


def write_checkpoint(path: Path, config: dict | None = None, tensors: dict | None = None) -> Path:
    config = make_config() if config is None else config
    content, storages = make_content(config, make_tensors(config) if tensors is None else tensors)
    return write_zip(path, content, storages)


def write_tokenizer(path: Path, names: list[str] | None = None) -> Path:
    names = TINY_NAMES if names is None else names
    data = {"tokenizer_type": "scale_degree", "vocab_size": len(names),
            "config": {},
            "token_to_name": {str(token): name for token, name in enumerate(names)}}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def run_convert(tmp_path: Path, checkpoint: Path, *options: str, names: list[str] | None = None) -> int:
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json", names)
    return main([str(checkpoint), "--tokenizer", str(tokenizer), "--out", str(tmp_path / "model"), *options])


def check_refused(folder: Path, output, before: set[Path], status: int, *messages: str) -> None:
    """Exit 2, one line on stderr that says all of `messages`, and the disk as it was."""
    assert status == 2 and output.out == ""
    assert output.err.count("\n") == 1 and output.err.startswith("convert: ")
    assert len(output.err) < 500
    for message in messages:
        assert message in output.err
    assert set(folder.rglob("*")) == before
