"""What may follow: grammar, ranges and upstream's soft rules. (First form.)"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from mlxgen.music.vocab import Vocab

EOS_POLICIES = ("allow", "mask", "ask")
SOFT_RULES = ("chromatic", "repeat", "pattern", "lockstep", "coverage", "separator")


@dataclass(frozen=True)
class RuleSet:
    """Which rules hold. `soft` is a set of names from SOFT_RULES.

    eos: "allow" lets a piece end where one can end, "mask" never, "ask" presses for an end.
    """

    grammar: bool = True
    ranges: bool = True
    soft: frozenset[str] = frozenset()
    eos: str = "allow"

    def __post_init__(self):
        object.__setattr__(self, "soft", frozenset(self.soft))
        unknown = self.soft - set(SOFT_RULES)
        if unknown:
            raise ValueError(f"soft rules {sorted(unknown)}: expected some of {', '.join(SOFT_RULES)}")
        if self.eos not in EOS_POLICIES:
            raise ValueError(f"eos {self.eos!r}: expected one of {', '.join(EOS_POLICIES)}")


class Rules:
    """Rules of one vocabulary. The state is a tuple of small arrays, one row a candidate."""

    def __init__(self, vocab: Vocab, ruleset: RuleSet):
        self.ruleset = ruleset
        forbidden = [vocab[name] for name in ("PAD", "BOS") if name in vocab]
        forbidden += [vocab["EOS"]] if ruleset.eos == "mask" else []
        self._mask = mx.array([-mx.inf if token in forbidden else 0.0 for token in range(len(vocab))])

    def scan(self, ids, before: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
        """The state after each id, as plain ints, from the state `before` (None: nothing read yet)."""
        return [() for _ in ids]

    def make_state(self, rows: list[tuple[int, ...]]) -> tuple[mx.array, ...]:
        """States of B rows as plain ints -> arrays of (B, 1)."""
        return tuple(mx.array(column, dtype=mx.int32)[:, None] for column in zip(*rows, strict=True))

    def make_tables(self, state: tuple[int, ...]) -> tuple[mx.array, ...]:
        """The device tables for the key, meter, form and encoding that `state` was reached in."""
        return (self._mask,)


def make_rules(vocab: Vocab, ruleset: RuleSet) -> Rules:
    return Rules(vocab, ruleset)


def apply_rules(logits: mx.array, state: tuple[mx.array, ...], tables: tuple[mx.array, ...]) -> mx.array:
    """(B, V) raw logits -> (B, V), forbidden ids at -inf."""
    return logits + tables[0]


def advance_rules(state: tuple[mx.array, ...], ids: mx.array,
                  tables: tuple[mx.array, ...]) -> tuple[mx.array, ...]:
    """The state after one more id a row; ids (B, 1)."""
    return state
