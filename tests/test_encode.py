"""Piece -> ids, against upstream's own ids and by hand."""

from __future__ import annotations

import json

import pytest

from mlxgen.music.encode import encode
from mlxgen.music.piece import Piece
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab


def golden_pieces(shared):
    return json.loads((shared / "golden" / "tokenization.json").read_text())


def golden_piece(row) -> Piece:
    return Piece(row["voices"], Key(row["key_root"], row["key_mode"]), tuple(row["time_signature"]))


@pytest.mark.parametrize("kind, file", [("scale_degree", "tokenizer_scale_degree_125.json"),
                                        ("absolute", "tokenizer_absolute_159.json")])
def test_ids_are_upstreams_ids(shared, kind, file):
    vocab = Vocab.load(shared / "golden" / file)
    for row in golden_pieces(shared):
        ids = encode(golden_piece(row), vocab, Conditioning(**row["args"]))
        assert ids == row[kind]["tokens"], row["source"]
