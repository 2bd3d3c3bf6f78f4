"""The rule about imitation, judged on decoded music: who enters when, and with what."""

from __future__ import annotations

import mlx.core as mx
import pytest
from test_motion import prompt_of, walk
from tiny import make_vocab

from mlxgen.music.decode import decode
from mlxgen.music.theory import Key
from mlxgen.sampling import answers
from mlxgen.sampling.rules import RuleSet, make_rules

KEY = Key(2, "minor")


def entries_of(ids, prompt, vocab):
    """The voices that sound, in the order of their first notes."""
    piece = decode([*prompt, *ids], vocab)
    return sorted((list(voice) for voice in piece.voices if voice), key=lambda voice: voice[0].start_ticks)


def walks(vocab, word, form="motet", soft=("answers",), rows=4):
    prompt = prompt_of(form, (4, 4), KEY, vocab, imitation=word)
    # behind these some voice must attack, also where the only one that has entered still sounds
    forcing = ["SUBJECT_START", *(f"TimeShift_{ticks}" for ticks in (60, 120, 180, 240, 360))]
    bias = tuple((vocab[name], -40.0) for name in forcing)
    rules = make_rules(vocab, RuleSet(eos="mask", soft=soft, bias=bias))
    return prompt, walk(rules, prompt, 1500, range(rows), peak=1.0)[0]


@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
def test_voices_answer_one_after_another(kind, monkeypatch):
    """Pulled hard: every voice sings the subject's intervals and durations, after the last has sung it."""
    monkeypatch.setattr(answers, "FOLLOW", 30.0)
    monkeypatch.setattr(answers, "WAIT", -30.0)
    answers.make_answer_tables.cache_clear()
    vocab = make_vocab(kind)
    prompt, rows = walks(vocab, "high")
    answered = followed = 0
    for ids in rows:
        lead, *later = entries_of(ids, prompt, vocab)
        subject = lead[:answers.NOTES]
        before = lead
        for number, voice in enumerate(later, start=1):
            assert voice[0].start_ticks >= before[answers.NOTES - 1].start_ticks
            notes = list(zip(voice, subject, strict=False))
            assert all(note.duration_ticks == model.duration_ticks for note, model in notes)
            low, wanted = voice[0].pitch, subject[0].pitch
            followed += sum(note.pitch - low == model.pitch - wanted for note, model in notes)
            followed += (low - wanted) % 12 == 7 * (number % 2)
            answered += len(notes) + 1
            before = voice
        assert len(later) >= 2
    assert followed / answered > 0.5  # a random subject roams: much of it lies outside the others' ranges


def test_only_where_the_prompt_asks():
    vocab = make_vocab()
    for word in ("none", "low"):
        assert walks(vocab, word, rows=1) == walks(vocab, word, soft=(), rows=1)
    assert walks(vocab, "high", rows=1) != walks(vocab, "high", soft=(), rows=1)


def test_a_subject_is_what_was_sung_first():
    """By hand: the second voice is called after ten notes, and bent to the fifth above the first note."""
    vocab = make_vocab()
    rules = make_rules(vocab, RuleSet(soft={"answers"}))
    prompt = prompt_of("fugue", (4, 4), Key(0, "major"), vocab)  # fugues ask for imitation by default
    note = [vocab[name] for name in ("VOICE_2", "OCT_5", "DEG_1", "Dur_240", "TimeShift_240")]
    half = [*note, *note, vocab["BEAT_2"], *note, *note, vocab["BEAT_3"], *note[:-1]]

    def shift(ids):
        (row,) = rules.scan([*prompt, *ids])
        plain = make_rules(vocab, RuleSet())
        state, arrays = rules.make_state([row]), rules.make_arrays(row.context)
        equal = mx.zeros((1, len(vocab)))
        with_rule = rules.apply(equal, state, arrays)
        without = plain.apply(equal, state[:2], plain.make_arrays(row.context))
        values = (with_rule - without)[0].tolist()
        return {vocab.name(token): value for token, value in enumerate(values) if value and value == value}

    assert shift(half) == {f"VOICE_{number}": answers.WAIT for number in (3, 4)}
    whole = [*half, note[-1], *note, vocab["BEAT_4"], *note, *note, vocab["BAR"], vocab["BEAT_1"]]
    whole += [*note, *note[:-1]]
    assert shift(whole) == {f"VOICE_{number}": answers.CALL for number in (3, 4)}
    entry = [*whole, vocab["VOICE_3"], vocab["OCT_4"]]
    assert shift(entry) == {"DEG_5": answers.FOLLOWS_OF_FORM["fugue"]}
    assert shift([*entry, vocab["DEG_5"]]) == {"Dur_240": answers.FOLLOWS_OF_FORM["fugue"]}
