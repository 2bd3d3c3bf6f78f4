"""The torch reference against the papers' formulas written out, against its own cache, against upstream."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from handmade import make_tensors

from mlxgen.model.config import ModelConfig

torch = pytest.importorskip("torch", reason="the reference model is torch")
reference = pytest.importorskip("convert.reference")

GENERATIONS = [(name, drope) for name in ("pope", "rope", "none") for drope in (False, True)]


def make_model(position="pope", drope=False, num_kv_heads=2, weight_tying=True):
    config = ModelConfig(vocab_size=14, embed_dim=16, num_heads=4, num_kv_heads=num_kv_heads, num_layers=2,
                         ffn_dim=24, max_seq_len=64, pos_encoding=position, drope=drope,
                         weight_tying=weight_tying)
    tensors = make_tensors({"embed_dim": 16, "swiglu_dim": 24, "num_heads": 4, "num_kv_heads": num_kv_heads,
                            "num_layers": 2, "vocab_size": 14, "weight_tying": weight_tying})
    return reference.load_reference(config, tensors), tensors


IDS = np.random.default_rng(1).integers(0, 14, (2, 23))


def write_out(tensors, ids, position, drope, num_kv_heads) -> np.ndarray:
    """Logits (T, V) of one sequence, by loops over heads and pairs of positions, in float64."""
    weights = {name: array.astype(np.float64) for name, array in tensors.items()}

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weights[name]

    def score(q, k, distance):  # distance: how far the key lies behind the query
        dims = len(q)
        if position == "pope":
            q, k = np.log1p(np.exp(q)), np.log1p(np.exp(k))
            angles = [0 if drope else distance * 10000 ** (-c / dims) for c in range(dims)]
            return sum(q[c] * k[c] * math.cos(angles[c]) for c in range(dims)) / math.sqrt(2 * dims)
        if position == "rope" and not drope:
            half, total = dims // 2, 0.0
            for j in range(half):
                turned = complex(q[j], q[j + half]) * complex(k[j], k[j + half]).conjugate()
                total += (turned * np.exp(1j * distance * 10000 ** (-2 * j / dims))).real
            return total / math.sqrt(dims)
        return q @ k / math.sqrt(dims)

    x = weights["token_embed.weight"][ids]  # (T, d)
    length, heads, dims = len(ids), 4, 4
    for layer in range(2):
        prefix = f"layers.{layer}."
        y = norm(x, prefix + "ln1.weight")
        q, k, v = (y @ weights[f"{prefix}attn.{n}_proj.weight"].T + weights[f"{prefix}attn.{n}_proj.bias"]
                   for n in "qkv")
        merged = np.zeros((length, heads * dims))
        for head in range(heads):
            own, kv = slice(head * dims, head * dims + dims), head // (heads // num_kv_heads) * dims
            for t in range(length):
                scores = np.array([score(q[t, own], k[s, kv:kv + dims], t - s) for s in range(t + 1)])
                shares = np.exp(scores - scores.max())
                merged[t, own] = shares / shares.sum() @ v[: t + 1, kv:kv + dims]
        x = x + merged @ weights[prefix + "attn.proj.weight"].T + weights[prefix + "attn.proj.bias"]
        y = norm(x, prefix + "ln2.weight")
        gate = y @ weights[prefix + "ffn.w_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ weights[prefix + "ffn.w1.weight"].T)) \
            @ weights[prefix + "ffn.w2.weight"].T
    return norm(x, "ln_final.weight") @ weights["head.weight"].T


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize(("position", "drope"), GENERATIONS)
def test_equals_the_formulas(position, drope, num_kv_heads):
    model, tensors = make_model(position, drope, num_kv_heads)
    expected = write_out(tensors, IDS[0, :12], position, drope, num_kv_heads)
    np.testing.assert_allclose(reference.compute_logits(model, IDS[:1, :12])[0], expected, atol=2e-5)


def test_untied_head_equals_the_formulas():
    model, tensors = make_model(weight_tying=False)
    expected = write_out(tensors, IDS[0], "pope", False, 2)
    np.testing.assert_allclose(reference.compute_logits(model, IDS[:1])[0], expected, atol=2e-5)


@pytest.mark.parametrize("bounds", [[0, 1, *range(2, 24)], [0, 10, 15, 16, 23]])
@pytest.mark.parametrize(("position", "drope"), GENERATIONS)
def test_cached_equals_full(position, drope, bounds):
    model, _ = make_model(position, drope)
    ids, cache, parts = torch.tensor(IDS), None, []
    with torch.no_grad():
        for start, end in pairwise(bounds):
            logits, cache = model.decode(ids[:, start:end], cache)
            parts.append(logits)
    np.testing.assert_allclose(torch.cat(parts, 1).numpy(), reference.compute_logits(model, IDS), atol=2e-5)


def test_greedy_decoding_is_the_full_forwards():
    model, _ = make_model()
    ids = IDS[:1]
    for chosen in reference.decode_greedy(model, ids, 12):
        assert chosen == reference.compute_logits(model, ids)[0, -1].argmax()
        ids = np.append(ids, [[chosen]], axis=1)


def test_names_and_tying_are_upstreams():
    model, tensors = make_model()
    assert set(model.state_dict()) == set(tensors)
    assert model.head.weight is model.token_embed.weight
    untied, _ = make_model(weight_tying=False)
    assert untied.head.weight is not untied.token_embed.weight


def test_dropout_only_in_training():
    model, _ = make_model()
    dropping = reference.ReferenceModel(model.config, dropout=0.5)
    ids = torch.tensor(IDS)
    with torch.no_grad():
        dropping.eval()
        assert torch.equal(dropping(ids), dropping(ids))
        dropping.train()
        assert not torch.equal(dropping(ids), dropping(ids))


def test_it_learns_in_bfloat16_autocast():
    """What the recipe does: loss falls on one batch, gradients reach every weight."""
    torch.manual_seed(0)
    model = reference.ReferenceModel(make_model()[0].config, dropout=0.0).train()
    ids = torch.tensor(IDS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(part.grad is not None and part.grad.isfinite().all() for part in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_unknown_positions_are_named():
    class Config:
        pos_encoding, drope, embed_dim, num_heads, num_kv_heads = "alibi", False, 16, 4, 4
    with pytest.raises(ValueError, match="'alibi'; expected one of none, pope, rope"):
        reference.ReferenceModel(Config())


def test_goldens(shared):
    """Upstream's own logits, full and cached."""
    from convert.checkpoint import read_checkpoint
    from convert.upstream import arrange_tensors, count_rows, translate_config

    paths = sorted((shared / "golden").glob("*.pt"))
    assert len(paths) >= 6
    for path in paths:
        checkpoint = read_checkpoint(path)
        config = translate_config(checkpoint.config, count_rows(checkpoint.tensors))
        model = reference.load_reference(config, arrange_tensors(checkpoint.tensors, config))
        golden = np.load(path.with_suffix(".npz"))
        found = reference.compute_logits(model, golden["ids"])
        np.testing.assert_allclose(found, golden["logits"], atol=1e-4)
        ids = torch.tensor(golden["ids"], dtype=torch.long)
        with torch.no_grad():
            logits, cache = model.decode(ids[:, :150])
            parts = [logits]
            for t in range(150, 200):
                logits, cache = model.decode(ids[:, t:t + 1], cache)
                parts.append(logits)
        found = torch.cat(parts, 1).numpy()
        np.testing.assert_allclose(found, golden["logits"], atol=1e-4, err_msg=path.name)
