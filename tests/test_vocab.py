"""Vocabularies: read from a file, and refused with a reason when the file is not one."""

from __future__ import annotations

import json

import pytest
from vocabs import NAMES, make_vocab, vocab_data

from mlxgen.music.vocab import Vocab


@pytest.mark.parametrize("which", NAMES)
def test_built_vocabularies_are_upstreams(shared, which):
    on_file = Vocab.load(shared / "golden" / f"tokenizer_{which}.json")
    assert make_vocab(which).names == on_file.names
    assert make_vocab(which).kind == on_file.kind


def test_a_name_and_its_id_are_two_ways_to_say_one_thing():
    vocab = make_vocab()
    assert len(vocab) == 125
    assert all(vocab[vocab.name(token)] == token for token in range(len(vocab)))
    assert vocab.get("SECTION_A") is None and "SECTION_A" not in vocab
    with pytest.raises(KeyError):
        vocab["SECTION_A"]


def test_voices_are_counted_without_the_separator():
    assert make_vocab("scale_degree_125").max_voices == 4
    assert make_vocab("scale_degree_125", extra=("VOICE_5",)).max_voices == 5


def test_bins_come_from_the_names_in_rising_order():
    data = vocab_data()
    data["token_to_name"]["98"], data["token_to_name"]["99"] = "Dur_120", "Dur_60"
    assert Vocab(data).duration_bins[:2] == (60, 120)


def test_a_saved_vocabulary_reads_back_the_same(tmp_path):
    make_vocab("absolute_159").save(tmp_path / "tokenizer.json")
    again = Vocab.load(tmp_path / "tokenizer.json")
    assert again.names == make_vocab("absolute_159").names
    assert (again.min_pitch, again.max_pitch) == (36, 84)


def without(field):
    return {name: value for name, value in vocab_data().items() if name != field}


def renamed(changes):
    data = vocab_data()
    data["token_to_name"] = {**data["token_to_name"], **changes}
    return data


@pytest.mark.parametrize(
    "data, says",
    [
        (without("tokenizer_type"), "tokenizer_type"),
        (without("token_to_name"), "token_to_name"),
        ({**vocab_data(), "tokenizer_type": "bpe"}, "'bpe'"),
        ({**vocab_data(), "token_to_name": ["PAD"]}, "map ids to names"),
        ({**vocab_data(), "vocab_size": 3}, "vocab_size 3, but 125 names"),
        (renamed({"7": "BAR"}), "share a name"),
        (renamed({"900": "EXTRA"}), "without gaps"),
        (renamed({"2": "END"}), "no token named EOS"),
        (renamed({str(token): f"X_{token}" for token in range(98, 109)}), "no Dur_"),
    ],
)
def test_what_is_not_a_tokenizer_is_refused_with_the_reason(data, says):
    with pytest.raises(ValueError, match=r"file\.json") as refusal:
        Vocab(data, "file.json")
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    "content, says", [("{", "not JSON"), ("[]", "expected a JSON object"), (None, "cannot be read")]
)
def test_unreadable_files_are_named(tmp_path, content, says):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json") as refusal:
        Vocab.load(path)
    assert says in str(refusal.value)


def test_config_that_is_not_numbers_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    data = vocab_data()
    data["config"]["min_pitch"] = "low"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="min_pitch"):
        Vocab.load(path)
