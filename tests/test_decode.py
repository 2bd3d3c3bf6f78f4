"""ids -> notes: incremental, rewindable, and equal to what upstream reads."""

from __future__ import annotations

import json

import pytest

from mlxgen.music.decode import decode
from mlxgen.music.vocab import Vocab


@pytest.mark.parametrize("kind, file", [("scale_degree", "tokenizer_scale_degree_125.json"),
                                        ("absolute", "tokenizer_absolute_159.json")])
def test_decoded_is_what_upstream_reads(shared, kind, file):
    vocab = Vocab.load(shared / "golden" / file)
    for row in json.loads((shared / "golden" / "tokenization.json").read_text()):
        piece = decode(row[kind]["tokens"], vocab)
        expected = row[kind]["decoded"]
        assert [[list(note) for note in voice] for voice in piece.voices] == expected["voices"], row["source"]
        assert piece.key == (expected["key_root"], expected["key_mode"])
