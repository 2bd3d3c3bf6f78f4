"""The benches run, their arithmetic is right, and their last line is one JSON object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
from tiny import make_vocab

from bench import batch, compare, cost, decode, growth, soak
from bench.__main__ import main as bench_main
from bench.common import median_and_spread, percentile
from bench.worker import Contestant, time_each
from mlxgen.model.blocks import expected_shapes
from mlxgen.model.config import ModelConfig
from mlxgen.music.theory import Key

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model folder small enough to run every contestant on."""
    folder, vocab = tmp_path_factory.mktemp("model"), make_vocab()
    config = ModelConfig(vocab_size=len(vocab), embed_dim=32, num_heads=4, num_kv_heads=2, num_layers=2,
                         ffn_dim=64, max_seq_len=256)
    shapes = expected_shapes(config)
    keys = mx.random.split(mx.random.key(1), len(shapes))
    weights = {name: mx.ones(shape) if "ln" in name else 0.3 * mx.random.normal(shape, key=key)
               for (name, shape), key in zip(sorted(shapes.items()), keys, strict=True)}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    facts = {**config.to_dict(), "format": "mlxgen-1", "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(facts))
    vocab.save(folder / "tokenizer.json")
    return folder


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_decode_measures_us_and_writes_json(folder, tmp_path, capsys):
    target = tmp_path / "a.json"
    only = "mlxgen; mlxgen, no rules"
    decode.main(["--model", str(folder), "--quick", "--only", only, "--json", str(target)])
    result = last_line(capsys)
    assert result == json.loads(target.read_text())
    assert [row["contestant"] for row in result["rows"]] == ["mlxgen", "mlxgen, no rules"]
    row = result["rows"][0]
    assert row["tokens_per_s"] > 0 and row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert result["machine"]["versions"]["mlx"] and result["contestants"]["mlxgen"]["dtype"]


def test_torch_loop_is_a_contestant(folder):
    """Its buffered model equals the reference model, and it decodes through a full window."""
    torch = pytest.importorskip("torch")
    from bench.peers.torch_loop import TorchLoop

    loop = TorchLoop(str(folder))
    ids = torch.tensor([loop._prompt(40)])
    with torch.no_grad():
        expected = loop.model.model(ids)[0, -1]
        loop.model.start(1)
        loop.model.feed(ids[:, :30])
        for place in range(30, 40):
            found = loop.model.feed(ids[:, place: place + 1])[0]
    assert torch.allclose(found, expected, atol=1e-4)
    assert loop.prepare(250)["first_token_s"] > 0
    assert len(loop.decode(20)["seconds"]) == 20  # 250 + 24 ids: the buffers have moved
    assert loop.batch(2, 20, 3, limit_s=60)["tokens"] == 6
    assert loop.batch(2, 20, 3, limit_s=0)["tokens"] == 2


def test_batch_measures_every_cell_once(folder, tmp_path, capsys):
    """What the file holds is not measured again; a picture comes out."""
    target, picture = tmp_path / "batch.json", tmp_path / "batch.svg"
    arguments = ["--model", str(folder), "--contexts", "40", "--tokens", "4", "--repeats", "1", "--only",
                 "mlxgen", "--json", str(target)]
    first = batch.main([*arguments, "--rows", "2"])["rows"]
    assert [(row["contestant"], row["rows"], row["cut"]) for row in first] == [("mlxgen", 2, "")]
    assert first[0]["tokens_per_s"] > 0 and first[0]["kv_bytes"] >= first[0]["kv_needed_bytes"] > 0
    pytest.importorskip("matplotlib")
    both = batch.main([*arguments, "--rows", "2,3", "--plot", str(picture)])["rows"]
    assert both[0] == first[0] and [row["rows"] for row in both] == [2, 3]
    assert last_line(capsys)["rows"] == both and "<svg" in picture.read_text()


def test_batch_says_where_a_contestant_was_cut_short():
    options = SimpleNamespace(tokens=8, limit=10)
    part = {"prefill_s": 1.0, "decode_s": 2.0, "tokens": 6, "cpu_s": 1.0, "peak_bytes": 0}
    row = batch.make_row("a", 3, 40, [part], options)
    assert row["tokens_per_s"] == 3 and row["with_prefill_per_s"] == 2 and row["cut"] == "2 of 8 ids a row"
    late = batch.make_row("a", 3, 40, [part, None], options)
    assert late["cut"] == "not done in 60 s" and "prefill_s" not in late
    assert late["tokens_per_s"] == 3 * 8 / 60


def test_a_worker_that_is_late_is_ended(folder):
    worker = Contestant("nobody", "bench.ours", str(folder))
    with pytest.raises(TimeoutError, match="nobody: no answer to describe in 0 s"):
        worker.ask("describe", timeout_s=0.0)  # it has not even loaded
    assert worker._process.poll() is not None


def test_mlx_lm_is_a_contestant(folder):
    pytest.importorskip("mlx_lm")
    from bench.peers.mlx_lm_peer import MlxLm

    peer = MlxLm(str(folder))
    peer.prepare(20)
    assert len(peer.decode(5)["seconds"]) == 5
    assert peer.batch(3, 10, 4, limit_s=60)["tokens"] == 9  # the first of each row comes with the prefill
    assert peer.batch(3, 10, 4, limit_s=0)["tokens"] == 3


def test_torch_rules_are_upstreams():
    """The contestant's rules in plain Python do what the soft rules do, which equal upstream's."""
    torch = pytest.importorskip("torch")
    from bench.peers.torch_loop import UpstreamRules
    from mlxgen.music.prompt import Conditioning, make_prompt
    from mlxgen.sampling.context import read_context
    from mlxgen.sampling.soft import START, advance_soft_row, apply_soft, make_soft_tables

    vocab = make_vocab()
    prompt = make_prompt(Conditioning(form="chorale"), Key(7, "major"), vocab)
    note = [vocab[name] for name in ["OCT_5", "DEG_1", "Dur_240"]]
    ids = [vocab["VOICE_1"], *note, *note, vocab["VOICE_4"], vocab["OCT_4"], vocab["SHARP"]]
    rules, memory = UpstreamRules(vocab, prompt), START
    for token in prompt:
        memory = advance_soft_row(memory, token, vocab)
    kinds = frozenset({"range", "chromatic", "repeat", "pattern", "special", "separator", "coverage"})
    tables = make_soft_tables(vocab, read_context(prompt, vocab), kinds)
    for token in ids:
        rules.feed(token)
        memory = advance_soft_row(memory, token, vocab)
        device = (mx.array([[part]], dtype=mx.int64) for part in memory)
        expected = apply_soft(mx.zeros((1, len(vocab))), *device, tables)[0].tolist()
        assert rules.apply(torch.zeros(len(vocab))).tolist() == pytest.approx(expected)


def test_cost_counts_what_is_there(folder):
    x = mx.ones((4, 4))
    counts = cost.summarise(cost.count_graph([(x @ x).reshape(16) + 1]))
    assert counts["by_name"]["Matmul"] == 1 and counts["by_name"]["Reshape"] == 1
    assert counts["primitives"] > counts["kernels"] >= 2
    hard = cost.trace_ours(folder, cost.HARD, 40, on_gpu=False)
    gpu = cost.trace_ours(folder, cost.HARD, 40, on_gpu=True)
    assert sum(gpu.values()) < sum(hard.values())  # fused operations are one node there
    assert gpu["Sort"] == 4  # the stand-ins of rms_norm: two a layer and the last, less the first


def test_cost_arithmetic_of_bytes(folder):
    """2 layers of 32 wide: qkv 32 x 64, out 32 x 32, SwiGLU 3 x 32 x 64; PoPE keys are 16 wide, values 8."""
    moved = cost.count_bytes(folder, 4, context=10)
    layer = 32 * 64 + 32 * 32 + 3 * 32 * 64 + 2 * 32 + 64 + 32  # with norms and biases
    looked_up = 32 * 64 + 64 + 32 - 64  # the first layer's q, k and v are a row of a table
    assert moved["weights"] == 4 * (2 * layer - looked_up + 125 * 32)
    assert moved["keys_values_read"] == 10 * moved["keys_values_written"] == 4 * 10 * 2 * 2 * (16 + 8)


def test_cost_prediction_is_monotonous():
    moved = {"weights": 10**7}
    few, many = cost.predict(100, moved), cost.predict(200, moved)
    for one, other in zip(few, many, strict=True):
        assert one["slow"] < one["middle"] < one["fast"] and one["middle"] > other["middle"]


def test_growth_measures_wider_models_and_draws(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    growth.main(["--model", str(folder), "--quick", "--repeats", "1", "--plot", str(tmp_path / "a.svg")])
    rows = last_line(capsys)["rows"]
    assert {(row["what"], row["width"]) for row in rows} == {
        (what, width) for what in ("context", "batch") for width in (1, 2)}
    assert all(row["tokens_per_s"] > 0 for row in rows)
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_soak_finds_a_voice_that_overlaps():
    vocab = make_vocab()
    start = [vocab[name] for name in ["KEY_C_major", "BAR", "BEAT_1"]]
    note = [vocab[name] for name in ["VOICE_1", "OCT_5", "DEG_1", "Dur_480"]]
    watch = soak.Watch(vocab, start)
    for token in note:
        watch.feed(token)
    with pytest.raises(RuntimeError, match="voice 1"):
        for token in [vocab["TimeShift_240"], *note]:
            watch.feed(token)


def test_soak_finds_a_short_bar():
    vocab = make_vocab()
    watch = soak.Watch(vocab, [vocab[name] for name in ["KEY_C_major", "BAR", "BEAT_1"]])
    with pytest.raises(RuntimeError, match="480 ticks"):
        for name in ["TimeShift_480", "BAR"]:
            watch.feed(vocab[name])


def test_soak_runs(folder, capsys):
    soak.main(["--model", str(folder), "--quick"])
    result = last_line(capsys)
    assert result["tokens"] > 600 and len(result["slices"]) == 12 and result["notes"] > 10


def test_compare(tmp_path, capsys):
    def write(name, rate):
        row = {"contestant": "mlxgen", "context": 32, "tokens_per_s": rate, "spread": 5.0}
        path = tmp_path / name
        path.write_text(json.dumps({"results": [{"bench": "decode", "rows": [row]}]}))
        return str(path)

    (change,) = compare.main([write("a.json", 100), write("b.json", 150)])
    assert change["ratio"] == 1.5 and change["better"] and not change["noise"]
    (change,) = compare.main([write("a.json", 100), write("b.json", 97)])
    assert change["noise"] and not change["better"]
    with pytest.raises(SystemExit, match="usage"):
        compare.main(["a.json"])


def test_a_contestant_that_dies_is_named(tmp_path):
    contestant = Contestant("nobody", "bench.ours", str(tmp_path))
    with pytest.raises(RuntimeError, match="nobody"):
        contestant.ask("describe")


def test_arithmetic():
    assert median_and_spread([3.0, 1.0, 2.0]) == (2.0, 1.0)
    assert percentile([float(value) for value in range(101)], 0.95) == 95
    assert len(time_each(lambda: None, 7)) == 7


def test_unknown_bench_lists_them(capsys):
    assert bench_main(["nothing"]) == 2
    assert "decode" in capsys.readouterr().err


def test_startup_runs(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", "startup", "--quick", "--model", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert {row["what"] for row in rows} >= {"import mlxgen", "mlxgen --help", "first id of the model"}
