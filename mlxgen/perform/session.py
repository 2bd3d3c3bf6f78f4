"""Session: generates ahead of the playhead, posts notes, and takes back what a control makes stale.

Two zones lie ahead of the playhead. What begins within `commit` ticks is committed: it will sound. What lies
beyond is tentative: a control rewinds it and it is generated again. No process and no clock in here: the
playhead is passed in, the player is a `sink`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mlxgen.music.encode import encode_events, reencode
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning, make_prefix
from mlxgen.music.theory import TICKS_PER_QUARTER, Key, bar_ticks, beat_ticks
from mlxgen.music.vocab import Vocab
from mlxgen.perform.context import Context, Voiced
from mlxgen.perform.ending import final_chord
from mlxgen.perform.listen import key_of
from mlxgen.perform.material import density_bias, ids_until, opening_line, theme_shift
from mlxgen.perform.shared import Position
from mlxgen.perform.velocity import VelocityShape, shape_velocity
from mlxgen.perform.wire import TimedNote
from mlxgen.sampling.rules import RuleSet
from mlxgen.sampling.sampler import SamplingParams

SEED_STEP = 1_000_003       # between the seeds of one session's contexts
SWITCH_S = 0.3              # a change of context is begun at least so long before it is heard
RESERVE_S = 0.15            # of which so much is kept for the first notes after the prefill,
FIRST_IDS = 24              # or, on a slow machine, the time of so many steps
THEME_IDS = 400             # the most of a theme that stays in the context for ever
STUCK_IDS = 200             # so many ids without the clock moving, and it is moved
CADENCE_BARS = 8            # asked to end, the music gets this long to find its own ending
CHARACTER = ("style", "texture", "imitation", "harmonic_rhythm", "harmonic_tension", "chromaticism")


@dataclass(frozen=True)
class SessionSettings:
    conditioning: Conditioning = field(default_factory=Conditioning)
    key: Key = field(default_factory=lambda: Key(0, "minor"))
    params: SamplingParams = field(default_factory=SamplingParams)
    rules: RuleSet = field(default_factory=lambda: RuleSet(eos="mask"))
    seed: int = 0
    buffer_bars: float = 2.0
    bars: int | None = None                 # end after so many
    theme: tuple[Note, ...] = ()
    velocity: VelocityShape = field(default_factory=VelocityShape)
    history_ids: int = 1024  # the most that a new prefix is given to remember
    commit_beats: float = 0.5  # never taken back; less than this and `commit_s`, whichever is more
    commit_s: float = 0.15
    switch_beats: float = 0.75               # the same for a change that makes the context anew
    prefill_ids_per_s: float = 1200.0       # first guess; measured from then on
    listen: bool = False                    # somebody plays a theme first
    find_key: bool = False                  # the key is the played theme's


class Session:
    """One performance. `advance(position)` does one small piece of work; `control(name, value)` is a turn of
    a knob.
    """

    def __init__(self, make_engine: Callable, vocab: Vocab, settings: SessionSettings, sink,
                 journal: Callable[[dict], None], slack: int = 512, now=time.monotonic):
        self.settings, self.vocab, self.sink, self._now = settings, vocab, sink, now
        self.context = Context(make_engine, vocab, journal, slack)
        self._journal = journal
        self.conditioning = settings.conditioning.with_defaults()
        self.key, self.params, self.rules = settings.key, settings.params, settings.rules
        self.meter = self.conditioning.meter
        self.bar, self.beat = bar_ticks(self.meter), beat_ticks(self.meter)
        self.theme = list(settings.theme)
        self._pins_theme = bool(settings.theme)
        self.resets = 0
        self.prefill_ids_per_s = settings.prefill_ids_per_s
        self.step_s = 0.005                     # what a step takes, lately
        self._begin()

    # -- beginnings ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.started = self.finished = False
        self.end_tick = None if self.settings.bars is None else self.settings.bars * self.bar
        self.asked_end_tick: int | None = None
        self._new_character: tuple[int, int] | None = None      # a new prefix: from which tick, by which
        self._new_key: tuple[int, Key] | None = None
        self._recall_tick: int | None = None
        self._protected_tick = 0                # nothing before it is taken back: a theme is being stated
        self._last_pitches: dict[int, int] = {}
        self._opening: Voiced = []
        self._recalls = 0
        self._posted_tick = 0                   # notes before it have been posted
        self._waiting: list[TimedNote] = []
        self._still_ids = 0                     # drawn since the clock last moved
        self.rules = replace(self.settings.rules, bias=self.rules.bias)     # density stays as it is turned
        self.listening = self.settings.listen
        self._given: list[int] = []             # ids of the theme being played
        self._given_bar: int | None = None      # tick of its first bar
        if self.listening:
            self._reset([], 0, pin_more=THEME_IDS)
            return
        opening = [self.vocab["BAR"], *([self.vocab["BEAT_1"]] if "BEAT_1" in self.vocab else [])]
        theme_ids = self._theme_ids(1) if self.settings.theme else []
        self._reset([], 0, pin_more=min(len(theme_ids), THEME_IDS))
        self._emit(self.context.append(theme_ids or opening))
        self._protected_tick = self.context.now_ticks

    def _reset(self, history: list[int], start_ticks: int, pin_more: int = 0) -> None:
        """A new context. Its seed is new as well: positions begin again, and the draws must not."""
        began_s = self._now()
        pinned = make_prefix(self.conditioning, self.key, self.vocab)
        if history:
            pinned += self._pinned_theme()
        seed = self.settings.seed + SEED_STEP * self.resets
        self.context.reset(pinned, history, start_ticks, seed, pin_more)
        self.resets += 1
        self.context.set_params(self.params)
        self.context.set_rules(self.rules)
        if len(history) > 100:
            rate = len(history) / max(self._now() - began_s, 1e-6)
            self.prefill_ids_per_s += 0.5 * (rate - self.prefill_ids_per_s)

    def restart(self) -> None:
        """Panic: forget the music and begin again from the prefix, with other draws."""
        self.sink.flush()
        self._begin()

    def _pinned_theme(self) -> list[int]:
        """A theme that was given stays in front of every later context: its bars, without the next one's
        opening.
        """
        if not self._pins_theme:
            return []
        bars = -(-max(note.end_ticks for note in self.theme) // self.bar)
        ids = ids_until(self._piece(self.theme), bars * self.bar, self.vocab)
        last_bar = len(ids) - 1 - ids[::-1].index(self.vocab["BAR"])
        return ids[:last_bar] if last_bar <= THEME_IDS else []

    def _theme_ids(self, voice: int, shift: int = 0) -> list[int]:
        if not self.theme:
            return []
        line = [note._replace(pitch=note.pitch + shift) for note in self.theme]
        return encode_events(self._piece(line, voice), self.vocab)

    # -- one small piece of work ---------------------------------------------------------------------------

    def advance(self, position: Position) -> bool:
        """Draw one id, or do one thing that was asked for. False when there is nothing to do before the
        playhead has moved."""
        if self.finished or self.listening:
            return self._keep_silent(position)
        self._do_what_is_due(position)
        if not self._wants_more(position):
            return False
        before = self.context.now_ticks
        began_s = self._now()
        token, notes = self.context.step()
        self.step_s += 0.1 * (self._now() - began_s - self.step_s)
        self._emit(notes)
        if self.context.now_ticks == before:
            self._unstick()
        if self.context.now_ticks > before:
            self._still_ids = 0
            self._after_clock()
        if token == self.vocab["EOS"]:
            self._finish(self.context.now_ticks)
        return True

    def _keep_silent(self, position: Position) -> bool:
        """While somebody else plays, the rests ahead are ours to say."""
        if self.listening and position.horizon_tick < position.tick + self.bar:
            self.sink.notes(int(position.tick) + 2 * self.bar, [])
        return False

    def _wants_more(self, position: Position) -> bool:
        if self.context.now_ticks - position.tick >= self.settings.buffer_bars * self.bar:
            return False
        return self._ids_ahead(position) < self.context.slack - 64

    def _ids_ahead(self, position: Position) -> int:
        ticks = self.context.ticks
        ahead = 0
        while ahead < len(ticks) and ticks[-1 - ahead] > position.tick:
            ahead += 1
        return ahead

    def _after_clock(self) -> None:
        self._post()
        now = self.context.now_ticks
        self.context.forget(2 * self.settings.history_ids)
        if not self.started and now >= min(self.bar, 2 * self.beat):
            self.started = True
            self.sink.start()
        if not self.theme and now >= 2 * self.bar:
            self.theme = opening_line(self._opening, self.bar)
        if self.end_tick is not None and self.asked_end_tick is None and now >= self.end_tick - 3 * self.bar:
            self._ask_end(self.end_tick - self.bar)
        if self.asked_end_tick is not None and now >= self.asked_end_tick:
            self._close_by_hand()

    def _unstick(self) -> None:
        """A model that never moves the clock would keep the player waiting for ever."""
        self._still_ids += 1
        if self._still_ids >= STUCK_IDS:
            to_beat = self.beat - self.context.now_ticks % self.beat
            step = max((ticks for ticks in self.vocab.time_shift_bins if ticks <= to_beat),
                       default=self.vocab.time_shift_bins[0])
            self._emit(self.context.append([self.vocab[f"TimeShift_{step}"]]))

    def _emit(self, notes: Voiced) -> None:
        for voice, note in notes:
            loudness = shape_velocity(note, voice, self.meter, self.settings.velocity)
            self._waiting.append(TimedNote(*note, voice, loudness))
            self._last_pitches[voice] = note.pitch
            if not self.theme:
                self._opening.append((voice, note))

    def _post(self) -> None:
        """What begins before the clock is complete: hand it on."""
        self.sink.notes(self.context.now_ticks, self._waiting)
        self._waiting = []
        self._posted_tick = self.context.now_ticks

    # -- controls ------------------------------------------------------------------------------------------

    def control(self, name: str, value, position: Position) -> None:
        """Apply one control. ValueError for a value that the model does not know; nothing is changed then."""
        self._journal({"op": "control", "name": name, "value": value, "playhead": round(position.tick, 1)})
        if name in ("temperature", "min_p"):
            self.params = replace(self.params, **{name: value})
            self._rewind_to(self._committed(position, self.settings.commit_beats, self.settings.commit_s),
                            self._latest(position))
            self.context.set_params(self.params)
        elif name == "density":
            self.rules = replace(self.rules, bias=density_bias(value, self.vocab))
            self._rewind_to(self._committed(position, self.settings.commit_beats, self.settings.commit_s),
                            self._latest(position))
            self.context.set_rules(self.rules)
        elif name in CHARACTER:
            changed = replace(self.conditioning, **{name: value})
            make_prefix(changed, self.key, self.vocab)
            self.conditioning = changed
            self._new_character = (self._committed(position, self.settings.switch_beats, SWITCH_S),
                                   self._latest(position))
        elif name == "key":
            new_key = Key.parse(value)
            make_prefix(self.conditioning, new_key, self.vocab)
            self._new_key = self._next_bar(position), new_key
        elif name == "recall":
            self._recall_tick = self._next_bar(position)
        elif name == "end":
            self._ask_end(self._next_bar(position) + CADENCE_BARS * self.bar)
        elif name == "panic":
            self.restart()
        else:
            raise ValueError(
                f"control {name!r}: expected one of temperature, min_p, density, key, recall, end, "
                f"panic, {', '.join(CHARACTER)}"
            )

    def hear(self, notes: list[Note], over: bool, position: Position) -> None:
        """The theme that somebody plays, as far as it is known, on the performance's tick line.

        It is read into the context while it is played, all but its last note; once it is `over` the music
        goes on from the next bar line.
        """
        if not self.listening:
            self.sink.truncate(self._committed(position, self.settings.commit_beats, self.settings.commit_s))
            self._waiting, self.listening, self._given_bar = [], True, None
        first_bar = notes[0].start_ticks // self.bar * self.bar
        found = key_of(notes) if over and self.settings.find_key else self.key
        if self._given_bar != first_bar or found != self.key:
            self.key, self._given, self._given_bar = found, [], first_bar
            self._reset([], first_bar, pin_more=THEME_IDS)
        theme = [note._replace(start_ticks=note.start_ticks - first_bar) for note in notes]
        if not over:
            return self._give(encode_events(self._piece(theme[:-1]), self.vocab) if theme[:-1] else [])
        end = max(note.end_ticks for note in notes)
        answer = (
            -(-max(self._committed(position, self.settings.switch_beats, SWITCH_S), end) // self.bar)
            * self.bar
        )
        self._give(ids_until(self._piece(theme), answer - first_bar, self.vocab))
        self.theme, self._pins_theme = theme, True
        self.listening, self.started, self._posted_tick = False, True, answer
        self._given_bar = None

    def _piece(self, line: list[Note], voice: int = 1) -> Piece:
        voices: list[list[Note]] = [[] for _ in range(self.conditioning.voices)]
        voices[voice - 1] = line
        return Piece(voices, self.key, self.meter)

    def _give(self, ids: list[int]) -> None:
        """Make the context hold `ids` of the theme, changing as little as possible."""
        same = 0
        while same < min(len(ids), len(self._given)) and ids[same] == self._given[same]:
            same += 1
        self.context.take_back(len(self._given) - same)
        if ids[same:]:
            self.context.append(ids[same:], heard=False)
        self._given = ids

    def _committed(self, position: Position, beats: float, seconds: float) -> int:
        """The first tick that may still be changed."""
        rate = position.rate or 2.0 * TICKS_PER_QUARTER
        return max(int(position.tick + max(beats * self.beat, seconds * rate)) + 1, self._protected_tick)

    def _next_bar(self, position: Position) -> int:
        return -(-self._committed(position, self.settings.switch_beats, SWITCH_S) // self.bar) * self.bar

    def _latest(self, position: Position) -> int:
        """A control is heard by then: a beat later."""
        return int(position.tick) + self.beat

    def _rewind_to(self, tick: int, latest: int | None = None) -> None:
        """Take back what begins at `tick` or later, and at `latest` or later without fail."""
        if self.context.now_ticks < tick:
            return
        now_ticks = self.context.rewind_to(tick, latest)
        self._journal({"op": "renewed", "from_tick": now_ticks})
        self._waiting = [note for note in self._waiting if note.start_ticks < now_ticks]
        if now_ticks < self._posted_tick:
            self.sink.truncate(now_ticks)
            self._posted_tick = now_ticks

    def _do_what_is_due(self, position: Position) -> None:
        """Changes that wait for their place: the clock must have reached it, and the playhead be near."""
        lead = self._committed(position, self.settings.switch_beats, SWITCH_S)
        safe = self._committed(position, 0.0, RESERVE_S)
        now = self.context.now_ticks
        if self._new_character is not None and now >= max(self._new_character[0], safe):
            tick, latest = self._new_character
            self._new_character = None
            self._switch(max(tick, safe), self.key, position, max(latest, safe))
        elif self._new_key is not None and self._is_due(self._new_key[0], now, lead):
            tick, key = self._new_key
            self._new_key = None
            if tick < safe:         # this process was kept waiting, and the line has gone by
                self._new_key = self._next_bar(position), key
            else:
                self._switch(tick, key, position)
        elif self._recall_tick is not None and self._is_due(self._recall_tick, now, lead):
            tick, self._recall_tick = self._recall_tick, None
            if tick < safe:
                self._recall_tick = self._next_bar(position)
            else:
                self._recall(tick)

    def _is_due(self, tick: int, now: int, lead: int) -> bool:
        """The clock has reached `tick` and the playhead is near it."""
        return now >= tick and tick <= lead + 1

    def _switch(self, tick: int, key: Key, position: Position, latest: int | None = None) -> None:
        """From `tick` on another prefix: as much of the history as can be read before it is heard."""
        self._rewind_to(tick, latest)
        left_s = (tick - position.tick) / (position.rate or 2.0 * TICKS_PER_QUARTER)
        left_s -= max(RESERVE_S, FIRST_IDS * self.step_s)
        max_ids = max(32, min(self.settings.history_ids, int(left_s * self.prefill_ids_per_s)))
        history, start_ticks = self.context.history(max_ids)
        if key != self.key:
            history = reencode(history, self.vocab, key, self.key)
            self.key = key
        self._reset(history, start_ticks)

    def _recall(self, tick: int) -> None:
        """State the theme in the next voice in turn, in the key of the moment."""
        self._rewind_to(tick)
        voice = self._recalls % self.conditioning.voices + 1
        self._recalls += 1
        self._emit(
            self.context.append(
                self._theme_ids(
                    voice,
                    theme_shift(self.theme, self.settings.key, self.key, voice, self.conditioning.voices),
                )
            )
        )
        self._protected_tick = self.context.now_ticks

    def _ask_end(self, by_tick: int) -> None:
        self.asked_end_tick = by_tick
        self.rules = replace(self.rules, eos="ask")
        self.context.set_rules(self.rules)

    def _close_by_hand(self) -> None:
        """No ending of its own came: a chord on the tonic at the bar line."""
        self._rewind_to(self.asked_end_tick)
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
