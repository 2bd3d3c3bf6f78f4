"""The rule about the home key: by hand, and what it leaves alone."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest
from test_motion import prompt_of, walk
from tiny import make_vocab

from mlxgen.music.decode import decode
from mlxgen.music.encode import pitch_ids
from mlxgen.music.theory import Key
from mlxgen.sampling import home
from mlxgen.sampling.rules import RuleSet, make_rules


def added(vocab, form, key, ids):
    """{name: what the rule adds to it} after the prompt and these ids."""
    plain, rules = (make_rules(vocab, RuleSet(grammar=False, soft=soft)) for soft in ((), ("home",)))
    (row,) = rules.scan([*prompt_of(form, (4, 4), key, vocab), *ids])
    zeros = mx.zeros((1, len(vocab)))
    shift = rules.apply(zeros, rules.make_state([row]), rules.make_arrays(row.context))
    shift = shift - plain.apply(zeros, (), plain.make_arrays(row.context))
    return {vocab.name(token): value for token, value in enumerate(shift[0].tolist()) if value}


def log_ratio(form, mode, semitones):
    real, drawn = (shares[semitones] for shares in home.SHARES[form, mode])
    return min(math.log(real / max(drawn, home.LEAST)), home.MOST)


@pytest.mark.parametrize("key", [Key(0, "major"), Key(9, "minor")], ids=str)
@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
def test_by_hand(kind, key):
    """Every pitch from the tonic up, in any key, as its share says; its octave, length, voice not."""
    vocab = make_vocab(kind)
    for semitones in range(12):
        *before, last = pitch_ids(60 + key.root + semitones, key, vocab)
        moved = added(vocab, "fugue", key, [vocab["VOICE_2"], *before])
        expected = log_ratio("fugue", key.mode, semitones)
        assert moved.get(vocab.name(last), 0.0) == pytest.approx(expected, abs=0.01)
        assert not any(name.startswith(("OCT", "Dur", "VOICE")) for name in moved)


def test_a_sign_counts_as_all_that_it_alters():
    vocab, key = make_vocab(), Key(2, "minor")
    moved = added(vocab, "fugue", key, [vocab["VOICE_1"], vocab["OCT_5"]])
    real, drawn = (sum(max(shares[at], home.LEAST) for at in home.ALTERED["minor"])
                   for shares in home.SHARES["fugue", "minor"])
    assert moved["SHARP"] == pytest.approx(math.log(real / drawn), abs=0.01)


@pytest.mark.parametrize("form, mode", [("motet", "minor"), ("chorale", "minor")])
def test_other_forms_are_left_alone(form, mode):
    vocab = make_vocab()
    assert added(vocab, form, Key(0, mode), [vocab["VOICE_1"], vocab["OCT_5"]]) == {}


def test_leading_tones_come_oftener_in_random_music():
    vocab, key, shares = make_vocab(), Key(7, "major"), []
    prompt = prompt_of("fugue", (4, 4), key, vocab)
    for soft in ((), ("home",)):
        rules = make_rules(vocab, RuleSet(eos="mask", soft=soft, bias=((vocab["SUBJECT_START"], -40.0),)))
        rows, _ = walk(rules, prompt, 1500, range(4), peak=1.0)
        classes = [(note.pitch - key.root) % 12 for ids in rows
                   for voice in decode([*prompt, *ids], vocab).voices for note in voice]
        shares.append([np.mean([one == wanted for one in classes]) for wanted in (10, 11)])
    assert shares[1][0] < 0.7 * shares[0][0] and shares[1][1] > 1.15 * shares[0][1]
