"""Conditioning and prompts."""

from __future__ import annotations

import pytest
from vocabs import make_vocab

from mlxgen.music.prompt import (
    VOICES_OF_FORM,
    Conditioning,
    length_name,
    make_prefix,
    make_prompt,
    parse_meter,
    voices_of,
)
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

D_MAJOR = Key(2, "major")


def names(ids, which="scale_degree_125"):
    return [make_vocab(which).name(token) for token in ids]


def test_a_full_prefix_stands_in_upstreams_order():
    said = Conditioning(
        form="fugue",
        style="baroque",
        length_bars=40,
        meter="3/4",
        texture="polyphonic",
        imitation="high",
        harmonic_rhythm="fast",
        harmonic_tension="low",
        chromaticism="moderate",
        encoding="interleaved",
    )
    assert names(make_prefix(said, Key(1, "minor"), make_vocab())) == [
        "BOS",
        "STYLE_BAROQUE",
        "FORM_FUGUE",
        "MODE_FUGUE",
        "LENGTH_LONG",
        "METER_3_4",
        "TEXTURE_POLYPHONIC",
        "IMITATION_HIGH",
        "HARMONIC_RHYTHM_FAST",
        "HARMONIC_TENSION_LOW",
        "CHROMATICISM_MODERATE",
        "ENCODE_INTERLEAVED",
        "KEY_Cs_minor",
    ]


def test_what_is_not_said_is_left_out_of_a_prefix():
    assert names(make_prefix(Conditioning(form="quartet"), D_MAJOR, make_vocab())) == [
        "BOS",
        "FORM_QUARTET",
        "MODE_4PART",
        "KEY_D_major",
    ]


def test_a_prompt_fills_in_upstreams_defaults_and_opens_the_bar():
    assert names(make_prompt(Conditioning(form="chorale"), D_MAJOR, make_vocab())) == [
        "BOS",
        "STYLE_BACH",
        "FORM_CHORALE",
        "MODE_4PART",
        "LENGTH_SHORT",
        "METER_4_4",
        "TEXTURE_HOMOPHONIC",
        "IMITATION_NONE",
        "HARMONIC_RHYTHM_MODERATE",
        "HARMONIC_TENSION_MODERATE",
        "CHROMATICISM_LOW",
        "ENCODE_INTERLEAVED",
        "KEY_D_major",
        "BAR",
        "BEAT_1",
    ]
    assert names(make_prompt(Conditioning(form="fugue", chromaticism="low"), D_MAJOR, make_vocab())) == [
        "BOS",
        "STYLE_BACH",
        "FORM_FUGUE",
        "MODE_FUGUE",
        "LENGTH_LONG",
        "METER_4_4",
        "TEXTURE_POLYPHONIC",
        "IMITATION_HIGH",
        "HARMONIC_TENSION_HIGH",
        "CHROMATICISM_LOW",
        "ENCODE_INTERLEAVED",
        "KEY_D_major",
        "BAR",
        "BEAT_1",
    ]


def test_two_parts_of_no_form_say_only_how_many():
    assert names(make_prefix(Conditioning(form="2-part"), D_MAJOR, make_vocab())) == [
        "BOS",
        "MODE_2PART",
        "KEY_D_major",
    ]


def test_a_sequential_prompt_opens_the_first_voice_before_the_bar():
    ids = make_prompt(Conditioning(form="chorale", encoding="sequential"), D_MAJOR, make_vocab())
    assert names(ids)[-5:] == ["ENCODE_SEQUENTIAL", "KEY_D_major", "VOICE_1", "BAR", "BEAT_1"]


def test_families_that_a_vocabulary_lacks_are_left_out():
    ids = make_prompt(Conditioning(form="chorale"), D_MAJOR, make_vocab("scale_degree_102"))
    assert names(ids, "scale_degree_102") == [
        "BOS",
        "STYLE_BACH",
        "FORM_CHORALE",
        "MODE_4PART",
        "LENGTH_SHORT",
        "METER_4_4",
        "KEY_D_major",
        "BAR",
        "BEAT_1",
    ]


@pytest.mark.parametrize(
    "fields, which, says",
    [
        (dict(style="jazz"), "scale_degree_125", "style 'jazz': this model's vocabulary has bach, baroque"),
        (
            dict(form="sonata"),
            "scale_degree_102",
            "form 'sonata': this model's vocabulary has chorale, invention",
        ),
        (dict(meter=(5, 4)), "scale_degree_125", "meter '5_4': this model's vocabulary has 2_4, 3_4"),
        (dict(texture="thick"), "scale_degree_125", "has homophonic, polyphonic, mixed"),
        (dict(harmonic_rhythm="wild"), "absolute_159", "has slow, moderate, fast"),
    ],
)
def test_a_value_the_vocabulary_lacks_is_refused_with_what_it_has(fields, which, says):
    with pytest.raises(ValueError) as refusal:
        make_prefix(Conditioning(**fields), D_MAJOR, make_vocab(which))
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    "fields, says",
    [
        (dict(form="waltz"), "form 'waltz': expected one of 2-part, invention"),
        (dict(length_bars=0), "length_bars 0"),
        (dict(meter="waltz"), "meter 'waltz'"),
        (dict(meter=(4, 3)), "meter (4, 3)"),
        (dict(meter="3/4/4"), "'3/4/4'"),
        (dict(encoding="both"), "'both'"),
    ],
)
def test_impossible_conditioning_is_refused_at_once(fields, says):
    with pytest.raises(ValueError) as refusal:
        Conditioning(**fields)
    assert says in str(refusal.value)


def test_a_key_without_a_token_lists_those_there_are():
    data_names = [name for name in make_vocab().names if name != "KEY_D_major"]
    vocab = Vocab(
        {
            "tokenizer_type": "scale_degree",
            "config": {},
            "token_to_name": {str(token): name for token, name in enumerate(data_names)},
        }
    )
    with pytest.raises(ValueError, match=r"key 'D major': .* C major, C minor, Db major, C# minor"):
        make_prefix(Conditioning(), D_MAJOR, vocab)


@pytest.mark.parametrize(
    "meter, pair",
    [("3/4", (3, 4)), ("3_4", (3, 4)), ("alla_breve", (2, 2)), ("Alla breve", (2, 2)), ([6, 8], (6, 8))],
)
def test_meters_are_read_in_every_writing(meter, pair):
    assert parse_meter(meter) == pair
    assert Conditioning(meter=meter).meter == pair


@pytest.mark.parametrize(
    "bars, name",
    [
        (1, "short"),
        (16, "short"),
        (17, "medium"),
        (32, "medium"),
        (33, "long"),
        (64, "long"),
        (65, "extended"),
        (1000, "extended"),
    ],
)
def test_length_buckets(bars, name):
    assert length_name(bars) == name


def test_every_form_says_how_many_voices():
    assert {form: voices_of(form) for form in VOICES_OF_FORM} == {
        "2-part": 2,
        "invention": 2,
        "sinfonia": 3,
        "trio_sonata": 3,
        "chorale": 4,
        "quartet": 4,
        "sonata": 4,
        "fugue": 4,
        "motet": 4,
    }
    for form in VOICES_OF_FORM:
        assert Conditioning(form=form).with_defaults().voices == voices_of(form)
        make_prompt(Conditioning(form=form), D_MAJOR, make_vocab())
