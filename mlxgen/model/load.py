"""A model folder (config.json, model.safetensors, tokenizer.json) -> Model, Vocab."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx

from mlxgen.model.config import ModelConfig
from mlxgen.model.transformer import Model
from mlxgen.music.vocab import Vocab

FORMAT = "mlxgen-1"
DTYPES = {"float32": mx.float32, "float16": mx.float16}


def read_config(folder: str | Path) -> dict:
    """config.json as a dict; ValueError when it is absent, not JSON, or of another format."""
    path = Path(folder) / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); expected a model folder") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{path}: format {found!r}; expected {FORMAT!r} (python -m convert writes it)")
    return data


def load_generation_defaults(folder: str | Path) -> dict:
    """The optional `generation` object of config.json (temperature, min_p, perhaps per form); {} without
    one.
    """
    found = read_config(folder).get("generation") or {}
    if not isinstance(found, dict):
        raise ValueError(f"{Path(folder) / 'config.json'}: generation {found!r}; expected an object")
    return dict(found)


def load_weights(path: Path) -> dict[str, mx.array]:
    try:
        return mx.load(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as safetensors ({str(error).splitlines()[0]})") from None


def load(folder: str | Path, dtype: str | mx.Dtype | None = None) -> tuple[Model, Vocab]:
    """The model of a folder and its vocabulary.

    dtype: "float32" or "float16"; None takes what config.json says on a GPU, and float32 on a CPU, where
    MLX's float16 products take three times as long. Raises ValueError naming the file and what is wrong
    with it.
    """
    folder = Path(folder)
    data = read_config(folder)
    vocab = Vocab.load(folder / "tokenizer.json")
    config = ModelConfig.from_dict(data)
    if len(vocab) > config.vocab_size:
        raise ValueError(f"{folder}: tokenizer.json has {len(vocab)} names, "
                         f"the model only {config.vocab_size} rows")
    model = Model(config, load_weights(folder / "model.safetensors"), choose_dtype(dtype, data.get("dtype")))
    return model, vocab


def choose_dtype(asked: str | mx.Dtype | None, stored: str | None) -> mx.Dtype:
    name = asked
    if stored is not None and stored not in DTYPES:
        raise ValueError(f"dtype {stored!r}; expected one of {', '.join(DTYPES)}")
    if asked is None:
        name = "float32" if mx.default_device().type == mx.DeviceType.cpu else stored or "float16"
    name = next((key for key, dtype in DTYPES.items() if dtype == name), name)
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[name]
