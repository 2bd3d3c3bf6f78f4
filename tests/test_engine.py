"""The engine: every way of running it draws the same ids."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from tiny import make_model, make_vocab

from mlxgen.model.load import load
from mlxgen.music.decode import Decoder
from mlxgen.music.prompt import Conditioning, make_prompt
from mlxgen.music.theory import Key
from mlxgen.sampling.candidates import candidates, stop_after_bars
from mlxgen.sampling.compiling import can_compile
from mlxgen.sampling.engine import Engine, EngineOptions
from mlxgen.sampling.rules import SOFT_RULES, RuleSet
from mlxgen.sampling.sampler import SamplingParams, gumbel_noise, make_row_keys

VOCAB = make_vocab()
MODEL = make_model(VOCAB)
PROMPT = make_prompt(Conditioning(form="chorale"), Key(2, "minor"), VOCAB)
ENDLESS = RuleSet(eos="mask")


def make_engine(**options):
    """What is not an argument of Engine is one of EngineOptions."""
    options.setdefault("rules", ENDLESS)
    own = {name: options.pop(name) for name in list(options) if name in ("rules", "params", "seed")}
    engine = Engine(MODEL, VOCAB, **own, options=EngineOptions(**options))
    engine.prefill(PROMPT)
    return engine


def drawn(engine, count):
    return [token for token, _ in engine.generate(count)]


def test_engine_equals_full_forward():
    """The slow twin: no cache, no tables carried along, one full forward pass an id."""
    params = SamplingParams(temperature=0.8, min_p=0.05)
    engine = make_engine(seed=4, params=params)
    got = list(engine.generate(50))
    rules, ids = engine._rules, list(PROMPT)
    for token, logprob in got:
        logits = MODEL(mx.array([ids]))[:, -1]
        (row,) = rules.scan(ids)
        allowed = rules.apply(logits, rules.make_state([row]), rules.make_arrays(row.context))
        scaled = allowed / 0.8
        scaled = mx.where(scaled >= mx.max(scaled) + np.log(0.05), scaled, -mx.inf)
        noise = gumbel_noise(make_row_keys([4]), len(ids), 1, len(VOCAB))[0]
        assert mx.argmax(scaled + noise).item() == token
        assert (logits[0, token] - mx.logsumexp(logits)).item() == pytest.approx(logprob, abs=1e-4)
        ids.append(token)


def test_ahead_or_not_is_the_same():
    one, other = make_engine(seed=1), make_engine(seed=1)
    assert drawn(one, 60) == [other.step(ahead=False).ids[0] for _ in range(60)]


@pytest.mark.parametrize("soft", [frozenset(), SOFT_RULES])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_batch_row_equals_single_run(rows, soft):
    rules = RuleSet(eos="mask", soft=soft)
    fork = make_engine(rules=rules).fork(rows, seeds=range(20, 20 + rows))
    batch = [fork.step().ids for _ in range(80)]
    for row in range(rows):
        assert drawn(make_engine(rules=rules, seed=20 + row), 80) == [ids[row] for ids in batch]


def test_compiled_equals_eager():
    """2,000 ids through growing and wrapping caches. The first run on a machine compiles kernels."""
    compiled, eager = make_engine(seed=5, compiled=True, window=300), make_engine(
        seed=5, compiled=False, window=300)
    assert drawn(compiled, 2000) == drawn(eager, 2000)
    compiled.rewind(20)
    eager.rewind(20)
    assert drawn(compiled, 50) == drawn(eager, 50)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("MLXGEN_SLOW"), reason="minutes; set MLXGEN_SLOW=1")
@pytest.mark.parametrize("soft", [(), SOFT_RULES])
def test_compiled_equals_eager_on_the_shipped_model(default_model_folder, soft):
    """2,000 ids over a window that wraps, with and without the soft rules."""
    model, vocab = load(default_model_folder)
    runs = []
    for compiled in (True, False):
        engine = Engine(model, vocab, seed=3, rules=RuleSet(eos="mask", soft=frozenset(soft)),
                        options=EngineOptions(window=1024, compiled=compiled))
        engine.prefill(make_prompt(Conditioning(form="fugue"), Key(2, "minor"), vocab))
        runs.append(list(engine.generate(2000)))
    fast, slow = (np.array(run) for run in runs)
    print(f"\nlargest difference of log-probabilities {np.abs(fast[:, 1] - slow[:, 1]).max():.1e}")
    assert len(fast) == 2000 and np.array_equal(fast[:, 0], slow[:, 0])
    assert np.abs(fast[:, 1] - slow[:, 1]).max() <= 1e-4


def test_engines_of_a_model_share_compiled_steps():
    """Another key of music, other ranges, a fork, a second engine: nothing is traced again."""
    model = make_model(VOCAB)
    traced = []
    model.step_logits = lambda ids, held, shape: traced.append(shape) or MODEL.step_logits(ids, held, shape)

    def run(key, ruleset):
        engine = Engine(model, VOCAB, rules=ruleset, options=EngineOptions(compiled=True))
        engine.prefill(make_prompt(Conditioning(form="chorale"), key, VOCAB))
        drawn(engine, 5)
        candidates(engine, 3, 5)

    run(Key(2, "minor"), ENDLESS)
    assert len(traced) == 2  # one row, three rows
    run(Key(9, "major"), RuleSet(eos="mask", ranges=False))
    assert len(traced) == 2
    run(Key(2, "minor"), RuleSet(eos="mask", grammar=False, ranges=False))
    assert len(traced) == 4


def test_without_a_compiler_steps_run_and_say_so(tmp_path):
    """In a process without PATH: one line of notice, the same ids as here."""
    script = ("from test_engine import *; print(drawn(make_engine(seed=5, compiled=True), 30)); "
              "make_engine(compiled=True)")
    here = Path(__file__).resolve().parent
    environment = {"PATH": str(tmp_path), "TMPDIR": str(tmp_path),
                   "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(drawn(make_engine(seed=5), 30))
    if mx.default_device() != mx.gpu:
        assert done.stderr.count("uncompiled") == 1 and len(done.stderr.splitlines()) == 1


def test_compile_switched_off(monkeypatch):
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    can_compile.cache_clear()
    try:
        assert not make_engine(compiled=True).compiled
    finally:
        monkeypatch.undo()
        can_compile.cache_clear()


def test_seeds_differ_and_repeat():
    assert drawn(make_engine(seed=1), 40) == drawn(make_engine(seed=1), 40) != drawn(make_engine(seed=2), 40)


@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_rewind_draws_the_same_again(count):
    engine = make_engine(seed=9)
    first = drawn(engine, 50)
    _ = engine.decoder.now_ticks  # fed up to here, so that it has to come back too
    bars = engine.decoder.bar
    engine.rewind(count)
    assert engine.position == len(PROMPT) + 50 - count
    assert drawn(engine, count) == first[50 - count:]
    assert engine.decoder.bar == bars


def test_rewind_many_times():
    engine, plain = make_engine(seed=3), make_engine(seed=3)
    expected = drawn(plain, 120)
    got: list[int] = []
    for run, back in [(30, 12), (5, 20), (40, 39), (3, 1), (64, 64)]:
        got += drawn(engine, run)
        engine.rewind(back)
        del got[len(got) - back:]
    assert got + drawn(engine, 20) == expected[:len(got) + 20]


def test_rewind_into_the_prompt_takes_another_way():
    engine = make_engine(seed=3)
    drawn(engine, 5)
    engine.rewind(7)  # the first five and BAR BEAT_1
    assert VOCAB.name(drawn(engine, 1)[0]) == "BAR"


def test_decoder_follows():
    engine = make_engine(seed=6)
    ids = drawn(engine, 400)
    whole = Decoder(VOCAB)
    for token in [*PROMPT, *ids]:
        whole.feed(token)
    assert engine.decoder.piece() == whole.piece()
    engine.rewind(30)
    for _ in range(3):
        drawn(engine, 10)
        _ = engine.decoder
    assert engine.decoder.piece() == whole.piece()


def test_turning_a_knob_is_heard_at_once():
    """Also when the next step was enqueued before: the ids are those of an engine that never ran ahead."""
    def run(ahead):
        engine = make_engine(seed=2)
        ids = [engine.step(ahead=ahead).ids[0] for _ in range(10)]
        engine.params = SamplingParams(temperature=0)
        ids += [engine.step(ahead=ahead).ids[0] for _ in range(10)]
        engine.params = SamplingParams(temperature=1.5, top_k=5, top_p=0.9)
        ids += [engine.step(ahead=ahead).ids[0] for _ in range(10)]
        engine.rules = RuleSet(eos="mask", soft={"repeat"})
        return ids + [engine.step(ahead=ahead).ids[0] for _ in range(10)]

    assert run(True) == run(False)


def test_switching_rules_off_and_on_stays_legal():
    engine = make_engine(seed=5)
    drawn(engine, 40)
    engine.rules = RuleSet(grammar=False, eos="mask")
    drawn(engine, 10)
    engine.rules = ENDLESS
    drawn(engine, 100)
    names = [VOCAB.name(token) for token in drawn(engine, 100)]
    beats = [int(name[5:]) for name in names if name.startswith("BEAT_")]
    assert len(beats) > 3
    assert all(after == before % 4 + 1 for before, after in itertools.pairwise(beats))


def test_prefill_after_drawing_goes_on():
    """Feeding an engine's own ids back in pieces leaves it where drawing them did."""
    whole, parts = make_engine(seed=8), make_engine(seed=8)
    ids = drawn(whole, 70)
    parts.prefill(ids[:33])
    parts.prefill(ids[33:])
    assert drawn(parts, 30) == drawn(whole, 30)


def test_prefill_forgets_what_was_enqueued_ahead():
    one, other = make_engine(seed=8), make_engine(seed=8)
    next_ids = [VOCAB[name] for name in ["VOICE_1", "OCT_5", "DEG_1", "Dur_240"]]
    one.step()
    other.step(ahead=False)
    one.prefill(next_ids)
    other.prefill(next_ids)
    assert drawn(one, 20) == drawn(other, 20)


def test_candidates_end_on_their_own():
    """Rows that end early leave the others as they are alone."""
    engine = make_engine(rules=RuleSet(), seed=0)
    def stop(ids):
        return VOCAB.name(ids[-1]) == "BEAT_2"

    found = candidates(engine, 12, 150, stop, seeds=range(12))
    assert {"eos", "stop"} <= {candidate.ended for candidate in found}
    assert len({len(candidate.ids) for candidate in found}) > 3
    assert engine.position == len(PROMPT)
    for seed, candidate in enumerate(found):
        alone = make_engine(rules=RuleSet(), seed=seed)
        assert [token for token, _ in alone.generate(150, stop)] == candidate.ids
        assert len(candidate.logprobs) == len(candidate.ids)


def test_generate_ends_at_eos():
    ids = drawn(make_engine(rules=RuleSet(), seed=3), 2000)
    assert VOCAB.name(ids[-1]) == "EOS" and VOCAB["EOS"] not in ids[:-1]


def test_asked_to_end_it_ends_well():
    """With the lowest voice, on the first or the third beat."""
    ended = [found for found in candidates(make_engine(rules=RuleSet(eos="ask")), 8, 600) if found.ended]
    assert len(ended) > 2
    for found in ended:
        names = [VOCAB.name(token) for token in found.ids]
        assert [name for name in names if name.startswith("VOICE_")][-1] == "VOICE_4"
        assert [name for name in ["BEAT_1", *names] if name.startswith(("BEAT_", "TimeShift_"))][-1] in (
            "BEAT_1", "BEAT_3")


def test_stop_after_bars_counts_drawn_bars():
    (found,) = candidates(make_engine(seed=4), 1, 400, stop_after_bars(VOCAB, 2))
    names = [VOCAB.name(token) for token in found.ids]
    assert found.ended == "stop" and names.count("BAR") == 3 and names[-1] == "BAR"


def test_greedy_repeats():
    params = SamplingParams(temperature=0)
    assert drawn(make_engine(params=params, seed=1), 60) == drawn(make_engine(params=params, seed=2), 60)


@pytest.mark.parametrize("call, message", [
    (lambda e: e.prefill([]), "at least one id"), (lambda e: e.prefill([999]), "999"),
    (lambda e: e.rewind(500), "rewind 500"), (lambda e: e.fork(0), "fork"),
    (lambda e: e.fork(2, seeds=[1]), "fork"), (lambda e: e.fork(2).fork(2), "fork"),
    (lambda e: candidates(e, 2, 0), "max_tokens 0"), (lambda e: e.fork(2).prefill([1]), "2 rows"),
    (lambda e: e.fork(2).decoder, "2 rows"), (lambda e: Engine(MODEL, VOCAB).step(), "prefill"),
    (lambda e: EngineOptions(slack=0), "slack 0")])
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_engine())
