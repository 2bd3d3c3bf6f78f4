"""A checkpoint and its tokenizer -> a model folder: config.json, model.safetensors, tokenizer.json, card.md,
and what mlx-lm needs (interop.py).

The folder is written under a temporary name beside its target and renamed, so it is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from convert.checkpoint import Checkpoint, read_checkpoint
from convert.interop import add_interop
from convert.unpickle import describe
from convert.upstream import arrange_tensors, count_rows, translate_config
from mlxgen.model.config import ModelConfig
from mlxgen.music.vocab import Vocab

FORMAT = "mlxgen-1"
DTYPES = {"float32": np.float32, "float16": np.float16}


def export(checkpoint_path: str | Path, tokenizer_path: str | Path, out: str | Path, *,
           dtype: str = "float32", card: str = "", force: bool = False) -> Path:
    """Convert one upstream checkpoint; returns the folder.

    card: text for the end of card.md. force: replace `out` if it is a model folder. ValueError, one line, for
    anything that does not fit; OSError where the disk refuses. In both cases `out` is as it was.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    out = Path(out)
    _check_target(out, force)
    vocab = Vocab.load(tokenizer_path)
    checkpoint = read_checkpoint(checkpoint_path)
    try:
        config = translate_config(checkpoint.config, count_rows(checkpoint.tensors))
        check_tokenizer(vocab, config, checkpoint.config.get("vocab_size"), tokenizer_path)
        tensors = cast_tensors(arrange_tensors(checkpoint.tensors, config), dtype)
    except ValueError as error:
        raise ValueError(f"{checkpoint_path}: {error}") from None
    about = make_card(checkpoint, config, dtype, sum(tensor.size for tensor in tensors.values()))
    with _new_folder(out) as folder:
        content = {"format": FORMAT, "dtype": dtype, **config.to_dict()}
        (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        save_file(tensors, folder / "model.safetensors", metadata={"format": FORMAT})
        shutil.copyfile(tokenizer_path, folder / "tokenizer.json")
        (folder / "card.md").write_text(f"{about}\n{card.strip()}".strip() + "\n", encoding="utf-8")
        add_interop(folder)
        # safetensors writes for the owner alone; a model folder is read by whoever reads the rest of it.
        (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    return out


def check_tokenizer(vocab: Vocab, config: ModelConfig, declared: object, path: str | Path) -> None:
    """The names must be as many as the embedding's rows, or as `vocab_size` where the rows are more.

    Rows beyond the names are kept and never sampled. Any other count is another model's tokenizer: it would
    give every id a wrong name, and nothing later could tell.
    """
    fits = len(vocab) == config.vocab_size or (len(vocab) == declared and len(vocab) < config.vocab_size)
    if not fits:
        raise ValueError(f"the tokenizer {path} has {len(vocab)} names; the embedding has "
                         f"{config.vocab_size} rows and config.vocab_size is {describe(declared)}")


def cast_tensors(tensors: dict[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """float32 -> `dtype`, the layers' matrices alone: norms, biases, embedding and head are 1 % of a model,
    and rounding the norms alone to float16 moves its logits more than rounding all of attention or the FFN.
    ValueError for a weight that float16 cannot hold."""
    cast = {}
    for name, tensor in tensors.items():
        with np.errstate(over="ignore"):
            cast[name] = tensor.astype(DTYPES[dtype] if is_layer_matrix(name, tensor) else np.float32)
        if not np.isfinite(cast[name]).all():
            raise ValueError(f"{name} reaches {np.abs(tensor).max():.4g}; {dtype} holds at most "
                             f"{np.finfo(DTYPES[dtype]).max:.0f} (--dtype float32 keeps it)")
    return cast


def is_layer_matrix(name: str, tensor: np.ndarray) -> bool:
    return name.startswith("layers.") and tensor.ndim == 2


def make_card(checkpoint: Checkpoint, config: ModelConfig, dtype: str, parameters: int) -> str:
    """card.md: where the weights come from, as measured from the file itself."""
    with open(checkpoint.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    heads = f"{config.num_heads} heads, {config.num_kv_heads} of keys and values"
    positions = f"{config.pos_encoding}, dropped (DroPE)" if config.drope else config.pos_encoding
    rows = {
        "source file": checkpoint.path.name,
        "sha256": digest,
        "epoch": _number(checkpoint.epoch),
        "validation loss": _number(checkpoint.best_val_loss),
        "dtype": dtype,
        "parameters": f"{parameters:,}",
        "architecture": f"{config.num_layers} layers of {config.embed_dim}, {heads}, SwiGLU {config.ffn_dim}",
        "positions": positions,
        "context": f"{config.max_seq_len} tokens",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["# Model card", "", "| | |", "|---|---|", *lines]) + "\n"


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return describe(value) if isinstance(value, int) else "not given"


def _check_target(out: Path, force: bool) -> None:
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}: no such folder to write {out.name!r} in")
    if not os.path.lexists(out):
        return
    if not force:
        raise ValueError(f"{out}: exists already (--force replaces a model folder)")
    if out.is_symlink() or not (out / "config.json").is_file() or not (out / "model.safetensors").is_file():
        raise ValueError(f"{out}: not a model folder; --force replaces nothing else")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; renamed to `out` if the block succeeds, removed with all it holds if it does not."""
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as workspace:
        folder = Path(workspace, "new")
        folder.mkdir()
        yield folder
        replaced = Path(workspace, "old")
        if out.exists():
            out.rename(replaced)
        try:
            folder.rename(out)
        except OSError:
            if replaced.exists():
                replaced.rename(out)
            raise
