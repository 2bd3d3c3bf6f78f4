"""Candidates: every row is what it would be alone, in any batch, on any lane, whoever ends before it."""

from __future__ import annotations

import mlx.core as mx
import pytest
from tiny import make_model, make_vocab

from mlxgen.model import blas
from mlxgen.music.prompt import Conditioning, make_prompt
from mlxgen.music.theory import Key
from mlxgen.sampling.candidates import candidates
from mlxgen.sampling.engine import Engine, EngineOptions
from mlxgen.sampling.lanes import Lanes, count_lanes
from mlxgen.sampling.rules import RuleSet

VOCAB = make_vocab()
MODEL = make_model(VOCAB)
PROMPT = make_prompt(Conditioning(form="chorale"), Key(2, "minor"), VOCAB)


def make_engine(seed=0, **options):
    engine = Engine(MODEL, VOCAB, rules=RuleSet(eos="mask"), seed=seed, options=EngineOptions(**options))
    engine.prefill(PROMPT)
    return engine


def alone(seed, count, **options):
    return [token for token, _ in make_engine(seed, **options).generate(count)]


@pytest.mark.parametrize("rows", [1, 3, 50])
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_row_of_a_batch_is_a_run_of_its_own(rows, lanes):
    if lanes > rows:
        pytest.skip("a lane has at least one row")
    found = candidates(make_engine(), rows, 40, seeds=range(7, 7 + rows), lanes=lanes)
    for row in {0, rows // 2, rows - 1}:
        assert found[row].ids == alone(7 + row, 40)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_window_that_slides_out_of_the_shared_context_changes_nothing(lanes):
    narrow = {"window": 70, "prefix": len(PROMPT) - 2, "slack": 1}
    found = candidates(make_engine(**narrow), 6, 200, seeds=range(6), lanes=lanes)
    for row in (0, 5):
        assert found[row].ids == alone(row, 200, **narrow) != alone(row, 200)


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_a_shared_context_is_as_good_as_one_for_each_row(rows):
    """The slow twin feeds the context to every row of a batch that shares nothing."""
    context = [3 + place % 60 for place in range(90)]
    shared = MODEL.make_cache()
    MODEL(mx.array([context]), cache=shared)
    forked = shared.fork(rows)
    separate = MODEL.make_cache(batch=rows)
    MODEL(mx.array([context] * rows), cache=separate)
    for step in range(12):
        ids = mx.array([[3 + (5 * row + step) % 60] for row in range(rows)])
        assert mx.abs(MODEL(ids, cache=forked) - MODEL(ids, cache=separate)).max().item() <= 1e-4


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("compiled", [False, True])
def test_rows_that_end_leave_and_the_others_do_not_notice(lanes, compiled):
    def stop(ids):
        return len(ids) > 2 and sum(ids) % 23 == 0

    def until_stop(ids):
        return next((ids[:end] for end in range(1, len(ids) + 1) if stop(ids[:end])), ids)

    found = candidates(make_engine(compiled=compiled), 12, 90, stop, seeds=range(12), lanes=lanes)
    assert len({len(candidate.ids) for candidate in found}) > 5, "the rows should end at different times"
    for seed, candidate in enumerate(found):
        assert candidate.ids == until_stop(alone(seed, 90))
        assert len(candidate.logprobs) == len(candidate.ids)


def test_ended_rows_are_not_computed_any_more():
    batch = Lanes(make_engine(), 9, lanes=3)
    batch.step()
    batch.keep([1, 2, 6])
    assert batch.rows == 3 and len(batch.step().ids) == 3
    batch.keep([0])
    assert batch.rows == 1
    expected = alone(1, 3)[2]
    assert batch.step().ids == [expected]


def test_lanes_share_one_context():
    engine = make_engine()
    lanes = Lanes(engine, 8, lanes=2)
    contexts = {id(lane.cache.rings[0].keys[0]) for lane in lanes._engines}
    assert contexts == {id(engine.cache.rings[0].keys[0])}


def test_few_rows_need_no_lanes(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert count_lanes(1, 4096) == count_lanes(8, 128) == 1
    if mx.default_device() == mx.cpu:
        assert 2 <= count_lanes(50, 128) < count_lanes(50, 2048) <= 50


def test_seeds_must_be_as_many_as_rows():
    with pytest.raises(ValueError, match="expected 3, one a row"):
        candidates(make_engine(), 3, 5, seeds=[1, 2])


@pytest.mark.skipif(not blas.LOADED, reason="no OpenBLAS under MLX here")
def test_blas_gets_its_threads_back():
    import ctypes

    library = ctypes.CDLL(blas.OPENBLAS)
    before = library.openblas_get_num_threads()
    with blas.at_most_threads(1):
        assert library.openblas_get_num_threads() == 1
    assert library.openblas_get_num_threads() == before
