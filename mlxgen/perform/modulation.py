"""Modulation: from a bar line on the music is in another key.

What was played is spelled again in the new key (the same pitches, other degrees) and read into an engine of
its own, a block at a time between other work, and that engine draws its first notes too. Only when all this
is there does the old music give way, so a machine that is too slow plays on in the old key, says so, and goes
on reading for the next bar line.
"""

from __future__ import annotations

from dataclasses import replace

from mlxgen.music.encode import reencode
from mlxgen.music.prompt import make_prefix
from mlxgen.music.theory import Key
from mlxgen.perform.context import READ_IDS, Prepared
from mlxgen.perform.pace import CAUTION, SPARE_S
from mlxgen.perform.shared import Position

ASKED_S = 0.3       # a bar line nearer than this is left as it is
LEAD_S = 0.5        # the old music gives way so long before the line, not sooner: till then it can be turned
LEAST_IDS = 100     # of history; where there is no time for so many, another bar line is taken
OPENING_IDS = 21    # take half a beat at least, in nine of ten of 387 new keys; 15 in a half of them
MOST_IDS = 64       # drawn before the old music gives way
SHARE = 0.5         # of the time that is left is planned: a machine that slows down to a half is in time


class Modulation:
    """To `key` at `tick`, a bar line. `work(position)` until `done`."""

    def __init__(self, session, key: Key, position: Position):
        self.session, self.key, self.done = session, key, False
        self._prepared: Prepared | None = None
        self._made_of: tuple = ()           # what it depends on, as it was when the history was spelled
        self._read = 0                      # ids that the engine has read
        self._drawn: list[int] = []         # and drawn after these
        self.tick = self._reachable_line(position, self._unread())
        if self.tick > session.next_bar(position, ASKED_S):
            session.sink.say(f"{key.name}: no time before this bar line, {self._place()}")

    @property
    def needed_tick(self) -> int:
        """The old music is drawn so far first: it is what sounds if there is too little time."""
        return self.tick + self.session.beat

    def work(self, position: Position) -> bool:
        """Do a small piece of it. False when there is nothing to do now."""
        session = self.session
        if session.context.now_ticks < self.needed_tick:
            return False
        left_s = (self.tick - position.tick) / session.rate(position) - SPARE_S
        if left_s > 0 and self._made_of != self._stands_on():
            self._spell(left_s)
        if left_s <= 0 or left_s < self._missing_s() or self.tick < session.protected_tick:
            self._plan_again(position)
        elif self._unread():
            self._read_block()
        elif not self._has_opening():
            self._draw()
        elif left_s <= LEAD_S:
            self._take_over()
        else:
            return False
        return True

    def _plan_again(self, position: Position) -> None:
        """It was too slow, or a theme is stated there: for the next bar line the reading goes on, or begins
        with less where that is less to read; which may even be in time for this one.
        """
        before = self.tick
        if self._read and self._unread() > self.session.context.pinned + LEAST_IDS:
            self._prepared, self._made_of, self._read, self._drawn = None, (), 0, []
        self.tick = self._reachable_line(position, self._unread())
        if self.tick != before:
            self.session.sink.say(
                f"{self.key.name}: not at this bar line, trying the next, {self._place()}")

    def _place(self) -> str:
        return f"from bar {self.tick // self.session.bar + 1} on"

    def _reachable_line(self, position: Position, ids: int) -> int:
        """The first bar line before which so many ids can be read and the first notes drawn, at the present
        speed and with its spread."""
        session, pace = self.session, self.session.pace
        needed_s = SPARE_S + pace.reading_s(-(-ids // READ_IDS), CAUTION) + pace.steps_s(OPENING_IDS, CAUTION)
        tick = session.next_bar(position, needed_s)
        missing = max(0, tick + session.beat - session.context.now_ticks)
        drawing_s = pace.steps_s(session.context.ids_in(missing), CAUTION)
        return session.next_bar(position, needed_s + drawing_s)

    def _unread(self) -> int:
        """How many ids have to be read yet."""
        if self._prepared is None:
            return self.session.context.pinned + LEAST_IDS
        return len(self._prepared.ids) - self._read

    def _missing_s(self) -> float:
        """How long the rest takes if all goes well."""
        blocks = -(-self._unread() // READ_IDS)
        steps = 0 if self._has_opening() else max(1, OPENING_IDS - len(self._drawn))
        return self.session.pace.reading_s(blocks) + self.session.pace.steps_s(steps)

    def _stands_on(self) -> tuple:
        """Whatever of this changes, the history or what is drawn after it may be another."""
        session = self.session
        return self.tick, session.context.changes, session.conditioning, session.params, session.rules

    def _spell(self, left_s: float) -> None:
        """The history in the new key; of what was read before, the blocks that are still right are kept."""
        session, before = self.session, self._prepared
        self._made_of = self._stands_on()
        start_ticks = None if before is None else before.start_ticks
        reading_s = SHARE * left_s - session.pace.steps_s(OPENING_IDS)
        allowed = session.pace.affordable_blocks(reading_s) * READ_IDS - session.context.pinned
        history, start_ticks = self._history(min(session.settings.history_ids, allowed), start_ticks)
        prefix = make_prefix(session.conditioning, self.key, session.vocab)
        pinned = prefix + (session.themes.pinned_ids(self.key) if history else [])
        if before is None or list(before.pinned) != pinned or not self._keep_blocks([*pinned, *history]):
            self._prepared = session.prepare(self.key, history, start_ticks)
            self._prepared.engine = session.context.open_engine(self._prepared)
            self._read = 0
        else:
            self._prepared = replace(before, history=history, start_ticks=start_ticks)
        self._drawn = []

    def _history(self, most_ids: int, start_ticks: int | None) -> tuple[list[int], int]:
        """(at most `most_ids` in the new key, the first tick); another key may take more accidentals and so
        more ids. What was begun at `start_ticks` begins there again.
        """
        session, allowed = self.session, most_ids
        for _ in range(3):
            history, first_ticks = session.context.history(allowed, self.tick, start_ticks)
            spelled = reencode(history, session.vocab, self.key, session.key)
            if len(spelled) <= most_ids or first_ticks == start_ticks:
                break
            allowed = min(len(history) - 1, len(history) * most_ids // len(spelled))
        return spelled, first_ticks

    def _keep_blocks(self, ids: list[int]) -> bool:
        """Rewind the engine to the last whole block that begins `ids` too. False if it cannot be."""
        had = self._prepared.ids[:self._read]
        same = next((n for n, (old, new) in enumerate(zip(had, ids, strict=False)) if old != new),
                    min(len(had), len(ids)))
        kept = same if same == len(ids) == self._read else same // READ_IDS * READ_IDS
        back = self._read + len(self._drawn) - kept
        if kept < len(self._prepared.pinned) or back > self.session.context.slack:
            return False
        self._prepared.engine.rewind(back)
        self._read = kept
        return True

    def _read_block(self) -> None:
        began_s = self.session.now()
        block = self._prepared.ids[self._read:self._read + READ_IDS]
        self._prepared.engine.prefill(block)
        self._read += len(block)
        self.session.pace.read(self.session.now() - began_s)

    def _has_opening(self) -> bool:
        """The first half beat, after which the rest comes faster than it sounds; or what only the session
        knows how to go on from.
        """
        vocab, drawn = self.session.vocab, self._drawn
        if drawn[-1:] in ([vocab["PAD"]], [vocab["EOS"]]) or len(drawn) >= MOST_IDS:
            return True
        steps = {vocab[f"TimeShift_{ticks}"]: ticks for ticks in vocab.time_shift_bins}
        return sum(steps.get(token, 0) for token in drawn) >= self.session.beat // 2

    def _draw(self) -> None:
        session, engine = self.session, self._prepared.engine
        if not self._drawn:
            engine.params, engine.rules = session.params, session.rules
        began_s = session.now()
        self._drawn += engine.step().ids
        session.pace.stepped(session.now() - began_s)

    def _take_over(self) -> None:
        self.session.rewind_to(self.tick, by="key")
        self.session.adopt(self._prepared, self.key)
        self.session.continue_with(self._drawn)
        self.done = True
