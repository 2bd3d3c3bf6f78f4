"""What may follow: the hard grammar with voice ranges, and upstream's soft rules, on raw logits.

Everything a step needs is arrays: tables of the context (key, meter, form, way of writing, all read from the
prefix ids), and a state of a few integers a row. Applying and advancing never ask the host for an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context, read_context
from mlxgen.sampling.grammar import make_grammar
from mlxgen.sampling.registers import START_REGISTER, advance_register, advance_registers, pass_gates
from mlxgen.sampling.soft import (
    SOFT_RULES,
    START,
    SoftTables,
    advance_soft,
    advance_soft_row,
    apply_soft,
    make_soft_tables,
)

EOS_POLICIES = ("allow", "mask", "ask")
EOS_ASK_BIAS = 8.0  # logits: an end that may come, comes
UPSTREAM_RULES = frozenset(SOFT_RULES)


@dataclass(frozen=True)
class RuleSet:
    """Which rules hold.

    grammar: only ids that can follow, measures add up, no voice overlaps itself. ranges: the grammar's
    pitches are those of each voice. soft: names out of SOFT_RULES (UPSTREAM_RULES is all of them).
    eos: "allow" an end after any note; "mask" it for ever; "ask" for one: it is pressed for, and comes
    with the lowest voice on the first or the middle beat of a bar.
    bias: (id, offset) pairs added to the logits; another bias compiles nothing anew.
    """

    grammar: bool = True
    ranges: bool = True
    soft: frozenset[str] = frozenset()
    eos: str = "allow"
    bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "soft", frozenset(self.soft))
        unknown = self.soft - UPSTREAM_RULES
        if unknown:
            raise ValueError(f"soft rules {sorted(unknown)}: expected some of {', '.join(SOFT_RULES)}")
        if self.eos not in EOS_POLICIES:
            raise ValueError(f"eos {self.eos!r}: expected one of {', '.join(EOS_POLICIES)}")


@dataclass(frozen=True)
class RowState:
    """Where one row stands, in plain integers: enough to go on from, or to make arrays of."""

    context: Context
    place: int  # the grammar's state
    register: int
    memory: tuple[int, ...]


class Rules:
    """A rule set over one vocabulary.

    `arrays` given to `apply` and `advance` are those of `make_arrays`; a state is a tuple of arrays, a row a
    candidate: place (B,) int32 and register (B, 1) int64 of the grammar, memory (B, slots) int32 of the
    soft rules, each only where such rules hold.
    """

    def __init__(self, vocab: Vocab, ruleset: RuleSet):
        self.vocab, self.ruleset = vocab, ruleset
        bias = [0.0] * len(vocab)
        for name in ("PAD", "BOS"):
            if name in vocab and ruleset.grammar:
                bias[vocab[name]] = -mx.inf
        bias[vocab["EOS"]] = {"allow": 0.0, "mask": -mx.inf, "ask": EOS_ASK_BIAS}[ruleset.eos]
        for token, offset in ruleset.bias:
            if not 0 <= token < len(vocab):
                raise ValueError(f"bias: id {token}; expected 0 to {len(vocab) - 1}")
            bias[token] += offset
        self._bias = mx.array([bias])  # (1, V)
        self._tables: dict[Context, tuple] = {}

    @property
    def key(self) -> tuple:
        """What a compiled step depends on besides arrays and shapes."""
        return self.ruleset.grammar, self.ruleset.soft

    # on the host: reading a context

    def scan(self, ids: Sequence[int], before: RowState | None = None, keep: int = 1) -> list[RowState]:
        """The states after each of the last `keep` of `ids`, starting from `before` (None: a new piece).

        The key, meter, form and encoding named anywhere in `ids` hold for all of them.
        """
        context = read_context(ids, self.vocab, before.context if before else None)
        moves = make_grammar(self.vocab, context, self.ruleset.ranges).moves
        place, register, memory = self._carry_over(before, context) if before else self.begin(context)
        states = []
        for index, token in enumerate(ids):
            move = int(moves[place, token])
            place, register = move & 0xFFFF, advance_register(register, move)
            memory = advance_soft_row(memory, token, self.vocab)
            if len(ids) - index <= keep:
                states.append(RowState(context, place, register, memory))
        return states

    def begin(self, context: Context) -> tuple[int, int, tuple[int, ...]]:
        """Place, register and memory before the first id."""
        grammar = make_grammar(self.vocab, context, self.ruleset.ranges)
        return grammar.start, START_REGISTER, START

    def _carry_over(self, before: RowState, context: Context) -> tuple[int, int, tuple[int, ...]]:
        """The same place under another context; where the tables differ in shape, the start of a bar."""
        old = make_grammar(self.vocab, before.context, self.ruleset.ranges)
        new = make_grammar(self.vocab, context, self.ruleset.ranges)
        if old.moves.shape == new.moves.shape:
            return before.place, before.register, before.memory
        return new.start, START_REGISTER, before.memory

    def make_state(self, rows: Iterable[RowState]) -> tuple[mx.array, ...]:
        rows = list(rows)
        state = ()
        if self.ruleset.grammar:
            state += (mx.array([row.place for row in rows], dtype=mx.int32),
                      mx.array([[row.register] for row in rows], dtype=mx.int64))
        if self.ruleset.soft:
            state += (mx.array([row.memory for row in rows], dtype=mx.int32),)
        return state

    def read_state(self, state: tuple[mx.array, ...], context: Context, row: int = 0) -> RowState:
        """A row of arrays as plain integers; a part that no rule kept stands at its beginning."""
        place, register, memory = self.begin(context)
        if self.ruleset.grammar:
            place, register = state[0][row].item(), state[1][row].item()
        if self.ruleset.soft:
            memory = tuple(state[-1][row].tolist())
        return RowState(context, place, register, memory)

    # on the device

    def make_arrays(self, context: Context) -> tuple[mx.array, ...]:
        """Tables for `apply` and `advance`, for one context; kept for the next call."""
        if context not in self._tables:
            arrays: tuple[mx.array, ...] = (self._bias,)
            if self.ruleset.grammar:
                grammar = make_grammar(self.vocab, context, self.ruleset.ranges)
                ask = self.ruleset.eos == "ask"
                arrays += (mx.array(grammar.gates_ask if ask else grammar.gates),
                           mx.array(grammar.moves.reshape(-1)))
            if self.ruleset.soft:
                arrays += make_soft_tables(self.vocab, context)
            self._tables[context] = arrays
        return self._tables[context]

    def apply(self, logits: mx.array, state: tuple[mx.array, ...], arrays: tuple[mx.array, ...]) -> mx.array:
        """(B, V) raw logits -> (B, V), forbidden ids at -inf. Pure."""
        allowed = logits + arrays[0]
        if self.ruleset.grammar:
            gates = mx.take(arrays[1], state[0], axis=0)  # (B, V)
            allowed = mx.where(pass_gates(gates, state[1]), allowed, -mx.inf)
        if self.ruleset.soft:
            softened = apply_soft(allowed, state[-1], self._soft(arrays), self.ruleset.soft)
            if self.ruleset.grammar:  # what the grammar leaves is never taken away altogether
                empty = mx.max(softened, axis=-1, keepdims=True) == -mx.inf
                softened = mx.where(empty, allowed, softened)
            return softened
        return allowed

    def advance(self, state: tuple[mx.array, ...], ids: mx.array,
                arrays: tuple[mx.array, ...]) -> tuple[mx.array, ...]:
        """The state after one more id a row; ids (B, 1). Pure."""
        new: tuple[mx.array, ...] = ()
        if self.ruleset.grammar:
            move = mx.take(arrays[2], state[0][:, None] * len(self.vocab) + ids)  # (B, 1)
            new += ((move & 0xFFFF).astype(mx.int32).squeeze(-1), advance_registers(state[1], move))
        if self.ruleset.soft:
            new += (advance_soft(state[-1], ids, self._soft(arrays)),)
        return new

    def _soft(self, arrays: tuple[mx.array, ...]) -> SoftTables:
        return SoftTables(*arrays[3 if self.ruleset.grammar else 1:])


def make_rules(vocab: Vocab, ruleset: RuleSet) -> Rules:
    return Rules(vocab, ruleset)
