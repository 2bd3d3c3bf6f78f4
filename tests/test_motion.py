"""The rule against parallels and the length of pieces, judged on decoded music, notes counted one by one."""

from __future__ import annotations

import itertools

import mlx.core as mx
import numpy as np
import pytest
from tiny import TRIPLETS, make_vocab

from mlxgen.music.decode import decode
from mlxgen.music.encode import pitch_ids
from mlxgen.music.prompt import LENGTH_BARS, Conditioning, make_prompt
from mlxgen.music.theory import Key, beat_ticks
from mlxgen.sampling import character, length, motion, tessitura
from mlxgen.sampling.rules import SOFT_RULES, UPSTREAM_RULES, RuleSet, make_rules, soft_rules

IDS = 1500
SETTINGS = [("scale_degree", "chorale", (4, 4), Key(0, "major")),
            ("scale_degree", "quartet", (6, 8), Key(11, "minor")),
            ("absolute", "trio_sonata", (3, 4), Key(6, "minor")),
            ("scale_degree", "invention", (4, 4), Key(3, "major"))]


def walk(rules, prompt, count, seeds, peak=2.0):
    """`count` ids a row drawn from random logits under the rules: together, and the states after the last."""
    (row,) = rules.scan(prompt)
    state = tuple(mx.repeat(array, len(seeds), axis=0) for array in rules.make_state([row]))
    arrays, columns = rules.make_arrays(row.context), []
    noise = [np.random.default_rng(seed).normal(0, peak, (count, 1, len(rules.vocab))) for seed in seeds]
    logits = mx.array(np.concatenate(noise, axis=1), dtype=mx.float32)  # (count, rows, V)
    advance = mx.compile(lambda logits, state: _turn(rules, logits, state, arrays))
    for place in range(count):
        drawn, state = advance(logits[place], state)
        columns.append(drawn)
    return mx.concatenate(columns, axis=1).tolist(), state


def in_chords(vocab, meter):
    """A bias under which every voice attacks on every beat."""
    beat = str(beat_ticks(meter))
    voices = tuple((vocab[f"VOICE_{number}"], 100.0 - 20 * number) for number in range(1, 5))
    others = [token for prefix in ("Dur_", "TimeShift_") for ticks, token in vocab.family(prefix).items()
              if ticks != beat]
    return (*voices, *((token, -40.0) for token in (*others, vocab["SUBJECT_START"])))


def _turn(rules, logits, state, arrays):
    drawn = mx.argmax(rules.apply(logits, state, arrays), axis=-1, keepdims=True).astype(mx.int32)
    return drawn, rules.advance(state, drawn, arrays)


def count_parallels(piece):
    """Pairs of voices that attack new pitches together, a perfect interval after the same one."""
    found = 0
    for upper, lower in itertools.combinations(piece.voices, 2):
        for one, other in itertools.product(itertools.pairwise(upper), itertools.pairwise(lower)):
            (a, b), (c, d) = one, other
            touching = a.end_ticks == b.start_ticks == d.start_ticks == c.end_ticks
            moves = a.pitch != b.pitch and c.pitch != d.pitch
            before, after = abs(a.pitch - c.pitch) % 12, abs(b.pitch - d.pitch) % 12
            found += touching and moves and before == after and after in (0, 7)
    return found


def prompt_of(form, meter, key, vocab, **words):
    return make_prompt(Conditioning(form=form, meter=meter, **words), key, vocab)


@pytest.mark.parametrize("kind, form, meter, key", SETTINGS, ids=lambda value: str(value))
def test_parallels_become_rare(kind, form, meter, key, monkeypatch):
    """As a ban: none but where an octave chosen before holds no other degree. Without it many."""
    vocab = make_vocab(kind)
    prompt = prompt_of(form, meter, key, vocab)
    counts = []
    for soft in ((), ("parallels",)):
        monkeypatch.setattr(motion, "PARALLELS", -1000.0)
        rules = make_rules(vocab, RuleSet(eos="mask", soft=soft, bias=in_chords(vocab, meter)))
        rows, _ = walk(rules, prompt, IDS, range(6))
        counts.append(sum(count_parallels(decode([*prompt, *ids], vocab)) for ids in rows))
    assert counts[0] > 15 and counts[1] <= (0 if kind == "absolute" else counts[0] / 5)


def test_hand_computed_case():
    """The bass may not follow the tenor in fifths, nor the soprano in octaves."""
    vocab = make_vocab()
    rules = make_rules(vocab, RuleSet(soft={"parallels"}))
    prompt = prompt_of("chorale", (4, 4), Key(0, "major"), vocab)
    names = ("VOICE_1 OCT_6 DEG_1 Dur_480 VOICE_3 OCT_4 DEG_5 Dur_480 VOICE_4 OCT_4 DEG_1 Dur_480 "
             "TimeShift_480 BEAT_2 "
             "VOICE_1 OCT_6 DEG_2 Dur_480 VOICE_3 OCT_4 DEG_6 Dur_480 VOICE_4 OCT_4")
    (row,) = rules.scan([*prompt, *(vocab[name] for name in names.split())])
    arrays, state = rules.make_arrays(row.context), rules.make_state([row])
    plain = make_rules(vocab, RuleSet())
    logits = mx.zeros((1, len(vocab)))
    unmoved = plain.apply(logits, state[:2], plain.make_arrays(row.context))
    shift = rules.apply(logits, state, arrays) - unmoved
    moved = {vocab.name(token) for token, value in enumerate(shift[0].tolist()) if value == motion.PARALLELS}
    assert moved == {"DEG_2"}  # D: an octave below D again, and a fifth below A again


def crossed_share(piece):
    """Of all notes, those that attack above what a voice named higher sings, or below a lower one's."""
    crossed = total = 0
    for (upper, above), (lower, below) in itertools.permutations(enumerate(piece.voices), 2):
        for note in above:
            other = next((one for one in below if one.start_ticks <= note.start_ticks < one.end_ticks), None)
            total += 1
            crossed += other is not None and (note.pitch - other.pitch) * (lower - upper) < 0
    return crossed / total


@pytest.mark.parametrize("kind, form, meter, key", SETTINGS, ids=lambda value: str(value))
def test_crossings_become_rare(kind, form, meter, key, monkeypatch):
    """As a ban, in random chords: hardly any; where an octave is chosen first, as many as it leaves."""
    vocab, shares = make_vocab(kind), []
    prompt = prompt_of(form, meter, key, vocab)
    monkeypatch.setattr(motion, "CROSSINGS", -1000.0)
    for soft in ((), ("crossings",)):
        rules = make_rules(vocab, RuleSet(eos="mask", soft=soft, bias=in_chords(vocab, meter)))
        rows, _ = walk(rules, prompt, IDS, range(6))
        shares.append(np.mean([crossed_share(decode([*prompt, *ids], vocab)) for ids in rows]))
    assert shares[0] > 0.05 and shares[1] < shares[0] * (0.33 if kind == "absolute" else 0.85)


def count_clashes(piece):
    """Pairs of voices that attack together a semitone apart, in any octave."""
    pairs = ((one, other) for upper, lower in itertools.combinations(piece.voices, 2)
             for one in upper for other in lower if one.start_ticks == other.start_ticks)
    return sum(abs(one.pitch - other.pitch) % 12 in (1, 11) for one, other in pairs)


@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
def test_clashes_become_rare(kind, monkeypatch):
    """As a ban, in random chords: hardly any; a form that has no more than real ones stays as it was."""
    vocab = make_vocab(kind)
    for form in ("chorale", "quartet"):
        monkeypatch.setitem(motion.CLASHES, form, motion.CLASHES.get(form, 0.0) * 1000)
        prompt, counts = prompt_of(form, (4, 4), Key(0, "major"), vocab), []
        for soft in ((), ("clashes",)):
            rules = make_rules(vocab, RuleSet(eos="mask", soft=soft, bias=in_chords(vocab, (4, 4))))
            rows, _ = walk(rules, prompt, 700, range(4))
            counts.append(sum(count_clashes(decode([*prompt, *ids], vocab)) for ids in rows))
        assert counts[0] > 30 and (counts[1] < counts[0] / 5 if form == "chorale" else counts[1] == counts[0])


def count_dissonances(piece):
    """Pairs of voices that attack together a second, a tritone or a seventh apart, and all pairs."""
    pairs = [abs(one.pitch - other.pitch) % 12 for upper, lower in itertools.combinations(piece.voices, 2)
             for one in upper for other in lower if one.start_ticks == other.start_ticks]
    return sum(away in motion.DISSONANCES for away in pairs), len(pairs)


def test_tension_moves_dissonances_where_the_word_is_unusual():
    """In random chords: less, as usual, more; the usual word is as if nothing had been said."""
    vocab, shares = make_vocab(), {}
    rules = make_rules(vocab, RuleSet(eos="mask", soft={"tension"}, bias=in_chords(vocab, (4, 4))))
    for word in ("low", "moderate", None, "high"):
        words = {} if word is None else {"harmonic_tension": word}
        prompt = prompt_of("chorale", (4, 4), Key(0, "major"), vocab, **words)
        rows, _ = walk(rules, prompt, 700, range(4))
        pieces = [decode([*prompt, *ids], vocab) for ids in rows]
        found, pairs = (sum(counts) for counts in zip(*map(count_dissonances, pieces), strict=True))
        assert pairs > 100
        shares[word] = found / pairs
    assert shares["low"] < shares["moderate"] < shares["high"] and shares[None] == shares["moderate"]


@pytest.mark.parametrize("more", [(), TRIPLETS], ids=["32nds", "triplets"])
@pytest.mark.parametrize("soft", [{"parallels"}, set(SOFT_RULES)], ids=["alone", "all"])
def test_carried_state_equals_scan(soft, more):
    """What the device carried along for a row is what a scan of its ids finds; rows do not mix."""
    vocab = make_vocab(more=more)
    rules = make_rules(vocab, RuleSet(eos="length", soft=soft))
    prompt = prompt_of("fugue", (3, 4), Key(7, "minor"), vocab, length_bars=64)
    rows, state = walk(rules, prompt, 300, (3, 4, 5))
    for number, ids in enumerate(rows):
        (row,) = rules.scan([*prompt, *ids])
        kept = rules.read_state(rules.make_state([row]), row.context)
        assert rules.read_state(state, row.context, number) == kept
        assert walk(rules, prompt, 300, (3 + number,))[0] == [ids]
    (begun,) = rules.scan([*prompt, *rows[0][:100]])  # a prefill in two parts
    assert rules.scan(rows[0][100:], begun) == rules.scan([*prompt, *rows[0]])


def test_hard_rules_carry_nothing_for_it():
    vocab = make_vocab()
    (row,) = make_rules(vocab, RuleSet()).scan(prompt_of("chorale", (4, 4), Key(0, "major"), vocab))
    assert len(make_rules(vocab, RuleSet()).make_state([row])) == 2
    assert len(make_rules(vocab, RuleSet(soft={"parallels"})).make_state([row])) == 3


@pytest.mark.parametrize("word", ["short", "medium"])
def test_length_bounds_hold(word):
    """A walk that would end at once ends inside the prompt's bars; one that never would, soon after them."""
    vocab = make_vocab()
    most = LENGTH_BARS[word]
    fewest = 1 if word == "short" else LENGTH_BARS["short"] + 1
    prompt = prompt_of("invention", (2, 4), Key(0, "major"), vocab, length_bars=most)
    last = {"short": 16, "medium": 29}[word]
    for offset, low, high in ((50.0, fewest, fewest), (-6.0, last - last // 4, last + 12)):
        bias = (*in_chords(vocab, (2, 4)), (vocab["EOS"], offset))
        rules = make_rules(vocab, RuleSet(eos="length", bias=bias))
        rows, _ = walk(rules, prompt, 40 * most, (1, 2), peak=1.0)
        for ids in rows:
            assert vocab["EOS"] in ids
            bars = 1 + ids[:ids.index(vocab["EOS"])].count(vocab["BAR"])
            assert low <= bars <= high, (offset, bars)


@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
def test_an_end_is_wanted_on_a_close_alone(kind):
    """A chorale of at most 16 bars, at bar 14: 5-1 in the bass under the leading tone against others."""
    vocab = make_vocab(kind)
    rules, plain = (make_rules(vocab, RuleSet(eos=eos)) for eos in ("length", "allow"))
    prompt = prompt_of("chorale", (4, 4), Key(2, "minor"), vocab, length_bars=16)
    bars = [vocab["BAR"], vocab["BEAT_1"]] * 13  # and the one of the prompt

    def chord(pitches):
        return [token for voice, pitch in enumerate(pitches, start=1)
                for token in (vocab[f"VOICE_{voice}"], *pitch_ids(pitch, Key(2, "minor"), vocab),
                              vocab["Dur_480"])]

    def pushed(ids):
        (row,) = rules.scan([*prompt, *ids])
        zeros, arrays = mx.zeros((1, len(vocab))), rules.make_arrays(row.context)
        with_rule = rules.apply(zeros, rules.make_state([row]), arrays)
        without = plain.apply(zeros, plain.make_state([row]), plain.make_arrays(row.context))
        return {vocab.name(token): value for token, value in enumerate((with_rule - without)[0].tolist())
                if value and value == value}

    def end(before, last, beats=2):
        held = [vocab["TimeShift_480"], vocab[f"BEAT_{beats + 1}"]]
        gap = [name for beat in range(2, beats + 1) for name in ("TimeShift_480", f"BEAT_{beat}")]
        return pushed([*bars, *(vocab[name] for name in gap), *chord(before), *held, *chord(last)])["EOS"]

    tonic, dominant = (74, 69, 65, 50), (73, 69, 64, 45)
    pressed = 3 * length.PRESS / 5
    assert end(dominant, tonic) == pytest.approx(pressed)
    assert end((73, 67, 64, 52), (74, 69, 66, 50)) == pytest.approx(pressed)  # from 2, home in major
    for before, last in ((dominant, (74, 69, 65, 53)), (dominant, (70, 65, 62, 46)),
                         ((74, 67, 62, 43), tonic), ((74, 69, 65, 45), tonic)):
        assert end(before, last) == length.UNFIT
    assert end(dominant, tonic, beats=1) == length.UNFIT  # a weak beat
    drawn = pushed([*bars, *chord(tonic), vocab["TimeShift_480"], vocab["BEAT_2"], *chord(dominant),
                    vocab["TimeShift_480"], vocab["BEAT_3"], *chord(tonic)[:-4], vocab["VOICE_4"],
                    *([vocab["OCT_4"]] if kind == "scale_degree" else [])])
    wanted = {"DEG_1"} if kind == "scale_degree" else {"Pitch_38", "Pitch_50", "Pitch_62"}
    assert {name for name, value in drawn.items() if value == length.HOME} == wanted


def test_no_length_in_the_prompt_is_no_limit():
    vocab = make_vocab()
    prompt = [token for token in prompt_of("chorale", (4, 4), Key(0, "major"), vocab)
              if not vocab.name(token).startswith("LENGTH_")]
    names = ("VOICE_4 OCT_4 DEG_5 Dur_480 TimeShift_480 BEAT_2 TimeShift_480 BEAT_3 "
             "VOICE_1 OCT_6 DEG_1 Dur_480 VOICE_2 OCT_5 DEG_5 Dur_480 VOICE_3 OCT_5 DEG_3 Dur_480 "
             "VOICE_4 OCT_4 DEG_1 Dur_480")
    ids = [*prompt, *([vocab["BAR"], vocab["BEAT_1"]] * 500), *(vocab[name] for name in names.split())]
    for eos in ("allow", "length"):
        rules = make_rules(vocab, RuleSet(eos=eos))
        (row,) = rules.scan(ids)
        arrays = rules.make_arrays(row.context)
        logits = rules.apply(mx.zeros((1, len(vocab))), rules.make_state([row]), arrays)
        assert logits[0, vocab["EOS"]].item() == 0


def test_names_and_groups():
    assert soft_rules("none") == frozenset() and soft_rules("upstream") == frozenset(UPSTREAM_RULES)
    assert soft_rules("all") == frozenset(SOFT_RULES) == soft_rules("upstream,ours")
    assert soft_rules("repeat, parallels") == {"repeat", "parallels"}
    assert soft_rules("upstream,parallels") == {*UPSTREAM_RULES, "parallels"}
    with pytest.raises(ValueError, match=r"parallel'.*parallels.*upstream"):
        soft_rules("parallel")
    with pytest.raises(ValueError, match="grammar"):
        RuleSet(grammar=False, eos="length")


def test_character_moves_voices_and_accidentals_where_the_words_are_unusual():
    """A chorale is homophonic and hardly chromatic: under these words nothing moves."""
    vocab = make_vocab()
    plain, rules = (make_rules(vocab, RuleSet(soft=soft)) for soft in ((), ("character",)))

    def moved(**words):
        (row,) = rules.scan(prompt_of("chorale", (4, 4), Key(0, "major"), vocab, **words))
        values = (rules.make_arrays(row.context)[0] - plain.make_arrays(row.context)[0])[0].tolist()
        return {vocab.name(token): round(value, 3) for token, value in enumerate(values) if abs(value) > 0}

    assert moved() == moved(texture="homophonic", chromaticism="low") == {}
    accidentals = 2 * character.ACCIDENTAL_STEP
    assert moved(chromaticism="high") == {"SHARP": accidentals, "FLAT": accidentals}
    assert moved(texture="mixed") == {f"VOICE_{number}": -character.VOICE_STEP for number in range(1, 5)}


@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
def test_voices_stay_where_they_lie(kind):
    """By hand for one note, and on random music: every voice's mean comes nearer to the form's."""
    vocab, key = make_vocab(kind), Key(2, "minor")
    prompt = prompt_of("chorale", (4, 4), key, vocab)
    rules, plain = (make_rules(vocab, RuleSet(eos="mask", soft=soft)) for soft in (("tessitura",), ()))
    (row,) = rules.scan([*prompt, vocab["VOICE_2"], *pitch_ids(76, key, vocab)[:-1]])
    zeros, high = mx.zeros((1, len(vocab))), 76
    shift = rules.apply(zeros, rules.make_state([row]), rules.make_arrays(row.context))
    mean, spread = tessitura.TESSITURAS["chorale"][1]
    lower = high - 2  # both in the octave from D
    far, near = (min(tessitura.PULL * ((pitch - mean) / spread)**2 / 2, tessitura.MOST)
                 for pitch in (high, lower))
    moved = [shift[0, pitch_ids(pitch, key, vocab)[-1]].item() for pitch in (high, lower)]
    assert moved[1] - moved[0] == pytest.approx(far - near, abs=0.02)
    if kind == "scale_degree":  # a sign counts as what it mostly alters: here the leading tone, in C minor B
        (row,) = rules.scan([*prompt_of("chorale", (4, 4), Key(0, "minor"), vocab), vocab["VOICE_1"],
                             vocab["OCT_5"]])
        shift = rules.apply(zeros, rules.make_state([row]), rules.make_arrays(row.context))
        mean, spread = tessitura.TESSITURAS["chorale"][0]
        assert shift[0, vocab["SHARP"]].item() == pytest.approx(
            -tessitura.PULL * ((71 - mean) / spread)**2 / 2, abs=0.02)
    strays = []
    for one in (plain, rules):
        rows, _ = walk(one, prompt, IDS, range(4), peak=1.0)
        voices = zip(*(decode([*prompt, *ids], vocab).voices for ids in rows), strict=True)
        means = [np.mean([note.pitch for voice in same for note in voice]) for same in voices]
        strays.append([abs(found - usual) for found, (usual, _) in
                       zip(means, tessitura.TESSITURAS["chorale"], strict=True)])
    assert np.mean(strays[1]) < 0.7 * np.mean(strays[0])


@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
def test_a_close_ends_together(kind):
    """The tonic after a dominant: long notes for the highest voice, as long ones for the others, a major
    third; an end only where all voices sound to it."""
    vocab, key = make_vocab(kind), Key(2, "minor")
    rules = make_rules(vocab, RuleSet(grammar=True, ranges=False, eos="length"))
    plain = make_rules(vocab, RuleSet(grammar=True, ranges=False))
    prompt = prompt_of("chorale", (4, 4), key, vocab, length_bars=16)

    def note(voice, pitch, ticks=None):
        return [vocab[f"VOICE_{voice}"], *pitch_ids(pitch, key, vocab),
                *([vocab[f"Dur_{ticks}"]] if ticks else [])]

    def moved(ids):
        (row,) = rules.scan([*prompt, *ids])
        zeros, arrays = mx.zeros((1, len(vocab))), rules.make_arrays(row.context)
        without = plain.apply(zeros, plain.make_state([row]), plain.make_arrays(row.context))
        shift = (rules.apply(zeros, rules.make_state([row]), arrays) - without)[0].tolist()
        return {vocab.name(token): value for token, value in enumerate(shift) if value == value and value}

    bars = [vocab["BAR"], vocab["BEAT_1"], *[vocab["TimeShift_480"], vocab["BEAT_2"]]] * 13
    dominant = [token for voice, pitch in enumerate((73, 69, 64, 45), start=1)
                for token in note(voice, pitch, 480)]
    start = [*bars, *dominant, vocab["TimeShift_480"], vocab["BEAT_3"]]
    first = moved([*start, *note(1, 74)])
    assert first["Dur_240"] == length.BRIEF and first["Dur_960"] == length.BROAD and "Dur_480" not in first
    second = moved([*start, *note(1, 74, 960), *note(2, 69)])
    assert {name: value for name, value in second.items() if name.startswith("Dur_")} == {
        "Dur_960": length.HELD}
    third = moved([*start, *note(1, 74, 960), vocab["VOICE_2"], *pitch_ids(66, key, vocab)[:1]
                   * (kind == "scale_degree")])
    wanted = ["SHARP"] if kind == "scale_degree" else ["Pitch_54", "Pitch_66"]
    assert all(third[name] == length.HOME + length.RAISED for name in wanted)
    chord = [*start, *note(1, 74, 960), *note(2, 69, 960)]
    ends = [moved([*chord, *note(3, 66, ticks), *note(4, 50, 960)])["EOS"] for ticks in (960, 480)]
    assert ends[0] > 0 and ends[1] == length.UNFIT
