"""Every kind of input that cannot be converted: how to make it, and what the one line must say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from handmade import (
    CONFIG_CLASS,
    TINY_NAMES,
    Raw,
    assemble,
    call,
    fuse_qkv,
    instance,
    make_config,
    make_content,
    make_tensors,
    name_global,
    tensor,
    write_checkpoint,
    write_legacy,
    write_zip,
)
from safetensors.numpy import save_file


def with_config(**changes):
    """A checkpoint whose config says otherwise than its (tiny) tensors."""
    return lambda path: write_checkpoint(path, make_config(**changes), make_tensors(make_config()))


def with_tensor(name: str, array: np.ndarray | None):
    def write(path: Path) -> Path:
        tensors = make_tensors(make_config())
        if array is None:
            del tensors[name]
        else:
            tensors[name] = array
        return write_checkpoint(path, make_config(), tensors)
    return write


def with_value(value: float):
    def write(path: Path) -> Path:
        tensors = make_tensors(make_config())
        tensors["layers.1.ffn.w1.weight"][3, 5] = value
        return write_checkpoint(path, make_config(), tensors)
    return write


def with_content(change):
    def write(path: Path) -> Path:
        content, storages = make_content(make_config(), make_tensors(make_config()))
        return write_zip(path, change(content), storages)
    return write


def with_part(name: str, value: object):
    return with_content(lambda content: {**content, name: value})


def without_entry(name: str):
    def write(path: Path) -> Path:
        content, storages = make_content(make_config(), make_tensors(make_config()))
        return write_zip(path, content, storages, leave_out=name)
    return write


def cut_to(share: float):
    def write(path: Path) -> Path:
        whole = write_checkpoint(path).read_bytes()
        path.write_bytes(whole[:int(len(whole) * share)])
        return path
    return write


def flipped_weight(path: Path) -> Path:
    whole = bytearray(write_checkpoint(path).read_bytes())
    whole[whole.index(make_tensors(make_config())["layers.0.attn.proj.weight"].tobytes()) + 9] ^= 64
    path.write_bytes(whole)
    return path


def with_bytes(data: bytes):
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path
    return write


def as_folder(path: Path) -> Path:
    path.mkdir()
    return path


def as_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def as_safetensors(path: Path) -> Path:
    save_file(make_tensors(make_config(weight_tying=False)), path)
    return path


def with_fused_and_apart(path: Path) -> Path:
    tensors = make_tensors(make_config(num_kv_heads=None))
    return write_checkpoint(path, make_config(num_kv_heads=None), {**tensors, **fuse_qkv(tensors)})


def with_fused_of_another_width(path: Path) -> Path:
    return write_checkpoint(path, make_config(), fuse_qkv(make_tensors(make_config(num_kv_heads=None))))


def without_head(path: Path) -> Path:
    tensors = make_tensors(make_config())
    del tensors["head.weight"]
    return write_checkpoint(path, make_config(weight_tying=False), tensors)


def legacy_cut(path: Path) -> Path:
    content, storages = make_content(make_config(), make_tensors(make_config()), legacy=True)
    path.write_bytes(write_legacy(path, content, storages).read_bytes()[:-50])
    return path


HOSTILE = call("os system", "touch hostile-was-here")
SLOTS = Raw(name_global(CONFIG_CLASS).code + b")\x81" + assemble(({}, {"x": 1})) + b"b")
EMBEDDING = np.zeros((len(TINY_NAMES), 16), dtype=np.float32)
WIDE = np.zeros((16, 17), dtype=np.float32)
WHOLE = np.zeros(16, dtype=np.int64)

# kind of damage -> (writes the checkpoint, what the line must say)
BROKEN = {
    "hostile pickle": (with_content(lambda content: HOSTILE), "os.system"),
    "hostile config field": (with_part("config", instance(CONFIG_CLASS, {"dropout": HOSTILE})), "os.system"),
    "hostile optimizer": (with_part("optimizer_state_dict", HOSTILE), "os.system"),
    "unexpected class": (with_part("config", name_global("argparse Namespace")), "argparse.Namespace"),
    "no such file": (lambda path: path, "No such file"),
    "a folder": (as_folder, "not a file"),
    "a pipe": (as_pipe, "not a file"),
    "empty": (with_bytes(b""), "empty"),
    "text": (with_bytes(b"epoch 3\n" * 100), "neither a zip nor a pickle"),
    "safetensors": (as_safetensors, "safetensors"),
    "another pickle": (with_bytes(b"\x80\x02}."), "not torch.save's"),
    "another zip": (lambda path: write_zip(path, {}, [], leave_out="data.pkl"), "0 data.pkl"),
    "half a file": (cut_to(0.5), "truncated or damaged"),
    "all but the last byte": (cut_to(0.9999), "truncated or damaged"),
    "half an old file": (legacy_cut, "truncated or damaged"),
    "a flipped bit in a weight": (flipped_weight, "Bad CRC-32"),
    "a storage left out": (without_entry("data/4"), "data/4"),
    "pickle garbage": (lambda path: write_zip(path, b"\x80\x02garbage", []), "pickle"),
    "pickle of a list": (lambda path: write_zip(path, [1, 2], []), "a list; expected a dict"),
    "state dict alone": (with_content(lambda content: content["model_state_dict"]),
                         "no 'model_state_dict'"),
    "no config": (with_content(lambda content: {"model_state_dict": {}}), "no 'config'"),
    "config a string": (with_part("config", "pope"), "config is 'pope'"),
    "loops": (with_config(num_recurrent_steps=4), "config.num_recurrent_steps is 4"),
    "front layers": (with_config(num_front_layers=2), "config.num_front_layers is 2"),
    "exit gate": (with_config(exit_gate=True), "config.exit_gate is True"),
    "sandwich norm": (with_config(sandwich_norm=True), "config.sandwich_norm is True"),
    "relative bias": (with_config(rel_attn_bias=True), "config.rel_attn_bias is True"),
    "unknown field": (with_config(activation="relu"), "config.activation is 'relu'"),
    "unknown field of fields": (with_config(experts=[1]), "config.experts is a list"),
    "unknown positions": (with_config(pos_encoding="alibi"), "'alibi'; expected one of"),
    "no heads": (with_config(num_heads=...), "no num_heads"),
    "heads of words": (with_config(num_heads="four"), "config.num_heads is 'four'"),
    "true heads": (with_config(num_heads=True), "config.num_heads is True"),
    "heads that do not divide": (with_config(num_heads=3, num_kv_heads=None), "num_heads 3"),
    "groups that do not divide": (with_config(num_kv_heads=3), "num_kv_heads 3"),
    "no layers": (with_config(num_layers=0), "num_layers is 0"),
    "a billion layers": (with_config(num_layers=10**9), "config.num_layers is 1000000000"),
    "enormous context": (with_config(max_seq_len=10**9), "config.max_seq_len is 1000000000"),
    "theta of infinity": (with_config(rope_theta=float("inf")), "config.rope_theta is inf"),
    "missing tensor": (with_tensor("layers.1.attn.k_proj.bias", None), "no layers.1.attn.k_proj.bias"),
    "missing embedding": (with_tensor("token_embed.weight", None), "token_embed.weight"),
    "missing head": (without_head, "no head.weight"),
    "extra tensor": (with_tensor("layers.0.exit_gate.weight", WIDE), "layers.0.exit_gate.weight"),
    "wrong shape": (with_tensor("layers.1.attn.proj.weight", WIDE), "proj.weight has shape (16, 17)"),
    "whole numbers": (with_tensor("ln_final.weight", WHOLE), "LongStorage"),
    "fused rows": (with_fused_of_another_width, "expected 32 rows"),
    "fused and apart": (with_fused_and_apart, "fused and apart"),
    "a tied head that differs": (with_tensor("head.weight", EMBEDDING), "head.weight differs"),
    "not a number": (with_value(float("nan")), "layers.1.ffn.w1.weight has 1 values that are NaN"),
    "infinite": (with_value(float("inf")), "layers.1.ffn.w1.weight has 1 values that are NaN or Inf"),
    "stride outside": (with_part("model_state_dict", {"w": tensor("0", EMBEDDING, stride=(900, 1))}),
                       "reaches outside"),
    "state of numbers": (with_part("model_state_dict", {"w": 1}), "expected a tensor"),
    "name of a number": (with_part("model_state_dict", {1: tensor("0", EMBEDDING)}), "model_state_dict[1]"),
    "slots": (with_part("config", SLOTS), "a tuple"),
}

TINY_TOKENIZER = {"tokenizer_type": "scale_degree", "config": {}, "token_to_name": {"0": "BOS", "1": "EOS"}}


def tokenizer(**changes: object) -> str:
    return json.dumps(TINY_TOKENIZER | changes)


# kind of damage -> (the file's text, None for no file, what the line must say)
TOKENIZERS = {
    "absent": (None, "No such file"),
    "not json": ("{", "not JSON"),
    "a list": ("[1]", "expected a JSON object"),
    "another json": ('{"model": {}}', "tokenizer_type"),
    "a gap in the ids": (tokenizer(token_to_name={"0": "BOS", "2": "EOS"}), "without gaps"),
    "two of a name": (tokenizer(token_to_name={"0": "BOS", "1": "BOS"}), "share a name"),
    "ids of words": (tokenizer(token_to_name={"a": "BOS"}), "ids"),
    "no tokens we need": (tokenizer(), "no token named"),
    "a deep nest": ("[" * 100_000, "not JSON"),
    "not text": ("\udcff", "not JSON"),
    "another kind": (tokenizer(tokenizer_type="remi"), "'remi'"),
}
