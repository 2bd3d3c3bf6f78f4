"""A session's log, played again: from the ids alone, or drawn anew by the model to see that they are the
same.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace

from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import bar_ticks, beat_ticks
from mlxgen.music.vocab import Vocab
from mlxgen.perform.context import Context, Prepared
from mlxgen.perform.player import Player, PlayerSettings
from mlxgen.perform.playerproc import Spin
from mlxgen.perform.shared import Shared
from mlxgen.perform.velocity import VelocityShape, shape_velocity
from mlxgen.perform.wire import Notes, Order, TimedNote


@dataclass
class Tape:
    """What a session played. `turns` are the player's controls: (tick, name, value)."""

    notes: list[TimedNote] = field(default_factory=list)
    turns: list[tuple[float, str, float]] = field(default_factory=list)
    born: list[int] = field(default_factory=list)   # for each note, which entry of the log it came from
    ids: list[int] = field(default_factory=list)    # of the last context, for a check by eye
    end_ticks: int = 0


class _NoEngine:
    """Stands in for an engine when the ids are in the log."""

    def __init__(self):
        self.waiting: list[int] = []

    def prefill(self, ids) -> None: ...

    def rewind(self, count: int) -> None: ...

    def replace_prefix(self, count: int, ids) -> None: ...

    def step(self):
        return type("Drawn", (), {"ids": [self.waiting.pop(0)]})


class _Replayer:
    """Does the journal's operations on a `Context` and keeps the notes that were not taken back."""

    def __init__(self, vocab: Vocab, entries: list[dict], make_engine: Callable | None):
        self.header, self.vocab = entries[0], vocab
        self._ends = {entry["epoch"]: entry["tick"] for entry in entries if entry.get("op") == "ended"}
        self.meter = Conditioning(**self.header["conditioning"]).meter
        self.bar = bar_ticks(self.meter)
        self.shape = VelocityShape(**self.header["velocity"])
        self.check = make_engine is not None
        self._engine = _NoEngine()
        self.context = Context(
            make_engine or (lambda pinned, seed: self._engine), vocab, lambda entry: None, 4096,
            beat_ticks(self.meter)
        )
        self.tape = Tape()
        self.epoch = 0
        self.offset = 0                     # where the present epoch begins on the tape
        self._taken: list[list[tuple[TimedNote, int]]] = []     # notes of each id of the present context
        self._kept: list[tuple[TimedNote, int]] = []            # of contexts before it, in this epoch
        self._number = 0                                        # of the entry being done

    def do(self, entry: dict) -> None:
        self._number += 1
        method = getattr(self, f"_on_{entry.get('op')}", None)
        if method is not None:
            method(entry)

    def _on_begin(self, entry: dict) -> None:
        self._end_epoch()
        self.epoch = entry["epoch"]

    def _on_reset(self, entry: dict) -> None:
        self._kept += [note for notes in self._taken for note in notes]
        self._taken = []
        wanted = Prepared(**{field.name: entry[field.name] for field in fields(Prepared)
                             if field.name != "engine"})
        self.context.prepare(wanted)
        self.context.adopt(wanted)

    def _on_prefix(self, entry: dict) -> None:
        self.context.replace_prefix(entry["ids"])

    def _on_draw(self, entry: dict) -> None:
        self._engine.waiting = list(entry["ids"])
        for expected in entry["ids"]:
            token, notes = self.context.step()
            if token != expected:
                raise ValueError(f"replay: the model drew id {token}, the log has {expected}, at tick "
                                 f"{self.context.now_ticks}")
            self._take(notes)

    def _on_append(self, entry: dict) -> None:
        self.context.engine.prefill(entry["ids"])
        for token in entry["ids"]:
            notes = self.context.take(token)
            self._take(notes if entry.get("heard", True) else [])

    def _take(self, notes) -> None:
        self._taken.append(
            [
                (TimedNote(*note, voice, shape_velocity(note, voice, self.meter, self.shape)), self._number)
                for voice, note in notes
            ]
        )

    def _on_rewind(self, entry: dict) -> None:
        self.context.take_back(entry["count"])
        del self._taken[len(self._taken) - entry["count"]:]

    def _on_params(self, entry: dict) -> None:
        if self.check:
            params = self.context.engine.params
            self.context.engine.params = replace(params, **{name: entry[name] for name in vars(params)})

    def _on_rules(self, entry: dict) -> None:
        if self.check:
            rules = self.context.engine.rules
            self.context.engine.rules = replace(
                rules, grammar=entry["grammar"], ranges=entry["ranges"], eos=entry["eos"],
                soft=frozenset(entry["soft"]), bias=tuple(tuple(pair) for pair in entry["bias"]))

    def _on_control(self, entry: dict) -> None:
        if entry["name"] == "panic":
            self._end_epoch()
            self.epoch += 1

    def _on_turn(self, entry: dict) -> None:
        if entry["name"] == "tempo" or entry["name"].startswith("mute_"):
            self.tape.turns.append((self.offset + entry["tick"], entry["name"], entry["value"]))

    def _end_epoch(self) -> None:
        """All that sounded of an epoch goes on the tape: up to where the player left it; all that was drawn
        where the log does not say (its writer was killed).
        """
        tick = self._ends.get(self.epoch, math.inf)
        notes = [*self._kept, *(note for notes in self._taken for note in notes)]
        sounded = sorted((note.start_ticks, note.voice, number, note) for note, number in notes
                         if note.start_ticks <= tick)
        self._kept, self._taken = [], []
        end = max((note.start_ticks + note.duration_ticks for *_, note in sounded), default=0)
        if tick < math.inf and sounded:     # cut off; what came after begins at a bar line here
            end = min(end, int(tick // self.bar + 1) * self.bar)
        for *_, number, note in sounded:
            cut = note._replace(start_ticks=note.start_ticks + self.offset,
                                duration_ticks=min(note.duration_ticks, end - note.start_ticks))
            self.tape.notes.append(cut)
            self.tape.born.append(number)
        self.offset += -(-end // self.bar) * self.bar
        self.tape.end_ticks = self.offset


def replay(entries: Iterable[dict], vocab: Vocab, make_engine: Callable | None = None) -> Tape:
    """The notes of a session, at their ticks. With `make_engine` every id is drawn again and compared.

    Raises ValueError where a log has no header, or where the model draws another id than the log has.
    """
    entries = list(entries)
    if not entries or "conditioning" not in entries[0]:
        raise ValueError("the log has no header line; expected one written by mlxgen stream")
    replayer = _Replayer(vocab, entries, make_engine)
    for entry in entries[1:]:
        replayer.do(entry)
    replayer._end_epoch()
    replayer.tape.ids = replayer.context.ids
    return replayer.tape


def play_tape(tape: Tape, port, settings: PlayerSettings, now=time.monotonic) -> None:
    """Play a tape through the same player; returns at its end. Ends every note, also when interrupted."""
    shared = Shared(multiprocessing.get_context("spawn"))
    player, spin, orders = Player(port, shared, settings, now), Spin(), sorted(tape.turns)
    player.handle(Order(0, "flush", (1, 0, 0)))
    player.handle(Notes(1, tape.end_ticks, tuple(tape.notes)))
    player.handle(Order(1, "finish", (tape.end_ticks, 0, 0)))
    mask = 0
    try:
        player.handle(Order(1, "start", (0, 0.1, 0)))
        while player.state != "ended":
            while orders and player.transport.tick_at(now()) >= orders[0][0]:
                _, name, value = orders.pop(0)
                if name == "tempo":
                    player.handle(Order(1, "tempo", (value, 0, 0)))
                else:
                    bit = 1 << int(name[-1]) - 1
                    mask = mask | bit if value else mask & ~bit
                    player.handle(Order(1, "mute", (mask, 0, 0)))
            deadline_s = player.step()
            if orders:
                deadline_s = min(deadline_s, player.transport.time_of(orders[0][0]))
            spin.wait(min(deadline_s, now() + 1.0), [])
    finally:
        player.panic()
