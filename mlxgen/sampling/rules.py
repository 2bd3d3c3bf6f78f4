"""What may follow: the hard grammar with voice ranges, and soft rules, upstream's and ours, on raw logits.

Everything a step needs is arrays: tables of the context (key, meter, form, way of writing, all read from the
prefix ids), and a state of a few integers a row. Applying and advancing never ask the host for an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.answers import (
    START_ENTRIES,
    START_SUBJECT,
    AnswerTables,
    advance_answers,
    advance_answers_row,
    apply_answers,
    asks_for_answers,
    make_answer_tables,
)
from mlxgen.sampling.character import character_bias
from mlxgen.sampling.context import Context, read_context
from mlxgen.sampling.grammar import make_grammar
from mlxgen.sampling.length import LengthTables, apply_length, make_length_tables
from mlxgen.sampling.lookup import look_up, look_up_row, make_table
from mlxgen.sampling.motion import (
    MOTION_RULES,
    START_LANES,
    LaneTables,
    advance_lanes,
    advance_lanes_row,
    apply_motion,
    lane_facts,
    make_lane_tables,
)
from mlxgen.sampling.pace import (
    PaceTables,
    advance_pace,
    advance_pace_row,
    apply_pace,
    asks_for_pace,
    counted_facts,
    make_pace_tables,
    start_values,
)
from mlxgen.sampling.registers import START_REGISTER, layout_of, next_state
from mlxgen.sampling.soft import (
    START,
    UPSTREAM_RULES,
    SoftTables,
    advance_soft,
    advance_soft_row,
    apply_soft,
    make_soft_tables,
)

EOS_POLICIES = ("allow", "mask", "ask", "length")
EOS_ASK_BIAS = 8.0  # logits: an end that may come, comes
OUR_RULES = (*MOTION_RULES, "answers", "character", "pace")
SOFT_RULES = (*UPSTREAM_RULES, *OUR_RULES)
# what may stand for several names
RULE_GROUPS = {"none": frozenset(), "upstream": frozenset(UPSTREAM_RULES), "ours": frozenset(OUR_RULES),
               "all": frozenset(SOFT_RULES)}


def soft_rules(text: str) -> frozenset[str]:
    """'all', 'none', 'upstream,parallels' or 'repeat,pattern' -> names. ValueError for an unknown one."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    names = frozenset().union(*(RULE_GROUPS.get(word, {word}) for word in words))
    unknown = names - frozenset(SOFT_RULES)
    if unknown:
        raise ValueError(f"soft rules {sorted(unknown)}: expected some of {', '.join(SOFT_RULES)}, or "
                         f"{', '.join(RULE_GROUPS)}")
    return names


@dataclass(frozen=True)
class RuleSet:
    """Which rules hold.

    grammar: only ids that can follow, measures add up, no voice overlaps itself. ranges: the grammar's
    pitches are those of each voice. soft: names out of SOFT_RULES.
    eos: "allow" an end after any note; "mask" it for ever; "ask" for one: it is pressed for, and comes
    with the lowest voice on the first or the middle beat of a bar; "length": none before the fewest bars of
    the prompt's LENGTH_, hardly one that is no close, and a close is pressed for in the last quarter of them.
    bias: (id, offset) pairs added to the logits; another bias compiles nothing anew.
    """

    grammar: bool = True
    ranges: bool = True
    soft: frozenset[str] = frozenset()
    eos: str = "allow"
    bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "soft", frozenset(self.soft))
        unknown = self.soft - frozenset(SOFT_RULES)
        if unknown:
            raise ValueError(f"soft rules {sorted(unknown)}: expected some of {', '.join(SOFT_RULES)}")
        if self.eos not in EOS_POLICIES:
            raise ValueError(f"eos {self.eos!r}: expected one of {', '.join(EOS_POLICIES)}")
        if self.eos == "length" and not self.grammar:
            raise ValueError("eos 'length': expected grammar True, which knows where a piece may end")


@dataclass(frozen=True)
class RowState:
    """Where one row stands, in plain integers: enough to go on from, or to make arrays of."""

    context: Context
    place: int  # the grammar's state
    register: int
    recent: int  # of upstream's rules
    memory: int
    lanes: tuple[int, ...]  # of the rules about motion
    entries: int  # of the rule about answers
    subject: tuple[int, ...]
    bars: int  # bars begun
    values: tuple[int, ...]  # of the rule about pace


class Rules:
    """A rule set over one vocabulary.

    `arrays` given to `apply` and `advance` are those of `make_arrays`; a state is a tuple of arrays, a row a
    candidate: place (B, 1) int32 and register (B, 1) int64 of the grammar, recent (B, 1) int64 and memory
    (B, 1) int32 of upstream's rules, lanes (B, 4) int32, entries (B, 1) int64 and subject (B, NOTES) int32 of
    ours, bars (B, 1) int32, values (B, V) int32, each only where such rules hold.
    """

    def __init__(self, vocab: Vocab, ruleset: RuleSet):
        self.vocab, self.ruleset, self._layout = vocab, ruleset, layout_of(vocab)
        self._upstream = ruleset.soft & frozenset(UPSTREAM_RULES)
        self._motion = ruleset.soft & frozenset(MOTION_RULES)
        answers, pace = "answers" in ruleset.soft, "pace" in ruleset.soft
        bias = [0.0] * len(vocab)
        for name in ("PAD", "BOS"):
            if name in vocab and ruleset.grammar:
                bias[vocab[name]] = -mx.inf
        bias[vocab["EOS"]] = {"mask": -mx.inf, "ask": EOS_ASK_BIAS}.get(ruleset.eos, 0.0)
        for token, offset in ruleset.bias:
            if not 0 <= token < len(vocab):
                raise ValueError(f"bias: id {token}; expected 0 to {len(vocab) - 1}")
            bias[token] += offset
        self._bias = bias  # (V,)
        self._tables: dict[Context, tuple] = {}
        counts = ruleset.eos == "length"
        kept = {"place": ruleset.grammar, "register": ruleset.grammar, "recent": bool(self._upstream),
                "memory": bool(self._upstream), "lanes": bool(self._motion) or answers or counts or pace,
                "entries": answers, "subject": answers, "bars": counts, "values": pace}
        self._parts = tuple(name for name, needed in kept.items() if needed)

    @property
    def key(self) -> tuple:
        """What a compiled step depends on besides arrays and shapes."""
        return self.ruleset.grammar, self.ruleset.soft, self.ruleset.eos == "length"

    # on the host: reading a context

    def scan(self, ids: Sequence[int], before: RowState | None = None, keep: int = 1) -> list[RowState]:
        """The states after each of the last `keep` of `ids`, starting from `before` (None: a new piece).

        The key, meter, form and encoding named anywhere in `ids` hold for all of them.
        """
        context = read_context(ids, self.vocab, before.context if before else None)
        moves = make_grammar(self.vocab, context, self.ruleset.ranges).moves
        row = self._carry_over(before, context) if before else self.begin(context)
        states = []
        for index, token in enumerate(ids):
            row = self._follow(row, token, int(moves[row.place, token]))
            if len(ids) - index <= keep:
                states.append(row)
        return states

    def _follow(self, row: RowState, token: int, move: int) -> RowState:
        fact = lane_facts(self.vocab, row.context)[token]
        entries, subject, values = row.entries, row.subject, row.values
        if asks_for_answers(row.context):
            entries, subject = advance_answers_row(entries, subject, token, row.lanes, fact)
        if asks_for_pace(row.context):
            values = advance_pace_row(values, token, fact, counted_facts(row.context.form))
        return RowState(row.context, next_state(move), self._layout.advance(row.register, move),
                        *advance_soft_row((row.recent, row.memory), token, self.vocab),
                        advance_lanes_row(row.lanes, fact), entries, subject,
                        row.bars + (token == self.vocab["BAR"]), values)

    def begin(self, context: Context) -> RowState:
        """Before the first id."""
        grammar = make_grammar(self.vocab, context, self.ruleset.ranges)
        return RowState(context, grammar.start, START_REGISTER, *START, START_LANES, START_ENTRIES,
                        START_SUBJECT, 0, start_values(self.vocab, context.form))

    def _carry_over(self, before: RowState, context: Context) -> RowState:
        """The same place under another context; where the tables differ in shape, the start of a bar."""
        old = make_grammar(self.vocab, before.context, self.ruleset.ranges)
        new = make_grammar(self.vocab, context, self.ruleset.ranges)
        if before.context.form != context.form:
            before = replace(before, values=start_values(self.vocab, context.form))
        if old.moves.shape == new.moves.shape:
            return replace(before, context=context)
        return replace(before, context=context, place=new.start, register=START_REGISTER)

    def make_state(self, rows: Iterable[RowState]) -> tuple[mx.array, ...]:
        rows = list(rows)
        make = {"place": lambda: mx.array([[row.place] for row in rows], dtype=mx.int32),
                "register": lambda: mx.array([[row.register] for row in rows], dtype=mx.int64),
                "recent": lambda: mx.array([[row.recent] for row in rows], dtype=mx.int64),
                "memory": lambda: mx.array([[row.memory] for row in rows], dtype=mx.int32),
                "lanes": lambda: mx.array([row.lanes for row in rows], dtype=mx.int32),
                "entries": lambda: mx.array([[row.entries] for row in rows], dtype=mx.int64),
                "subject": lambda: mx.array([row.subject for row in rows], dtype=mx.int32),
                "bars": lambda: mx.array([[row.bars] for row in rows], dtype=mx.int32),
                "values": lambda: mx.array([row.values for row in rows], dtype=mx.int32)}
        return tuple(make[name]() for name in self._parts)

    def read_state(self, state: tuple[mx.array, ...], context: Context, row: int = 0) -> RowState:
        """A row of arrays as plain integers; a part that no rule kept stands at its beginning."""
        kept = {name: array[row].tolist() for name, array in zip(self._parts, state, strict=True)}
        for name in ("place", "register", "recent", "memory", "entries", "bars"):
            if name in kept:
                (kept[name],) = kept[name]
        for name in ("lanes", "subject", "values"):
            if name in kept:
                kept[name] = tuple(kept[name])
        return replace(self.begin(context), **kept)

    # on the device

    def make_arrays(self, context: Context) -> tuple:
        """Tables for `apply` and `advance`, for one context; kept for the next call."""
        if context not in self._tables:
            base = context.for_tables()
            parts = self.make_arrays(base)[1:] if base != context else self._make_parts(context)
            bias = np.array([self._bias], dtype=np.float32)  # (1, V)
            if "character" in self.ruleset.soft:
                bias += character_bias(self.vocab, context)
            self._tables[context] = (mx.array(bias), *parts)
        return self._tables[context]

    def _make_parts(self, context: Context) -> tuple:
        grammar = make_grammar(self.vocab, context, self.ruleset.ranges)
        ask, answers, pace = self.ruleset.eos == "ask", asks_for_answers(context), asks_for_pace(context)
        make = {"place": lambda: make_table(grammar.gates_ask if ask else grammar.gates),
                "register": lambda: make_table(grammar.moves),
                "recent": lambda: (),
                "memory": lambda: make_soft_tables(self.vocab, context, self._upstream),
                "lanes": lambda: make_lane_tables(self.vocab, context, self._motion),
                "entries": lambda: make_answer_tables(self.vocab, context) if answers else (),
                "subject": lambda: (),
                "bars": lambda: make_length_tables(self.vocab, context, grammar),
                "values": lambda: make_pace_tables(self.vocab, context) if pace else ()}
        return tuple(make[name]() for name in self._parts)

    def apply(self, logits: mx.array, state: tuple[mx.array, ...], arrays: tuple) -> mx.array:
        """(B, V) raw logits -> (B, V), forbidden ids at -inf. Pure."""
        return self._add(logits + arrays[0], state, arrays)

    def weigh(self, state: tuple[mx.array, ...], arrays: tuple) -> mx.array:
        """What `apply` adds: (B, V), or (1, V) where it depends on nothing. It does not need the logits, so
        that it can be worked out while the model is busy; with them it takes a kernel or two fewer."""
        return self._add(arrays[0], state, arrays)

    def _add(self, allowed: mx.array, state: tuple[mx.array, ...], arrays: tuple) -> mx.array:
        held, tables = self._named(state), self._named(arrays[1:])
        if self._motion:
            allowed = apply_motion(allowed, held["lanes"], LaneTables(*tables["lanes"]))
        if tables.get("entries"):
            allowed = apply_answers(allowed, held["entries"], held["subject"],
                                    AnswerTables(*tables["entries"]))
        if tables.get("values"):
            allowed = apply_pace(allowed, held["values"], PaceTables(*tables["values"]))
        if "bars" in held:
            allowed = apply_length(allowed, held["bars"], held["place"], held["register"],
                                   held["lanes"], LengthTables(*tables["bars"]), self._layout)
        if "place" in held:
            gates = look_up_row(tables["place"], held["place"], len(self.vocab))
            allowed = mx.where(self._layout.pass_gates(gates, held["register"]), allowed, -mx.inf)
        if "memory" in held:
            softened = apply_soft(allowed, held["recent"], held["memory"], SoftTables(*tables["memory"]))
            if "place" in held:  # what the grammar leaves is never taken away altogether
                empty = mx.max(softened, axis=-1, keepdims=True) == -mx.inf
                softened = mx.where(empty, allowed, softened)
            return softened
        return allowed

    def advance(self, state: tuple[mx.array, ...], ids: mx.array, arrays: tuple) -> tuple[mx.array, ...]:
        """The state after one more id a row; ids (B, 1). Pure."""
        held, tables = self._named(state), self._named(arrays[1:])
        if "place" in held:
            move = look_up(tables["register"], held["place"] * len(self.vocab) + ids)  # (B, 1)
            held["place"] = next_state(move).astype(mx.int32)
            held["register"] = self._layout.advance(held["register"], move)
        if "memory" in held:
            held["recent"], held["memory"] = advance_soft(held["recent"], held["memory"], ids,
                                                          SoftTables(*tables["memory"]))
        if tables.get("entries"):
            held["entries"], held["subject"] = advance_answers(
                held["entries"], held["subject"], ids, held["lanes"], LaneTables(*tables["lanes"]).facts,
                AnswerTables(*tables["entries"]))
        if tables.get("values"):
            held["values"] = advance_pace(held["values"], ids, LaneTables(*tables["lanes"]).facts,
                                          PaceTables(*tables["values"]))
        if "lanes" in held:
            held["lanes"] = advance_lanes(held["lanes"], ids, LaneTables(*tables["lanes"]))
        if "bars" in held:
            held["bars"] = held["bars"] + (ids == LengthTables(*tables["bars"]).bar)
        return tuple(held.values())

    def _named(self, parts: Iterable) -> dict:
        return dict(zip(self._parts, parts, strict=True))


def make_rules(vocab: Vocab, ruleset: RuleSet) -> Rules:
    return Rules(vocab, ruleset)
