"""The grammar against its slow twin and real pieces; the soft rules against upstream's own output."""

from __future__ import annotations

import itertools
import json
import random

import mlx.core as mx
import numpy as np
import pytest
from slow_grammar import SlowGrammar
from tiny import TRIPLETS, make_vocab

from mlxgen.music.decode import Decoder
from mlxgen.music.encode import encode
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning, make_prefix, make_prompt
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context, read_context
from mlxgen.sampling.grammar import make_grammar
from mlxgen.sampling.registers import START_REGISTER, next_state
from mlxgen.sampling.rules import UPSTREAM_RULES, RuleSet, make_rules
from mlxgen.sampling.soft import (
    START,
    advance_soft,
    advance_soft_row,
    apply_soft,
    make_soft_tables,
)

CONTEXTS = [
    Context(Key(0, "major"), (4, 4), "chorale", 4),
    Context(Key(11, "minor"), (3, 4), "fugue", 4),
    Context(Key(6, "major"), (6, 8), "sinfonia", 3),
    Context(Key(3, "minor"), (2, 2), "quartet", 4),
    Context(Key(9, "minor"), (3, 8), "2-part", 2),
    Context(Key(5, "major"), (2, 4), "trio_sonata", 3),
    Context(Key(2, "minor"), (3, 4), "chorale", 4, sequential=True),
    Context(Key(7, "major"), (6, 8), "invention", 2, sequential=True),
]


def allowed_ids(grammar, place, register):
    register = mx.array([[register]], dtype=mx.int64)
    allowed = grammar.layout.pass_gates(mx.array(grammar.gates[place])[None], register)
    return set(np.flatnonzero(np.array(allowed)[0]).tolist())


def logits_after(rules, row):
    """What the rules make of equal logits at one place: (1, V)."""
    equal = mx.zeros((1, len(rules.vocab)))
    return rules.apply(equal, rules.make_state([row]), rules.make_arrays(row.context))


def rejected(ids, vocab, ranges):
    """Places in `ids` where the grammar forbids what is written, from the first id after the prefix."""
    grammar = make_grammar(vocab, read_context(ids, vocab), ranges)
    place, register, places = grammar.start, START_REGISTER, []
    after_prefix = False
    for index, token in enumerate(ids):
        after_prefix = after_prefix or vocab.name(token) in ("BAR", "VOICE_1")
        if after_prefix and token not in allowed_ids(grammar, place, register):
            places.append(index)
        move = int(grammar.moves[place, token])
        place, register = next_state(move), grammar.layout.advance(register, move)
    return places


VOCABS = {"scale_degree": make_vocab(), "absolute": make_vocab("absolute"),
          "triplets": make_vocab(more=TRIPLETS)}


@pytest.mark.parametrize("kind", VOCABS)
@pytest.mark.parametrize("context", CONTEXTS, ids=lambda c: f"{c.form}-{c.meter}-{c.sequential}")
def test_automaton_equals_slow_twin(kind, context):
    vocab = VOCABS[kind]
    grammar, slow = make_grammar(vocab, context), SlowGrammar(vocab, context)
    choose = random.Random(f"{kind}{context}")
    place, register, sounded = grammar.start, START_REGISTER, 0
    for step in range(1500):
        allowed = allowed_ids(grammar, place, register)
        assert {vocab.name(token) for token in allowed} == slow.allowed(), step
        assert allowed, "a state without a way out"
        names = [vocab.name(token) for token in sorted(allowed) if vocab.name(token) != "EOS"]
        if not names:  # the last voice of a sequential piece, or EOS alone
            break
        # mostly notes, seldom marks: otherwise a random walk hardly ever fills the voices
        weights = [0.02 if name[:3] in ("SUB", "CAD") or name == "VOICE_SEP" else 1.0 for name in names]
        name = choose.choices(names, weights)[0]
        move = int(grammar.moves[place, vocab[name]])
        place, register = next_state(move), grammar.layout.advance(register, move)
        slow.feed(name)
        sounded += name.startswith("Dur_")
    assert sounded > 60


def test_what_the_twin_must_catch():
    """A planted fault: a grammar of another meter is not mistaken for the twin's."""
    vocab = make_vocab()
    grammar = make_grammar(vocab, Context(meter=(3, 4)))
    slow = SlowGrammar(vocab, Context(meter=(4, 4)))
    place, register = grammar.start, START_REGISTER
    differs = False
    for name in ["BAR", "BEAT_1", *["TimeShift_480", "BEAT_2", "TimeShift_480", "BEAT_3", "TimeShift_480"]]:
        move = int(grammar.moves[place, vocab[name]])
        place, register = next_state(move), grammar.layout.advance(register, move)
        slow.feed(name)
        differs |= {vocab.name(t) for t in allowed_ids(grammar, place, register)} != slow.allowed()
    assert differs


@pytest.mark.parametrize("kind", VOCABS)
def test_a_random_piece_is_legal_music(kind):
    """No voice overlaps itself, ranges hold, bars add up: judged by the decoder, not by the grammar."""
    vocab = VOCABS[kind]
    rules = make_rules(vocab, RuleSet(eos="mask"))
    ids = make_prompt(Conditioning(form="chorale", meter=(3, 4)), Key(7, "minor"), vocab)
    (row,) = rules.scan(ids)
    state, arrays = rules.make_state([row]), rules.make_arrays(row.context)
    decoder = Decoder(vocab)
    for token in ids:
        decoder.feed(token)
    keys = mx.random.split(mx.random.key(5), 800)
    bars = []
    for key in keys:
        logits = rules.apply(3 * mx.random.normal((1, len(vocab)), key=key), state, arrays)
        drawn = mx.argmax(logits, axis=-1, keepdims=True).astype(mx.int32)
        state = rules.advance(state, drawn, arrays)
        decoder.feed(drawn.item())
        if vocab.name(drawn.item()) == "BAR":
            bars.append(decoder.now_ticks)
    assert len(bars) > 5 and bars == [1440 * number for number in range(1, len(bars) + 1)]
    piece = decoder.piece()
    for voice, (low, high) in zip(piece.voices, ((59, 81), (52, 76), (47, 71), (36, 64)), strict=True):
        assert len(voice) > 5
        assert all(low <= note.pitch <= high for note in voice)
        assert all(a.end_ticks <= b.start_ticks for a, b in itertools.pairwise(voice))


@pytest.mark.parametrize("more", [(), TRIPLETS], ids=["32nds", "triplets"])
def test_device_registers_equal_plain_integers(more):
    vocab = make_vocab(more=more)
    grammar = make_grammar(vocab, CONTEXTS[0])
    layout = grammar.layout
    assert grammar.gates.dtype == layout.gate_type and layout.bits == (8 if more else 6)
    choose = random.Random(3)
    place, registers = grammar.start, [START_REGISTER] * 3
    for _ in range(400):  # any ids, allowed or not
        moves = [int(grammar.moves[place, choose.randrange(len(vocab))]) for _ in registers]
        device = layout.advance(mx.array([[r] for r in registers], dtype=mx.int64),
                                mx.array([[m] for m in moves], dtype=mx.int64))
        registers = [layout.advance(r, m) for r, m in zip(registers, moves, strict=True)]
        assert device.squeeze(-1).tolist() == registers
        gates = [grammar.gates[place].tolist()] * 3
        assert layout.pass_gates(mx.array(np.array(gates, layout.gate_type)), device).tolist() == [
            [layout.passes(gate, register) for gate in row]
            for row, register in zip(gates, registers, strict=True)]
        place = next_state(moves[0])


def piece_of(voices, meter=(4, 4)):
    return Piece([[Note(*note) for note in voice] for voice in voices], Key(0, "major"), meter)


@pytest.mark.parametrize("encoding", ["interleaved", "sequential"])
@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
def test_encoded_pieces_are_accepted(kind, encoding):
    vocab = make_vocab(kind)
    piece = piece_of([[(0, 480, 72), (480, 180, 74), (660, 60, 76), (720, 1200, 77), (2400, 960, 72)],
                      [(240, 1440, 60), (1680, 240, 59), (1920, 1920, 60)]], (3, 4))
    ids = encode(piece, vocab, Conditioning(form="2-part", encoding=encoding))
    assert rejected(ids, vocab, ranges=True) == []


def test_faults_are_rejected():
    vocab = make_vocab()
    ids = make_prefix(Conditioning(form="2-part", meter=(4, 4)), Key(0, "major"), vocab)

    def first_fault(text):
        names = text.split()
        places = rejected(ids + [vocab[name] for name in names], vocab, ranges=True)
        return names[places[0] - len(ids)] if places else None

    note = "OCT_5 DEG_1 Dur_480"
    bar = "BAR BEAT_1"
    assert first_fault(f"{bar} VOICE_1 {note} TimeShift_480 BEAT_2 VOICE_1 {note} EOS") is None
    assert first_fault(f"{bar} VOICE_1 {note} VOICE_1") == "VOICE_1"  # twice at one instant
    assert first_fault(f"{bar} VOICE_2 OCT_4 DEG_1 Dur_480 VOICE_1") == "VOICE_1"  # voices ascend
    assert first_fault(f"{bar} VOICE_1 {note} TimeShift_240 VOICE_1") == "VOICE_1"  # still sounding
    assert first_fault(f"{bar} TimeShift_720") == "TimeShift_720"  # over a beat
    assert first_fault(f"{bar} TimeShift_480 TimeShift_240") == "TimeShift_240"  # BEAT_2 left out
    assert first_fault(f"{bar} TimeShift_480 BEAT_3") == "BEAT_3"
    assert first_fault(f"{bar} TimeShift_120 TimeShift_240") == "TimeShift_240"  # the encoder would write 360
    assert first_fault(f"{bar} VOICE_3") == "VOICE_3"  # two voices
    assert first_fault(f"{bar} VOICE_1 OCT_7 DEG_5") == "DEG_5"  # out of range
    assert first_fault(f"{bar} VOICE_1 OCT_3") == "OCT_3"
    assert first_fault(f"{bar} VOICE_1 OCT_5 FLAT") == "FLAT"  # the encoder writes sharps
    assert first_fault(f"{bar} VOICE_1 OCT_5 SHARP DEG_3") == "DEG_3"  # E sharp is F
    assert first_fault(f"{bar} EOS") == "EOS"  # before any note
    assert first_fault(f"{bar} FORM_FUGUE") == "FORM_FUGUE"
    assert first_fault(f"{bar} CAD_PAC") == "CAD_PAC"
    assert first_fault(f"{bar} SUBJECT_START TimeShift_240") == "TimeShift_240"
    assert first_fault(f"{bar} VOICE_1 {note} SUBJECT_END") == "SUBJECT_END"  # none is open
    assert first_fault(f"{bar} SUBJECT_START VOICE_1 {note} SUBJECT_END EOS") is None


def test_found_again_after_what_the_grammar_cannot_follow():
    """Triplets rounded by the encoder push the clock off the grid; the next BEAT sets it right."""
    vocab = make_vocab()
    names = "BAR BEAT_1 VOICE_1 OCT_5 DEG_1 Dur_180 TimeShift_120 TimeShift_60 VOICE_1 OCT_5 DEG_2 Dur_180 " \
            "TimeShift_120 TimeShift_60 VOICE_1 OCT_5 DEG_3 Dur_180 TimeShift_120 TimeShift_60 BEAT_2 " \
            "VOICE_1 OCT_5 DEG_1 Dur_480 TimeShift_480 BEAT_3 TimeShift_480 BEAT_4 TimeShift_480 BAR BEAT_1"
    ids = [vocab[name] for name in names.split()]
    found_again = names.split().index("BEAT_2")
    assert max(rejected(ids, vocab, ranges=False)) == found_again


def test_end_policies():
    vocab = make_vocab()
    names = "BAR BEAT_1 VOICE_1 OCT_5 DEG_1 Dur_480"
    later = "TimeShift_480 BEAT_2 VOICE_1 OCT_5 DEG_1 Dur_240 VOICE_2 OCT_4 DEG_1 Dur_240"
    prefix = make_prefix(Conditioning(form="2-part", meter=(3, 4)), Key(0, "major"), vocab)

    def end_logit(text, eos):
        rules = make_rules(vocab, RuleSet(eos=eos))
        (row,) = rules.scan(prefix + [vocab[name] for name in text.split()])
        return logits_after(rules, row)[0, vocab["EOS"]].item()

    bass = f"{names} VOICE_2 OCT_4 DEG_1 Dur_480"
    assert end_logit(names, "allow") == 0 and end_logit(bass, "allow") == 0
    assert end_logit(bass, "mask") == -np.inf
    assert end_logit(names, "ask") == -np.inf  # the lowest voice has not come
    assert end_logit(bass, "ask") > 5
    assert end_logit(f"{bass} {later}", "ask") == -np.inf  # the second of three beats
    assert end_logit(f"{bass} {later}", "allow") == 0


def test_key_change_inside_is_followed():
    """A KEY id fed inside changes the pitches that may follow and keeps the place in the bar."""
    vocab = make_vocab()
    rules = make_rules(vocab, RuleSet())
    prompt = make_prompt(Conditioning(form="chorale"), Key(0, "major"), vocab)
    (before,) = rules.scan([*prompt, vocab["VOICE_1"], vocab["OCT_5"], vocab["DEG_1"], vocab["Dur_480"]])
    (after,) = rules.scan([vocab["KEY_E_major"]], before)
    assert after.context.key == Key(4, "major") and after.context.form == "chorale"
    assert (after.place, after.register) == (before.place, before.register)


def test_bias_moves_logits_and_nothing_else():
    vocab = make_vocab()
    offset = ((vocab["TimeShift_240"], -1.5),)
    plain, biased = (make_rules(vocab, RuleSet(bias=bias)) for bias in ((), offset))
    (row,) = plain.scan(make_prompt(Conditioning(form="fugue"), Key(0, "major"), vocab))
    shift = np.array(logits_after(biased, row) - logits_after(plain, row))[0]
    assert np.flatnonzero(np.nan_to_num(shift)).tolist() == [vocab["TimeShift_240"]]
    assert plain.key == biased.key
    with pytest.raises(ValueError, match="id 999"):
        make_rules(vocab, RuleSet(bias=((999, 1.0),)))


def test_unknown_rules_are_named():
    with pytest.raises(ValueError, match="swing"):
        RuleSet(soft={"swing"})
    with pytest.raises(ValueError, match="never"):
        RuleSet(eos="never")


def on_device(memory):
    recent, state = memory
    return mx.array([[recent]], dtype=mx.int64), mx.array([[state]], dtype=mx.int32)


def test_soft_rules_never_empty_the_grammar():
    """Upstream's narrow ranges against a wide grammar: what the grammar allows stays."""
    vocab = make_vocab()
    rules = make_rules(vocab, RuleSet(ranges=False, soft=UPSTREAM_RULES))
    ids = make_prompt(Conditioning(form="quartet"), Key(0, "major"), vocab)
    ids += [vocab["VOICE_3"], vocab["OCT_7"]]  # upstream masks every degree up there
    (row,) = rules.scan(ids)
    logits = logits_after(rules, row)
    assert mx.max(logits).item() > -np.inf


def test_soft_rules_on_hand_computed_case():
    vocab = make_vocab()
    tables = make_soft_tables(vocab, Context(form="fugue", voices=4))
    memory = START
    note = ["OCT_5", "DEG_1", "Dur_240"]
    for name in ["BAR", "BEAT_1", "VOICE_1", *note, "VOICE_2", *note]:
        memory = advance_soft_row(memory, vocab[name], vocab)
    out = apply_soft(mx.zeros((1, len(vocab))), *on_device(memory), tables)[0]
    assert out[vocab["VOICE_1"]].item() == pytest.approx(-0.25)  # two attacks
    assert out[vocab["VOICE_3"]].item() == pytest.approx(1.25)  # two attacks, and it has not sounded
    assert out[vocab["Dur_240"]].item() == -1 and out[vocab["SHARP"]].item() == -1
    assert out[vocab["EOS"]].item() == -np.inf
    alone = make_soft_tables(vocab, Context(form="fugue", voices=4), frozenset({"repeat"}))
    only = apply_soft(mx.zeros((1, len(vocab))), *on_device(memory), alone)[0]
    assert np.flatnonzero(np.array(only)).tolist() == [vocab["Dur_240"]]


def test_soft_rules_equal_upstream(shared):
    """Masked ids and shifts, step by step, through plain memory and through device memory."""
    vocab = Vocab.load(shared / "golden" / "tokenizer_scale_degree_125.json")
    cases = json.loads((shared / "golden" / "constraints.json").read_text())
    assert len(cases) == 3
    for case in cases:
        tables = make_soft_tables(vocab, Context(Key(case["key_root"], case["key_mode"]), form=case["form"],
                                                 voices=case["num_voices"]))
        steps = {step["t"]: step for step in case["steps"]}
        memory, device = START, on_device(START)
        for place, token in enumerate(case["tokens"]):
            if place in steps:
                out = np.array(apply_soft(mx.zeros((1, len(vocab))), *device, tables))[0]
                assert np.flatnonzero(np.isinf(out)).tolist() == steps[place]["masked"]
                shifts = {str(i): round(float(out[i]), 4) for i in np.flatnonzero(out) if np.isfinite(out[i])}
                assert shifts == pytest.approx(steps[place]["delta"], abs=1e-4)
            memory = advance_soft_row(memory, token, vocab)
            device = advance_soft(*device, mx.array([[token]]), tables)
            assert tuple(part.item() for part in device) == memory


@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
def test_upstream_pieces_are_accepted(shared, kind):
    """Every golden piece but one: a quartet whose triplets upstream rounds off the grid."""
    name = {"scale_degree": "tokenizer_scale_degree_125", "absolute": "tokenizer_absolute_159"}[kind]
    vocab = Vocab.load(shared / "golden" / f"{name}.json")
    pieces = json.loads((shared / "golden" / "tokenization.json").read_text())
    counts = {piece["source"]: len(rejected(piece[kind]["tokens"], vocab, ranges=False)) for piece in pieces}
    assert {source: count for source, count in counts.items() if count} == {"haydn/opus74no1/movement3": 52}


def test_chorales_are_accepted(shared):
    """Exceptions are durations rounded up to the nearest bin, over the same voice's next attack."""
    vocab = make_vocab()
    chorales = json.loads((shared / "corpus" / "Jsb16thSeparated.json").read_text())["valid"]
    ids_read = faults = 0
    for chorale in chorales:
        voices = [[] for _ in range(4)]
        for step, row in enumerate(chorale):
            for voice, pitch in zip(voices, row, strict=True):
                if voice and step and voice[-1][2] == pitch:
                    voice[-1][1] += 120
                elif pitch > 0:
                    voice.append([step * 120, 120, int(pitch)])
        ids = encode(piece_of(voices), vocab, Conditioning(form="chorale"))
        ids_read += len(ids)
        faults += len(rejected(ids, vocab, ranges=True))
    assert ids_read > 50_000 and faults / ids_read < 0.0005
