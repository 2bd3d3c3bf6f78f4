"""The rule about note values: what it adds, worked out by hand, and what it does to random music."""

from __future__ import annotations

import math
from collections import Counter

import mlx.core as mx
import pytest
from test_motion import prompt_of, walk
from tiny import make_model, make_vocab

from mlxgen.music.decode import decode
from mlxgen.music.theory import Key
from mlxgen.sampling import pace
from mlxgen.sampling.engine import Engine
from mlxgen.sampling.rules import RuleSet, make_rules

KEY = Key(2, "minor")


def prompt(vocab, form):
    return prompt_of(form, (4, 4), KEY, vocab, imitation="none")


def added(vocab, ids):
    """{name: what the rule adds to it} after these ids."""
    plain, rules = (make_rules(vocab, RuleSet(grammar=False, soft=soft)) for soft in ((), ("pace",)))
    (row,) = rules.scan(ids)
    zeros = mx.zeros((1, len(vocab)))
    with_rule = rules.apply(zeros, rules.make_state([row]), rules.make_arrays(row.context))
    without = plain.apply(zeros, (), plain.make_arrays(row.context))
    return {vocab.name(token): value for token, value in enumerate((with_rule - without)[0].tolist())
            if abs(value) > 1e-3}


@pytest.mark.parametrize("count", [0, 20, 400])
def test_by_hand(count):
    """After `count` sixteenths: each note leaves 31 of 32 parts of what was counted."""
    vocab = make_vocab()
    moved = added(vocab, [*prompt(vocab, "fugue"), *[vocab["Dur_120"]] * count])
    left, gain = (1 - 2**-pace.MEMORY) ** count, pace.GAINS["fugue"]
    for name, share in pace.PACES["fugue"].items():
        heard = max(left * share + (1 - left) * (name == "Dur_120"), 0.01)
        expected = gain * min(max(math.log(max(share, 0.01) / heard), -pace.MOST), pace.MOST)
        assert moved.pop(name, 0.0) == pytest.approx(expected, abs=0.01), name
    for voice in range(1, 5):
        assert moved.pop(f"VOICE_{voice}") == pytest.approx(pace.ATTACKS["fugue"], abs=0.01)
    assert not moved  # no other id, no other value


def test_the_clock_counts_where_its_shares_are_known():
    """Eighths that all voices wait for make steps of sixteenths likelier in fugues; chorales know none."""
    vocab = make_vocab()
    steps = [vocab["TimeShift_240"]] * 20
    fugue = added(vocab, [*prompt(vocab, "fugue"), *steps])
    assert fugue["TimeShift_240"] < -1 and fugue["TimeShift_120"] > 0.3
    assert added(vocab, [*prompt(vocab, "chorale"), *steps]) == {}


def test_other_forms_and_time_move_nothing():
    vocab = make_vocab()
    assert added(vocab, [*prompt(vocab, "motet"), *[vocab["Dur_120"]] * 50]) == {}
    notes = [vocab[name] for name in ("VOICE_1", "OCT_5", "DEG_1", "TimeShift_120", "BAR", "BEAT_1")] * 9
    assert added(vocab, [*prompt(vocab, "chorale"), *notes]) == {}


@pytest.mark.parametrize("form", sorted(pace.PACES))
def test_values_come_as_often_as_wanted(form):
    """A walk that would write hardly anything but one value writes the others too."""
    vocab = make_vocab()
    bias = ((vocab["Dur_120"], 3.0), *((vocab[f"Dur_{ticks}"], -9.0) for ticks in (180, 2880)),
            (vocab["SUBJECT_START"], -40.0))
    shares = []
    for soft in ((), ("pace",)):
        rules = make_rules(vocab, RuleSet(eos="mask", soft=soft, bias=bias))
        rows, _ = walk(rules, prompt(vocab, form), 1500, range(3), peak=1.0)
        notes = Counter(note.duration_ticks for ids in rows
                        for voice in decode([*prompt(vocab, form), *ids], vocab).voices for note in voice)
        shares.append(notes[120] / notes.total())
    assert shares[0] > 0.8 and shares[1] < 0.75, shares


def test_a_new_form_begins_anew():
    vocab = make_vocab()
    rules = make_rules(vocab, RuleSet(soft={"pace"}))
    (before,) = rules.scan([*prompt(vocab, "chorale"), vocab["Dur_120"]])
    (after,) = rules.scan(prompt(vocab, "fugue"), before)
    assert after.values == pace.start_values(vocab, "fugue") != before.values


def test_rewound_ids_come_again():
    vocab = make_vocab()
    engine = Engine(make_model(vocab), vocab, seed=3, rules=RuleSet(eos="mask", soft={"pace", "crossings"}))
    engine.prefill(prompt(vocab, "fugue"))
    ids = [engine.step().ids[0] for _ in range(120)]
    engine.rewind(60)
    assert [engine.step().ids[0] for _ in range(60)] == ids[60:]
    assert sum(vocab.name(token).startswith("Dur_") for token in ids[60:]) > 3
