"""A model folder loads, and a broken one says what is wrong."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from tiny_models import make_config, make_weights

from mlxgen.model.load import load, load_generation_defaults
from mlxgen.model.transformer import Model

NAMES = ["PAD", "BOS", "EOS", "BAR", "VOICE_1", "Dur_480", "TimeShift_480", "OCT_4", "SHARP",
         *(f"DEG_{degree}" for degree in range(1, 8))]


@pytest.fixture
def folder(tmp_path):
    config = make_config("pope-gqa")
    tokens = {"tokenizer_type": "scale_degree", "token_to_name": dict(enumerate(NAMES)),
              "config": {"min_octave": 4, "max_octave": 4}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokens))
    data = config.to_dict() | {"format": "mlxgen-1", "dtype": "float16", "generation": {"temperature": 0.8}}
    (tmp_path / "config.json").write_text(json.dumps(data))
    weights = {name: value.astype(mx.float16) for name, value in make_weights(config).items()}
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
    return tmp_path


def change_config(folder, **changes):
    path = folder / "config.json"
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def change_weights(folder, change):
    path = str(folder / "model.safetensors")
    weights = {name: mx.array(value) for name, value in mx.load(path).items()}
    mx.eval(weights)
    change(weights)
    mx.save_safetensors(path, weights)


def test_loads_what_was_saved(folder):
    model, vocab = load(folder, dtype="float32")
    assert len(vocab) == len(NAMES) and model.config == make_config("pope-gqa")
    ids = mx.array([[1, 2, 3]])
    whole = Model(make_config("pope-gqa"), make_weights(make_config("pope-gqa")))
    assert np.abs(np.array(model(ids)) - np.array(whole(ids))).max() < 5e-2
    assert load_generation_defaults(folder) == {"temperature": 0.8}


def test_dtype_is_the_device_s_or_the_one_asked_for(folder):
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    assert load(folder)[0].dtype == (mx.float32 if on_cpu else mx.float16)
    assert load(folder, dtype=mx.float16)[0].dtype == mx.float16
    with pytest.raises(ValueError, match="bfloat16"):
        load(folder, dtype="bfloat16")


@pytest.mark.parametrize("breakage, named", [
    (lambda f: (f / "config.json").unlink(), "config.json"),
    (lambda f: (f / "config.json").write_text("{"), "not JSON"),
    (lambda f: change_config(f, format="mlxgen-9"), "mlxgen-9"),
    (lambda f: change_config(f, num_heads=None), "num_heads"),
    (lambda f: change_config(f, vocab_size=5), "16 names"),
    (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\x10" * 40), "model.safetensors"),
    (lambda f: change_weights(f, lambda w: w.pop("layers.1.ffn.w1.weight")), "no layers.1.ffn.w1.weight"),
    (lambda f: change_weights(f, lambda w: w.update(extra=mx.zeros(1))), "unexpected tensor extra"),
    (lambda f: change_weights(f, lambda w: w.update({"ln_final.weight": mx.zeros(3)})), "ln_final.weight"),
])
def test_a_broken_folder_says_what_is_wrong(folder, breakage, named):
    breakage(folder)
    with pytest.raises(ValueError, match=named):
        load(folder)
