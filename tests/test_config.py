"""ModelConfig refuses what cannot be and keeps what config.json says."""

from __future__ import annotations

import pytest
from tiny_models import make_config

from mlxgen.model.config import ModelConfig


def test_round_trip_and_foreign_keys():
    config = make_config("pope-drope")
    data = config.to_dict() | {"format": "mlxgen-1", "dtype": "float16", "generation": {"temperature": 0.9}}
    assert ModelConfig.from_dict(data) == config


def test_training_length_defaults_to_the_longest_sequence():
    assert make_config("pope-mha", max_seq_len=512).train_seq_len == 512
    assert make_config("pope-mha", max_seq_len=512, train_seq_len=128).train_seq_len == 128


@pytest.mark.parametrize("change, named", [
    ({"vocab_size": 0}, "vocab_size"), ({"num_layers": 1.5}, "num_layers"),
    ({"embed_dim": 30}, "embed_dim 30"), ({"num_kv_heads": 3}, "num_kv_heads 3"),
    ({"pos_encoding": "alibi"}, "alibi"), ({"rope_theta": 0}, "rope_theta"),
    ({"embed_dim": 12, "pos_encoding": "rope"}, "odd"), ({"ffn_dim": True}, "ffn_dim"),
])
def test_impossible_values_are_named(change, named):
    with pytest.raises(ValueError, match=named):
        make_config("pope-mha", **change)


def test_missing_fields_are_named():
    data = make_config("pope-mha").to_dict()
    del data["ffn_dim"]
    with pytest.raises(ValueError, match="ffn_dim"):
        ModelConfig.from_dict(data)
