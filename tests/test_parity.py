"""The parity harness: it passes what is the same model and fails each way in which a folder can differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from handmade import make_config, make_tensors, write_checkpoint, write_tokenizer
from safetensors.numpy import load_file, save_file

from convert import parity
from convert.export import export
from convert.parity import Row, compare_logits, main

pytest.importorskip("torch", reason="parity compares with a torch model")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(parity, "GREEDY_TOKENS", 24)
    monkeypatch.setattr(parity, "SINGLE_STEPS", 12)


def make_pair(tmp_path: Path, dtype: str = "float32", **changes) -> tuple[Path, Path]:
    """A tiny checkpoint and the folder made of it."""
    config = make_config(**changes)
    checkpoint = write_checkpoint(tmp_path / "a.pt", config, make_tensors(config))
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    return checkpoint, export(checkpoint, tokenizer, tmp_path / "model", dtype=dtype)


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("changes", [
    {}, {"pos_encoding": "rope"}, {"pos_encoding": "none"}, {"drope_trained": True}, {"num_kv_heads": None},
    {"pos_encoding": "rope", "drope_trained": True}, {"weight_tying": False}], ids=str)
def test_every_generation_holds(tmp_path, capsys, changes):
    assert main([str(part) for part in make_pair(tmp_path, **changes)]) == 0
    output = capsys.readouterr().out
    assert "parity holds" in output and "24 of 24 tokens agree" in output
    assert output.count("float32") == 7  # three prompts, full and cached, and the greedy run


def test_float16_is_measured_in_both_types(tmp_path, capsys):
    assert main([str(part) for part in make_pair(tmp_path, "float16")]) == 0
    output = capsys.readouterr().out
    assert output.count("float16") == output.count("float32") == 7


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_perturbed_weight_fails(tmp_path, capsys, dtype):
    """One number of one matrix, changed by a tenth of the spread of the weights."""
    checkpoint, folder = make_pair(tmp_path, dtype)

    def nudge(weights):
        weights["layers.0.ffn.w1.weight"][3, 5] += 0.3

    change_weights(folder, nudge)
    assert main([str(checkpoint), str(folder)]) == 1
    output = capsys.readouterr().out
    assert "FAILS" in output.split("PARITY FAILS")[0]  # by its logits
    assert "layers.0.ffn.w1.weight: 1 of 384 weights are not the file's" in output


def test_a_change_too_small_for_the_logits_fails(tmp_path, capsys):
    """The smallest change of one bias: no logit tells, the weights do."""
    checkpoint, folder = make_pair(tmp_path)

    def nudge(weights):
        bias = weights["layers.0.attn.v_proj.bias"]
        bias[0] = np.nextafter(bias[0], np.float32(9))

    change_weights(folder, nudge)
    assert main([str(checkpoint), str(folder)]) == 1
    assert "layers.0.attn.v_proj.bias: 1 of 8" in capsys.readouterr().out


def swap(first: str, second: str):
    def change(weights):
        weights[first], weights[second] = weights[second], weights[first]
    return change


@pytest.mark.parametrize("change", [
    swap("layers.0.attn.k_proj.weight", "layers.0.attn.v_proj.weight"),
    swap("layers.0.ffn.w_gate.weight", "layers.0.ffn.w1.weight"),
    swap("layers.0.ln1.weight", "layers.0.ln2.weight"),
    swap("layers.0.attn.q_proj.weight", "layers.1.attn.q_proj.weight")])
def test_swapped_tensors_fail(tmp_path, capsys, change):
    checkpoint, folder = make_pair(tmp_path)
    change_weights(folder, change)
    assert main([str(checkpoint), str(folder)]) == 1
    assert "FAILS" in capsys.readouterr().out.split("PARITY FAILS")[0]


@pytest.mark.parametrize("field", ["rope_theta", "pos_encoding", "drope", "num_heads"])
def test_another_config_fails(tmp_path, capsys, field):
    checkpoint, folder = make_pair(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config[field] = {"rope_theta": 9999.0, "pos_encoding": "rope", "drope": True, "num_heads": 8}[field]
    (folder / "config.json").write_text(json.dumps(config))
    assert main([str(checkpoint), str(folder)]) == 1
    assert f"config.{field}:" in capsys.readouterr().out


def test_the_arithmetic_is_judged_not_the_file_alone(tmp_path, capsys, monkeypatch):
    """A planted fault in our model, the weights untouched: the table says so."""
    from mlxgen.model.transformer import Model

    checkpoint, folder = make_pair(tmp_path)
    correct = Model.logits
    monkeypatch.setattr(Model, "logits", lambda self, x: correct(self, x) * 1.001)
    assert main([str(checkpoint), str(folder)]) == 1
    assert "FAILS" in capsys.readouterr().out


@pytest.mark.parametrize("files", [("absent.pt", "model"), ("a.pt", "absent"), ("tokenizer.json", "model")])
def test_what_cannot_be_measured(tmp_path, capsys, files):
    make_pair(tmp_path)
    assert main([str(tmp_path / file) for file in files]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and output.err.startswith("parity: ")


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_folder_of_no_known_dtype(tmp_path, capsys, dtype):
    checkpoint, folder = make_pair(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": dtype}))
    assert main([str(checkpoint), str(folder)]) == 2
    assert f"dtype {dtype!r}" in capsys.readouterr().err


def test_without_torch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parity.importlib.util, "find_spec", lambda name: None)
    assert main(["a.pt", "model"]) == 2
    assert "mlxgen[torch]" in capsys.readouterr().err


def test_differences_by_hand():
    """softmax (1/2, 1/2) against (1/4, 3/4): KL = ln 2 / 2 + ln(2/3) / 2."""
    expected, found = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
    found[0, 1, 1] = np.log(3)
    difference, divergence = compare_logits(expected, found)
    assert difference == pytest.approx(np.log(3))
    assert divergence == pytest.approx(np.log(2) / 2 + np.log(2 / 3) / 2)


def test_nan_never_passes():
    assert not Row("float32", "music", "full", float("nan"), 0.0).passes
    assert not Row("float32", "music", "full", 0.0, float("nan")).passes


@pytest.mark.parametrize("name", ["pope-gqa", "pope-mha", "pope-drope", "rope-gqa", "untied-head",
                                  "legacy-fused-qkv"])
def test_goldens(tmp_path, shared, name):
    """Upstream's file through the converter into our model: upstream's logits."""
    from mlxgen.model.load import load

    golden = shared / "golden"
    tokenizer = golden / "tokenizer_scale_degree_125.json"
    folder = export(golden / f"{name}.pt", tokenizer, tmp_path / "model")
    data = np.load(golden / f"{name}.npz")
    for path, logits in parity.run_paths(load(folder)[0], data["ids"]):
        assert np.abs(logits - data["logits"]).max() <= 1e-4, path
    result = parity.measure_parity(golden / f"{name}.pt", folder)
    assert result.passes, parity.format_table(result)


def music_only(monkeypatch) -> None:
    """Nine chords for a prompt: the trained models are a hundred times the tiny ones."""
    every = parity.make_prompts
    monkeypatch.setattr(parity, "make_prompts", lambda *args: {"music": every(*args)["music"]})


def test_a_real_checkpoint(shared, tmp_path, monkeypatch):
    """A trained file as upstream writes it: every weight arrives, and our logits are its logits."""
    music_only(monkeypatch)
    checkpoint = shared / "checkpoints" / "bootstrap.pt"
    folder = export(checkpoint, shared / "golden" / "tokenizer_scale_degree_125.json", tmp_path / "model")
    result = parity.measure_parity(checkpoint, folder)
    assert result.passes, parity.format_table(result)


def test_the_shipped_weights_are_the_same_model_in_torch(default_model_folder, monkeypatch):
    """Their checkpoint is not in the repository: the folder's own tensors in the torch reference, which the
    goldens tie to upstream, against our arithmetic."""
    from convert.reference import compute_logits, load_reference
    from mlxgen.model.load import load

    music_only(monkeypatch)
    model, vocab = load(default_model_folder, dtype="float32")
    reference = load_reference(model.config, load_file(default_model_folder / "model.safetensors"))
    (ids,) = parity.make_prompts(vocab, model.config, 0).values()
    expected = compute_logits(reference, ids)
    for path, logits in parity.run_paths(model, ids):
        assert np.abs(logits - expected).max() <= 1e-4, path
