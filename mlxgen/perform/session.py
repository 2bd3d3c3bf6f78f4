"""Session: generates ahead of the playhead, posts notes, and takes back what a control makes stale.

Two zones lie ahead of the playhead. What begins before `committed` will sound. What lies beyond is tentative:
a control rewinds it and it is generated again. No process and no clock in here: the playhead is passed in,
the player is a `sink`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from mlxgen.music.encode import encode_events
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import make_prefix
from mlxgen.music.theory import TICKS_PER_QUARTER, Key, bar_ticks, beat_ticks
from mlxgen.music.vocab import Vocab
from mlxgen.perform.answer import Answer
from mlxgen.perform.context import Context, Prepared, Voiced
from mlxgen.perform.ending import final_chord
from mlxgen.perform.modulation import LEAD_S, Modulation
from mlxgen.perform.pace import Pace
from mlxgen.perform.practice import Practice
from mlxgen.perform.settings import SessionSettings
from mlxgen.perform.shared import Position
from mlxgen.perform.themes import THEME_IDS, ThemeBook
from mlxgen.perform.turns import TURNS
from mlxgen.perform.velocity import shape_velocity
from mlxgen.perform.wire import TimedNote

SEED_STEP = 1_000_003       # between the seeds of one session's contexts
STUCK_IDS = 200             # so many ids without the clock moving, and it is moved


class Session:
    """One performance. `advance(position)` does one small piece of work; `control(name, value, position)` is
    a turn of a knob; `answer.hear` is somebody who plays.
    """

    def __init__(self, make_engine: Callable, vocab: Vocab, settings: SessionSettings, sink,
                 journal: Callable[[dict], None], slack: int = 512, now=time.monotonic):
        self.settings, self.vocab, self.sink, self.now = settings, vocab, sink, now
        self._journal = journal
        self.conditioning = settings.conditioning.with_defaults()
        self.key, self.params, self.rules = settings.key, settings.params, settings.rules
        self.meter = self.conditioning.meter
        self.bar, self.beat = bar_ticks(self.meter), beat_ticks(self.meter)
        self.context = Context(make_engine, vocab, journal, slack, self.beat)
        self.themes = ThemeBook(settings.theme, self.key, self.conditioning.voices, self.meter, vocab)
        self.pace = Pace()
        self._practice = Practice(self)
        self._resets = 0
        self._begin()

    # -- beginnings ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.started = self.finished = False
        self.end_tick = None if self.settings.bars is None else self.settings.bars * self.bar
        self.asked_end_tick: int | None = None
        self.modulation: Modulation | None = None
        self.recall_tick: int | None = None
        self.protected_tick = 0                 # nothing before it is taken back: a theme is being stated
        self._last_pitches: dict[int, int] = {}
        self._posted_tick = 0                   # notes before it have been posted
        self._waiting: list[TimedNote] = []
        self._still_ids = 0                     # drawn since the clock last moved
        self._resting = False                   # the buffer was full, and a beat of it is not played yet
        self.rules = replace(self.settings.rules, bias=self.rules.bias)     # density stays as it is turned
        self.answer = Answer(self, self.settings.listen)
        if self.answer.listening:
            self.begin_context(0, self.key, THEME_IDS)
            return
        opening = [self.vocab["BAR"], *([self.vocab["BEAT_1"]] if "BEAT_1" in self.vocab else [])]
        theme_ids = self.themes.ids(self.key) if self.themes.given else []
        self.begin_context(0, self.key, min(len(theme_ids), THEME_IDS))
        self._emit(self.context.append(theme_ids or opening))
        self.protected_tick = self.context.now_ticks + 1     # its last note may begin there
        if theme_ids:
            self._after_clock()     # it may be longer than what is drawn ahead, and then nothing else is

    def prepare(self, key: Key, history: list[int], start_ticks: int, pin_more: int = 0) -> Prepared:
        """A new context with another seed: positions begin again, and the draws must not."""
        prefix = make_prefix(self.conditioning, key, self.vocab)
        pinned = prefix + (self.themes.pinned_ids(key) if history else [])
        seed = self.settings.seed + SEED_STEP * self._resets
        self._resets += 1
        return Prepared(len(prefix), pinned, history, start_ticks, seed, pin_more)

    def begin_context(self, start_ticks: int, key: Key, pin_more: int) -> None:
        """Nothing but the prefix is remembered; `pin_more` ids that come next will be for ever."""
        prepared = self.prepare(key, [], start_ticks, pin_more)
        self.context.prepare(prepared)
        self.adopt(prepared, key)

    def adopt(self, prepared: Prepared, key: Key) -> None:
        """Go on in the context that was prepared, in `key`."""
        self.context.adopt(prepared)
        self.key, self.prefix_is_stale = key, False
        self.context.set_params(self.params)
        self.context.set_rules(self.rules)

    def restart(self) -> None:
        """Panic: forget the music and begin again from the prefix, with other draws."""
        self.sink.flush()
        self._begin()

    # -- one small piece of work ---------------------------------------------------------------------------

    def advance(self, position: Position) -> bool:
        """Draw one id, or do one thing that was asked for. False when there is nothing to do before the
        playhead has moved."""
        if self.finished or self.answer.listening:
            return self._keep_silent(position)
        if self._do_what_is_due(position) or self._practice.work(position):
            return True
        if not self._wants_more(position):
            return False
        if self.prefix_is_stale:
            self.context.replace_prefix(make_prefix(self.conditioning, self.key, self.vocab))
            self.prefix_is_stale = False
        before, began_s = self.context.now_ticks, self.now()
        self._after_id(*self.context.step(), before)
        self._look_for_the_end()
        self.pace.stepped(self.now() - began_s)
        return True

    def continue_with(self, drawn: list[int]) -> None:
        """The engine that was adopted has drawn these already."""
        self._still_ids = 0
        for token in drawn:
            before = self.context.now_ticks
            self._after_id(token, self.context.drew(token), before)
        self._look_for_the_end()

    def _after_id(self, token: int, notes: Voiced, before: int) -> None:
        """What one id brings; the clock stood at `before`."""
        self._emit(notes)
        if self.context.now_ticks == before:
            self._unstick(token)
        if self.context.now_ticks > before:
            self._still_ids = 0
            self._after_clock()
        if token == self.vocab["EOS"]:
            self._finish(self.context.now_ticks)

    def _keep_silent(self, position: Position) -> bool:
        """While somebody else plays, the rests ahead are ours to say."""
        if self.answer.listening and position.horizon_tick < position.tick + self.bar:
            self.sink.notes(int(position.tick) + 2 * self.bar, [])
        return False

    def _wants_more(self, position: Position) -> bool:
        """Fill the buffer, rest until a beat of it has been played: steps in a row are twice as fast as
        steps that each find the caches cold, and a turn is heard as soon as steps are fast.
        """
        if self.modulation is not None and self.context.now_ticks < self.modulation.needed_tick:
            return self.context.ids_after(position.tick) < self.context.slack - 64
        full = self.settings.buffer_bars * self.bar
        ahead = self.context.now_ticks - position.tick
        if self._resting:
            self._resting = ahead > full - min(self.beat, full / 4)
        elif ahead >= full:
            self._resting = True
        return not self._resting and self.context.ids_after(position.tick) < self.context.slack - 64

    def _do_what_is_due(self, position: Position) -> bool:
        """Changes that wait for a bar line. False when there is nothing to do for them now."""
        if self.modulation is not None and self.modulation.work(position):
            if self.modulation.done:
                self.modulation = None
            return True
        if (self.recall_tick is not None and self.context.now_ticks >= self.recall_tick
                and self.recall_tick - position.tick <= LEAD_S * self.rate(position)):
            self._recall(position)
        return False

    def _recall(self, position: Position) -> None:
        """State the theme at the bar line; at the next one if this one is too near."""
        tick, self.recall_tick = self.recall_tick, None
        if tick < self.committed(position):
            self.recall_tick = self.next_bar(position, self.pace.first_notes_s)
            return
        self.rewind_to(tick, by="recall")
        self._emit(self.context.append(self.themes.next_statement(self.key)))
        self.protected_tick = self.context.now_ticks + 1     # its last note may begin there
        self._after_clock()

    def _after_clock(self) -> None:
        self._post()
        now = self.context.now_ticks
        self.context.forget(2 * self.settings.history_ids)
        if not self.started and now >= min(self.bar, 2 * self.beat):
            self.started = True
            self.sink.start()
        self.themes.settle(now, self.key)

    def _look_for_the_end(self) -> None:
        """Ask for it when it is near, make it when none came."""
        now = self.context.now_ticks
        if self.finished:
            return
        if self.end_tick is not None and self.asked_end_tick is None and now >= self.end_tick - 2 * self.bar:
            self.ask_end(self.end_tick - self.bar)
        if self.asked_end_tick is not None and now >= self.asked_end_tick:
            self._close_by_hand()

    def _unstick(self, token: int) -> None:
        """A model that never moves the clock would keep the player waiting for ever; rules that leave
        nothing to draw give PAD.
        """
        self._still_ids += 1
        if token == self.vocab["PAD"] or self._still_ids >= STUCK_IDS:
            to_beat = self.beat - self.context.now_ticks % self.beat
            step = max((ticks for ticks in self.vocab.time_shift_bins if ticks <= to_beat),
                       default=self.vocab.time_shift_bins[0])
            if token == self.vocab["PAD"]:
                self.context.take_back(1)
            self._emit(self.context.append([self.vocab[f"TimeShift_{step}"]]))

    def _emit(self, notes: Voiced) -> None:
        for voice, note in notes:
            loudness = shape_velocity(note, voice, self.meter, self.settings.velocity)
            self._waiting.append(TimedNote(*note, voice, loudness))
            self._last_pitches[voice] = note.pitch
            self.themes.gather(voice, note)

    def _post(self) -> None:
        """What begins before the clock is complete: hand it on."""
        self.sink.notes(self.context.now_ticks, self._waiting)
        self._posted_tick = max([self.context.now_ticks, *(note.start_ticks + 1 for note in self._waiting)])
        self._waiting = []

    # -- controls ------------------------------------------------------------------------------------------

    def control(self, name: str, value, position: Position) -> None:
        """Apply one control. ValueError for a value that the model does not know; nothing is changed then."""
        if name not in TURNS:
            raise ValueError(f"control {name!r}: expected one of {', '.join(TURNS)}")
        self.context.flush()        # what was drawn before it stands before it
        self._journal({"op": "control", "name": name, "value": value, "playhead": round(position.tick, 1)})
        TURNS[name](self, name, value, position)

    def rate(self, position: Position) -> float:
        """Ticks a second; while the playhead stands, what it may run at."""
        return position.rate or 2.0 * TICKS_PER_QUARTER

    def committed(self, position: Position) -> int:
        """The first tick that may still be changed."""
        ahead = self.pace.first_notes_s * self.rate(position)
        return max(int(position.tick + ahead) + 1, self.protected_tick)

    def next_bar(self, position: Position, least_s: float) -> int:
        """The first bar line that is at least `least_s` away."""
        ahead = position.tick + least_s * self.rate(position)
        return -(-max(int(ahead) + 1, self.protected_tick) // self.bar) * self.bar

    def rewind_for(self, name: str, position: Position) -> None:
        """Take back all that may be, so that the control `name` is heard as soon as can be: within a beat
        where the machine allows it.
        """
        tick = self.committed(position)
        self.rewind_to(tick, max(tick, position.beat_after_asking(self.beat)), by=name)

    def rewind_to(self, tick: int, latest: int | None = None, by: str = "") -> None:
        """Take back what begins at `tick` or later, and at `latest` or later without fail."""
        now_ticks = self.context.now_ticks
        if now_ticks >= tick:
            shortened = self.context.rewind_to(tick, latest)
            now_ticks = self.context.now_ticks
            if shortened:
                self.sink.shorten(now_ticks, shortened)
            self._waiting = [note for note in self._waiting if note.start_ticks < now_ticks]
            self.themes.take_back(now_ticks)
            if now_ticks < self._posted_tick:
                self.sink.truncate(now_ticks)
                self._posted_tick = now_ticks
        self._journal({"op": "renewed", "from_tick": now_ticks, "by": by})

    def give_way(self, position: Position) -> None:
        """Somebody else begins to play."""
        self.sink.truncate(self.committed(position))
        self._waiting = []

    def answer_from(self, tick: int) -> None:
        """The context stands at `tick`, behind a theme that somebody played."""
        self.started, self._posted_tick = True, tick

    # -- the end -------------------------------------------------------------------------------------------

    def ask_end(self, by_tick: int) -> None:
        """From now on an ending is welcome; at `by_tick`, a bar line, it is made by hand."""
        self.asked_end_tick = by_tick
        self.rules = replace(self.rules, eos="ask")
        self.context.set_rules(self.rules)

    def _close_by_hand(self) -> None:
        """No ending of its own came: a chord on the tonic at the bar line."""
        self.rewind_to(self.asked_end_tick)
        chord = final_chord(self.key, self._last_pitches, self.conditioning.voices)
        voices = [[Note(0, self.bar, pitch)] for pitch in chord]
        self._emit(self.context.append(encode_events(Piece(voices, self.key, self.meter), self.vocab)))
        self._finish(self.asked_end_tick + self.bar)

    def _finish(self, tick: int) -> None:
        self.sink.notes(self.context.now_ticks, self._waiting)
        self._waiting = []
        self.context.flush()
        self.sink.finish(tick)
        self.finished = True
