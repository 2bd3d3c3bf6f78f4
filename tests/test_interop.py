"""mlx-lm drives the model of a folder, and mlxgen never runs the code that lies there for mlx-lm."""

from __future__ import annotations

import json
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest
from tiny import make_vocab
from tiny_models import KINDS, make_config, make_weights

from convert.interop import MODEL_FILE, TEMPLATE, add_interop
from mlxgen.model.load import load


def make_folder(path, kind: str):
    vocab = make_vocab()
    config = make_config(kind, vocab_size=len(vocab), embed_dim=64, num_heads=4)
    path.mkdir()
    mx.save_safetensors(str(path / "model.safetensors"), make_weights(config))
    (path / "config.json").write_text(
        json.dumps({**config.to_dict(), "format": "mlxgen-1", "dtype": "float32"}))
    vocab.save(path / "tokenizer.json")
    add_interop(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_ours_whole_cached_and_in_a_batch(tmp_path, kind):
    mlx_lm = pytest.importorskip("mlx_lm")
    from mlx_lm.models.cache import make_prompt_cache

    folder = make_folder(tmp_path / "model", kind)
    theirs, _ = mlx_lm.load(str(folder), trust_remote_code=True)
    ours, vocab = load(folder, "float32")
    ids = mx.array(np.random.default_rng(0).integers(0, len(vocab), (2, 90)))
    expected, cache = ours(ids), make_prompt_cache(theirs)
    parts = [theirs(ids[:, :60], cache=cache)]
    parts += [theirs(ids[:, place: place + 1], cache=cache) for place in range(60, 90)]
    for found in (theirs(ids), mx.concatenate(parts, axis=1)):
        assert float(mx.abs(found - expected).max()) <= 1e-4


def test_generate_step_and_batches_follow_the_same_ids(tmp_path):
    """Greedily; the batch's rows stand at places of their own, left padding before them."""
    mlx_lm = pytest.importorskip("mlx_lm")
    from mlx_lm.generate import generate_step

    folder = make_folder(tmp_path / "model", "pope-gqa")
    theirs, tokenizer = mlx_lm.load(str(folder), trust_remote_code=True)
    ours, vocab = load(folder, "float32")
    prompts = [tokenizer.encode("BOS KEY_C_major BAR BEAT_1"), tokenizer.encode("BOS BAR")]
    assert prompts[0] == [vocab[name] for name in ("BOS", "KEY_C_major", "BAR", "BEAT_1")]
    assert tokenizer.decode(prompts[1]) == "BOS BAR" and tokenizer.eos_token_ids == {vocab["EOS"]}
    expected = []
    for prompt in prompts:
        ids, cache = mx.array([prompt]), ours.make_cache()
        drawn = []
        for _ in range(12):
            ids = ours(ids, cache=cache)[:, -1].argmax(axis=-1)[:, None]
            drawn.append(ids.item())
        expected.append(drawn)
    steps = generate_step(mx.array(prompts[0]), theirs, max_tokens=12)
    assert [token for token, _ in steps] == expected[0]
    texts = mlx_lm.batch_generate(theirs, tokenizer, prompts, max_tokens=12).texts
    for text, drawn in zip(texts, expected, strict=True):
        drawn = drawn[:drawn.index(vocab["EOS"])] if vocab["EOS"] in drawn else drawn
        assert text.split() == tokenizer.decode(drawn).split()


def test_it_is_quantised_and_benchmarked(tmp_path):
    mlx_lm = pytest.importorskip("mlx_lm")
    from mlx_lm.utils import quantize_model

    folder = make_folder(tmp_path / "model", "pope-gqa")
    theirs, _, config = mlx_lm.load(str(folder), trust_remote_code=True, return_config=True)
    ids = mx.array([list(range(20))])
    before = theirs(ids)
    quantised, config = quantize_model(theirs, config, group_size=32, bits=8)
    assert config["quantization"]["bits"] == 8
    assert 0 < float(mx.abs(quantised(ids) - before).mean()) < 0.03 * float(before.std())
    command = [sys.executable, "-m", "mlx_lm.benchmark", "--model", str(folder), "--trust-remote-code",
               "-p", "8", "-g", "4", "-n", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generation_tps" in done.stdout


def test_our_loader_runs_nothing_that_lies_in_the_folder(tmp_path):
    folder = make_folder(tmp_path / "model", "rope-gqa")
    (folder / MODEL_FILE).write_text("raise SystemExit('the code in the folder was run')\n")
    model, _ = load(folder)
    assert model(mx.array([[1, 2, 3]])).shape[:2] == (1, 3)


def test_mlx_lm_asks_before_it_runs_the_file(tmp_path):
    mlx_lm = pytest.importorskip("mlx_lm")
    with pytest.raises(ValueError, match="trust_remote_code"):
        mlx_lm.load(str(make_folder(tmp_path / "model", "pope-mha")))


def test_the_shipped_folder_carries_the_file_as_it_is():
    shipped = TEMPLATE.parent.parent / "weights" / "default" / MODEL_FILE
    assert shipped.read_text() == TEMPLATE.read_text()


def test_what_is_no_model_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a model folder"):
        add_interop(tmp_path)


def test_the_shipped_folder_has_one_dtype_there(default_model_folder):
    """In the file what is small is float32 and the layers' matrices are float16."""
    mlx_lm = pytest.importorskip("mlx_lm")
    from mlx.utils import tree_flatten

    theirs, _ = mlx_lm.load(str(default_model_folder), trust_remote_code=True)
    assert {value.dtype for _, value in tree_flatten(theirs.parameters())} == {mx.float16}
    ours, vocab = load(default_model_folder, "float32")
    ids = mx.array([list(range(1, len(vocab), 7))])
    assert float(mx.abs(theirs(ids).astype(mx.float32) - ours(ids)).max()) <= 0.05
