"""The cache equals the slow twin through prefill, step, rewind, fork and wrap; it is exact and in place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import KINDS, make_model
from twin_drive import Drive, as_ids

from mlxgen.model.cache import load_cache
from mlxgen.model.ring import Ring, RingPlan, visible_slots

BOUND = 1e-4
TESTS = Path(__file__).resolve().parent


def random_ids(seed: int, *shape: int) -> mx.array:
    return as_ids(np.random.default_rng(seed).integers(0, 23, shape))


def compile_step(model, shape):
    return mx.compile(lambda ids, state: model.step_logits(ids, state, shape))


def difference(a: mx.array, b: mx.array) -> float:
    return float(mx.abs(a - b).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", [0, 9])
def test_random_walk_equals_the_twin(kind, prefix):
    drive = Drive(kind, seed=len(kind) + prefix, window=20, prefix=prefix, slack=6)
    while drive.steps < 450:
        drive.random_move()
    assert drive.cache.position > 0 and drive.moves > 10
    assert drive.worst <= BOUND


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("MLXGEN_SLOW"), reason="minutes long; set MLXGEN_SLOW=1")
@pytest.mark.parametrize("kind", ["pope-gqa", "pope-mha", "rope-gqa", "rope-mha", "pope-drope", "rope-drope"])
def test_long_walk_equals_the_twin(kind):
    """10,000 tokens, window 256, prefix 64, at least 500 rewinds, forks and prefills in mid-stream."""
    drive = Drive(kind, seed=7, window=256, prefix=64, slack=64)
    while drive.steps < 10_000 or drive.moves < 500:
        drive.random_move()
    print(f"\n{kind}: {drive.steps} tokens, {drive.moves} rewinds, forks and prefills, "
          f"stands at {drive.cache.position}, max |difference| {drive.worst:.2e}")
    assert drive.worst <= BOUND


def test_a_row_that_is_taken_finds_room_behind_a_short_context():
    """A context's ring has few slots; what a row of its fork wrote has to fit behind them."""
    model, _ = make_model("pope-gqa", seed=3)
    ids = random_ids(5, 2, 200)
    cache = model.make_cache(window=256, slack=8)
    model(ids[:1, :20], cache=cache)
    forked = cache.fork(2)
    model(ids[:, 20:180], cache=forked)
    taken = forked.take(1)
    assert cache.own.allocated < 180 <= taken.own.allocated
    alone = model.make_cache(window=256, slack=8)
    model(mx.concatenate([ids[:1, :20], ids[1:, 20:180]], axis=1), cache=alone)
    assert difference(model(ids[1:, 180:], cache=taken), model(ids[1:, 180:], cache=alone)) < BOUND


@pytest.mark.parametrize("fault", ["anchor", "window", "slot"])
def test_a_planted_fault_is_seen(monkeypatch, fault):
    """Each of these is one token off; the twin must notice."""
    if fault == "anchor":
        right = RingPlan.anchor
        monkeypatch.setattr(RingPlan, "anchor", lambda plan, token: right(plan, token - 1))
    elif fault == "window":
        clock = Ring.clock
        monkeypatch.setattr(Ring, "clock", lambda *a, **k: [*clock(*a, **k)[:3], clock(*a, **k)[3] - 1])
    else:
        right = RingPlan.slot
        monkeypatch.setattr(RingPlan, "slot", lambda plan, token: right(plan, token + (token > 60)))
    drive = Drive("pope-gqa", seed=3, window=20, prefix=9, slack=4)
    for _ in range(160):
        drive.feed(1)
    assert drive.worst > 100 * BOUND


@settings(max_examples=200, deadline=None)
@given(window=st.integers(1, 12), prefix=st.integers(0, 6), slack=st.integers(0, 5), count=st.integers(1, 60),
       ahead=st.integers(0, 9))
def test_visible_slots_are_the_prefix_and_the_window(window, prefix, slack, count, ahead):
    """Against the definition, on the host and on the device, for the newest token and for later ones."""
    plan = RingPlan(window, prefix, slack)
    ring = Ring(plan, [mx.zeros((1, 1, plan.slots, 1))], [mx.zeros((1, 1, plan.slots, 1))], mx.zeros((1,)))
    ring.advance(count)
    query = count - 1 + ahead
    expected = {plan.slot(token) for token in range(count) if token < prefix or token > query - window}
    host = ring.block_mask(range(query, query + 1), slice(ring.shape().read))[0]
    device = np.array(visible_slots(ring.shape(), mx.array(ring.clock(query), dtype=mx.int32)))
    assert set(np.flatnonzero(host)) == expected
    assert np.array_equal(host, device)


def test_the_prefix_stays_between_window_and_window_plus_stride():
    plan = RingPlan(window=100, prefix=30, slack=8)
    behind = [token - (29 + plan.anchor(token)) for token in range(129, 5000)]
    assert min(behind) == 100 and max(behind) == 163
    assert all(plan.anchor(token) == 0 for token in range(129 + 64))
    for token in range(30, 1000):
        same = plan.same_anchor(token)
        assert len({plan.anchor(t) for t in range(token, token + same)}) == 1


@pytest.mark.parametrize("kind", ["pope-gqa", "rope-gqa"])
def test_the_same_window_at_five_thousand_and_fifty_million(kind):
    """Two layers look back two windows; after three, only the last three windows and the prefix count."""
    model, _ = make_model(kind)
    prefix, tail = random_ids(0, 1, 16), random_ids(1, 1, 3 * 64 + 40)
    plan = RingPlan(64, 16, 8)
    results = []
    for token in (5_000, 50_000_000):
        while plan.anchor(token) - token != plan.anchor(5_000) - 5_000:
            token += 1  # the same place between two anchors
        cache = model.make_cache(window=64, prefix=16, slack=8)
        model(prefix, cache=cache)
        cache.own.advance(token - 16)
        steps = [model(tail[:, :30], cache=cache)[:, -1:]]
        steps += [model(tail[:, t: t + 1], cache=cache) for t in range(30, tail.shape[1])]
        assert cache.position == token + tail.shape[1]
        results.append(mx.concatenate(steps, axis=1)[:, -40:])
    assert difference(*results) <= BOUND


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_copies_no_ring(compiled):
    """Two rings of one model, forty times apart: the memory above them stays what scores need."""
    model, _ = make_model("pope-gqa")
    over = {}
    for window in (1024, 40_960):
        cache = model.make_cache(window=window, prefix=16, slack=16)
        cache.own.grow(window)
        model(random_ids(0, 1, 40), cache=cache)
        steps = {}
        previous = random_ids(1, 1, 1)
        for step in range(40):
            if step == 20:
                mx.synchronize()
                mx.reset_peak_memory()
                held = mx.get_active_memory()
            state, shape = cache.begin_step(), cache.shape
            if compiled and shape not in steps:
                steps[shape] = compile_step(model, shape)
            logits, written = (steps[shape](previous, state) if compiled
                               else model.step_logits(previous, state, shape))
            del state
            cache.end_step(written)
            del written
            previous = logits.argmax(axis=-1)
            mx.async_eval(previous)
        mx.synchronize()
        over[window] = (mx.get_peak_memory() - held, cache.nbytes)
    (small, _), (large, nbytes) = over[1024], over[40_960]
    assert nbytes > 15e6
    assert large < small + 200_000


@pytest.mark.parametrize("kind", ["pope-gqa", "rope-mha"])
def test_a_block_on_several_streams_is_the_same(kind, monkeypatch):
    model, _ = make_model(kind)
    logits = []
    for count in (0, 2, 3):
        streams = [mx.new_stream(mx.default_device()) for _ in range(count)]
        monkeypatch.setattr("mlxgen.model.cache.block_streams", lambda streams=streams: streams)
        logits.append(model(random_ids(5, 2, 600), cache=model.make_cache(2, window=400, prefix=10, slack=8)))
    assert difference(logits[0], logits[1]) <= BOUND and difference(logits[0], logits[2]) <= BOUND


def test_compiled_steps_equal_eager_ones():
    model, _ = make_model("pope-gqa")
    steps, caches = {}, [model.make_cache(window=40, prefix=9, slack=8) for _ in range(2)]
    for cache in caches:
        model(random_ids(0, 1, 20), cache=cache)
    caches = [cache.fork(3, room=30) for cache in caches]
    worst = 0.0
    for step in range(120):
        ids = random_ids(step, 3, 1)
        eager = model(ids, cache=caches[0])
        state, shape = caches[1].begin_step(), caches[1].shape
        if shape not in steps:
            steps[shape] = compile_step(model, shape)
        logits, written = steps[shape](ids, state)
        caches[1].end_step(written)
        worst = max(worst, difference(eager[:, 0], logits))
    assert worst <= 1e-5
    assert len(steps) <= 4


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_rows_on_a_shared_context_equal_caches_of_their_own(rows):
    model, _ = make_model("pope-gqa")
    context, ids = random_ids(0, 1, 37), random_ids(1, rows, 30)
    cache = model.make_cache(window=48, prefix=8, slack=4)
    model(context, cache=cache)
    shared = cache.fork(rows, room=30)
    own = model.make_cache(batch=rows, window=48, prefix=8, slack=4)
    model(mx.repeat(context, rows, axis=0), cache=own)
    alive = list(range(rows))
    for t in range(30):
        if t == 11 and rows > 1:
            alive = alive[::2]
            shared.keep(list(range(0, rows, 2)))
            own.keep(alive)
        step = ids[:, t: t + 1][mx.array(alive)]
        assert difference(model(step, cache=shared), model(step, cache=own)) <= BOUND
    assert shared.batch == len(alive)


def test_a_fork_holds_its_context_once_and_leaves_the_parent_alone():
    model, _ = make_model("pope-gqa")
    cache = model.make_cache(window=400, prefix=8, slack=16)
    model(random_ids(0, 1, 300), cache=cache)
    rows, room = 20, 32
    row_bytes = 2 * room * 2 * (16 + 9) * 4  # layers, tokens, kv heads, key and value widths, bytes
    before = mx.get_active_memory()
    forked = cache.fork(rows, room=room)
    assert forked.nbytes == cache.nbytes + rows * row_bytes
    assert mx.get_active_memory() - before <= 1.1 * rows * row_bytes
    twin = cache.fork(1)
    for t in range(60):  # the fork's prefix moves meanwhile, the parent's must not
        model(random_ids(t, rows, 1), cache=forked)
    ids = random_ids(5, 1, 9)
    assert difference(model(ids, cache=twin), model(ids, cache=cache)) <= BOUND


def test_float16_stays_near_float32():
    logits = []
    for dtype in (mx.float32, mx.float16):
        model, _ = make_model("pope-gqa", dtype)
        cache = model.make_cache(window=32, prefix=8, slack=4)
        logits.append(model(random_ids(0, 1, 300), cache=cache))
    assert difference(*logits) < 0.1
    assert logits[1].dtype == mx.float32


CONTINUE = """
import sys
sys.path.insert(0, {tests!r})
import mlx.core as mx
from tiny_models import make_model
from mlxgen.model.cache import load_cache
model, _ = make_model("rope-gqa")
cache = load_cache(model, {path!r})
ids, out = mx.array([[int(sys.argv[1])]]), []
for _ in range(200):
    ids = model(ids, cache=cache)[:, -1].argmax(axis=-1)[:, None]
    out.append(ids.item())
print(*out)
"""


def test_a_saved_cache_goes_on_in_another_process(tmp_path):
    model, _ = make_model("rope-gqa")
    cache = model.make_cache(window=50, prefix=10, slack=8)
    ids = model(random_ids(0, 1, 333), cache=cache)[:, -1].argmax(axis=-1)[:, None]
    cache.rewind(3)
    path = tmp_path / "stream.safetensors"
    cache.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    script = CONTINUE.format(tests=str(TESTS), path=str(path))
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", script, str(ids.item())], env=environment, check=True,
                          capture_output=True, text=True)
    expected = []
    for _ in range(200):
        ids = model(ids, cache=cache)[:, -1].argmax(axis=-1)[:, None]
        expected.append(ids.item())
    assert [int(word) for word in done.stdout.split()] == expected
    assert len(set(expected)) > 3


def test_loading_refuses_other_models_and_other_files(tmp_path):
    model, _ = make_model("pope-gqa")
    cache = model.make_cache(window=20)
    cache.save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="another model"):
        load_cache(make_model("rope-gqa")[0], tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="float32"):
        load_cache(make_model("pope-gqa", mx.float16)[0], tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"no")
    for name in ("b.safetensors", "absent.safetensors"):
        with pytest.raises(ValueError, match="not a saved cache"):
            load_cache(model, tmp_path / name)


def test_a_rewind_gives_back_at_least_the_slack_and_no_more():
    model, _ = make_model("pope-gqa")
    cache = model.make_cache(window=20, prefix=4, slack=6)
    model(random_ids(0, 1, 15), cache=cache)
    assert cache.rewindable == 15
    model(random_ids(0, 1, 100), cache=cache)
    assert cache.rewindable == 6
    cache.rewind(4)
    assert cache.rewindable == 2
    with pytest.raises(ValueError, match="0 to 2"):
        cache.rewind(3)
    forked = cache.fork(2)
    with pytest.raises(ValueError, match="0 to 0"):
        forked.rewind(1)


def test_reset_begins_again():
    model, _ = make_model("pope-gqa")
    cache = model.make_cache(window=20, prefix=6, slack=4)
    ids = random_ids(0, 1, 150)
    before = model(ids, cache=cache)
    cache.reset()
    assert cache.position == 0
    assert difference(model(ids, cache=cache), before) <= 1e-6


@pytest.mark.parametrize("wrong, named", [
    (lambda m: m.make_cache(window=0), "window is 0"),
    (lambda m: m.make_cache(window=9, prefix=-1), "prefix is -1"),
    (lambda m: m.make_cache(window=9, slack=1.5), "slack is 1.5"),
    (lambda m: m.make_cache(batch=0), "batch is 0"),
    (lambda m: m.make_cache(prefix=250), "at most 191"),
    (lambda m: m(random_ids(0, 2, 3), cache=m.make_cache(window=9)), "2 rows"),
    (lambda m: m(random_ids(0, 3)), "shape"),
    (lambda m: m.make_cache(window=9).fork(0), "0 rows"),
    (lambda m: m.make_cache(window=9, prefix=3).fork(2), "inside the prefix"),
    (lambda m: m.make_cache(window=9).fork(2).fork(2), "take"),
    (lambda m: m.make_cache(window=9).fork(2).save("x"), "take"),
    (lambda m: m.make_cache(window=9).fork(2).keep([2]), "0 to 1"),
    (lambda m: m.make_cache(window=9).fork(2).take(2), "0 to 1"),
])
def test_what_cannot_be_is_refused_with_its_value(wrong, named):
    model, _ = make_model("pope-mha")
    with pytest.raises(ValueError, match=named):
        wrong(model)


def test_a_cache_loads_in_place_what_another_saved(tmp_path):
    model, _ = make_model("pope-gqa")
    ids = mx.array([[1, 2, 3, 4, 5, 6, 7, 8, 9]])
    first, second = (model.make_cache(window=6, prefix=2, slack=2) for _ in range(2))
    model(ids, cache=first)
    first.save(tmp_path / "a.safetensors")
    second.load(tmp_path / "a.safetensors")
    assert second.position == 9
    assert mx.array_equal(model(ids[:, :1], cache=second), model(ids[:, :1], cache=first))
    with pytest.raises(ValueError, match="window=6"):
        model.make_cache(window=7, prefix=2, slack=2).load(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="forked"):
        second.fork(2).load(tmp_path / "a.safetensors")
