"""Threads on cores of their own while steps run, and let go where others want the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import mlx.core as mx
import pytest

from mlxgen.model import cores
from mlxgen.model.load import load
from mlxgen.sampling import engine as engine_module
from mlxgen.sampling.engine import Engine, EngineOptions
from mlxgen.sampling.rules import RuleSet

ALL = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="needs Linux and two cores")
NEVER, ALWAYS = 1e9, 1e-9  # shares of the time that a thread may wait


@pytest.fixture(scope="module")
def engine(default_model_folder):
    model, vocab = load(default_model_folder, "float32")
    engine = Engine(model, vocab, rules=RuleSet(eos="mask"), options=EngineOptions(window=128))
    engine.prefill([1])
    return engine


@pytest.fixture
def apart(monkeypatch):
    """A new one for this thread, that finds its device on a busy machine too."""
    monkeypatch.setattr(cores, "_of_threads", {})
    monkeypatch.setattr(cores, "BUSY", 0.02)
    yield cores.apart()
    if cores.apart()._device:
        os.sched_setaffinity(cores.apart()._device, ALL)
    os.sched_setaffinity(0, ALL)


def limit(monkeypatch, share: float) -> None:
    monkeypatch.setattr(cores, "DEVICE_WAITED", share)
    monkeypatch.setattr(cores, "HOST_WAITED", share)


def run(engine, steps: int) -> None:
    for _ in range(steps):
        engine.step()


def test_the_two_threads_share_no_core(engine, apart, monkeypatch):
    limit(monkeypatch, NEVER)
    run(engine, 8 * cores.LOOK)
    with apart:
        own = os.sched_getaffinity(0)
    assert len(own) == 1
    assert os.sched_getaffinity(apart._device) == ALL - own


def test_what_is_started_between_steps_has_all_cores(engine, apart, monkeypatch):
    limit(monkeypatch, NEVER)
    run(engine, 8 * cores.LOOK)
    assert apart._own, "not held: nothing is shown"
    assert os.sched_getaffinity(0) == ALL
    ask = "import os; print(len(os.sched_getaffinity(0)))"
    assert int(subprocess.check_output([sys.executable, "-c", ask])) == len(ALL)


def test_an_error_gives_the_cores_back(engine, apart, monkeypatch):
    limit(monkeypatch, NEVER)
    run(engine, 8 * cores.LOOK)
    with pytest.raises(KeyError), apart:
        assert len(os.sched_getaffinity(0)) == 1
        raise KeyError
    assert os.sched_getaffinity(0) == ALL


def test_where_cores_are_wanted_both_are_let_go_and_taken_again_later(engine, apart, monkeypatch):
    limit(monkeypatch, NEVER)
    run(engine, 8 * cores.LOOK)
    limit(monkeypatch, ALWAYS)
    monkeypatch.setattr(cores, "LONGEST_REST_S", 1000.0)
    apart._rest_s = 400.0
    run(engine, 2 * cores.CHECK)
    assert not apart._own
    assert os.sched_getaffinity(apart._device) == ALL
    assert apart._rest_s == 800.0  # next time for longer
    limit(monkeypatch, NEVER)
    apart._rest_until = 0
    run(engine, cores.CHECK)
    assert len(apart._own) == 1


def test_beside_processes_that_want_every_core(engine, apart):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(ALL))]
    try:
        for _ in range(40):
            run(engine, cores.CHECK // 2)
            if apart._device and not apart._own and apart._rest_until:
                break
        else:
            raise AssertionError("held on")
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_thread_that_has_ended_is_looked_for_again(engine, apart, monkeypatch):
    limit(monkeypatch, NEVER)
    run(engine, 8 * cores.LOOK)
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    gone, apart._device = apart._device, thread.native_id
    run(engine, 10 * cores.LOOK + cores.CHECK)
    assert apart._device == gone
    assert apart._own


def test_a_mask_that_is_set_later_counts(engine, apart, monkeypatch):
    """taskset on a running process: one core is left, and nothing is held."""
    limit(monkeypatch, NEVER)
    os.sched_setaffinity(0, {min(ALL)})
    run(engine, 8 * cores.LOOK)
    assert not apart._own
    assert os.sched_getaffinity(0) == {min(ALL)}


def test_it_changes_no_id(default_model_folder, monkeypatch):
    model, vocab = load(default_model_folder, "float32")

    def draw() -> list[list[int]]:
        engine = Engine(model, vocab, rules=RuleSet(eos="mask"), seed=3, options=EngineOptions(window=128))
        engine.prefill([1])
        return [engine.step().ids for _ in range(3 * cores.CHECK)]

    held = draw()
    monkeypatch.setattr(engine_module, "apart", lambda: cores.TOGETHER)
    assert draw() == held


def test_pauses_grow_while_the_store_is_full_and_shrink_where_it_is_not(engine, apart, monkeypatch):
    limit(monkeypatch, NEVER)
    run(engine, 8 * cores.LOOK)
    assert apart._own, "not held: nothing is shown"

    def layers(operations: int, size: int) -> list[mx.array]:
        x, made = mx.ones(size), []
        for _ in range(8):
            for _ in range(operations):
                x = mx.sin(x)
            made.append(x)
        return made

    apart._pause_s = 0.0
    for _ in range(8):
        with apart:
            apart.enqueue(layers(100, 20_000))  # twice as many operations a layer as MLX keeps in store
    full = apart._pause_s
    assert full > 0
    mx.synchronize()
    for _ in range(8):
        with apart:
            apart.enqueue(layers(1, 1))
        mx.synchronize()
    assert apart._pause_s < full


def test_a_thread_of_real_time_may_move(engine, apart, monkeypatch):
    """Beside another of its priority one that is held waits for whole turns of a tenth of a second."""
    limit(monkeypatch, NEVER)
    run(engine, 8 * cores.LOOK)
    assert apart._own
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pytest.skip("needs leave for real-time threads")
    try:
        run(engine, 2 * cores.CHECK)
        assert not apart._own
        assert os.sched_getaffinity(apart._device) == ALL
        monkeypatch.setattr(cores, "REST_S", 0.0)
        apart._rest_until = 0
        run(engine, 2 * cores.CHECK)
        assert not apart._own
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    run(engine, 2 * cores.CHECK)
    assert apart._own
