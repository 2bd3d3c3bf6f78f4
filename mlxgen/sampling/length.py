"""Pieces as long as their prompt says: bars are counted, ends come neither too early nor far too late."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context
from mlxgen.sampling.grammar import Grammar

PRESS = 2.0  # logits for every bar from the last that the prompt allows


class LengthTables(NamedTuple):
    end: mx.array  # (1, V) bool: EOS
    bar: mx.array  # the id of BAR
    fewest: mx.array  # bars
    most: mx.array
    ends_well: mx.array  # (S,) 1.0 in the grammar's states in which a piece may end well, else 0.0


def make_length_tables(vocab: Vocab, context: Context, grammar: Grammar) -> LengthTables:
    fewest, most = context.length_bars
    end = vocab["EOS"]
    return LengthTables(mx.arange(len(vocab))[None] == end, mx.array(vocab["BAR"], dtype=mx.int32),
                        mx.array(fewest, dtype=mx.int32), mx.array(most, dtype=mx.int32),
                        mx.array((grammar.gates_ask[:, end] != 0).astype("float32")))


def apply_length(logits: mx.array, bars: mx.array, place: mx.array, tables: LengthTables) -> mx.array:
    """(B, V) logits, (B, 1) bars begun and (B,) grammar states -> (B, V): EOS banned, free or pressed."""
    over = mx.maximum(bars - tables.most + 1, 0) * PRESS
    push = mx.where(bars < tables.fewest, -mx.inf, over * mx.take(tables.ends_well, place)[:, None])
    return logits + mx.where(tables.end, push, 0.0)
