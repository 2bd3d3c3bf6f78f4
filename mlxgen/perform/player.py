"""Player: turns notes with ticks into MIDI messages at their deadlines. No process, no file, no log in here.

`Player.step()` does everything that is due and returns the next deadline; `playerproc.py` waits for it.
Clock and port are passed in, so a test can play an hour in a moment and read `FakePort.sent`.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass

from mlxgen.perform.clock import Transport, ticks_per_second, whole_beats_after
from mlxgen.perform.ports import note_on
from mlxgen.perform.shared import STATES, Shared
from mlxgen.perform.sounding import Sounding
from mlxgen.perform.sync import ClockSender
from mlxgen.perform.wire import Notes, Order, TimedNote

CHANNELS = ("one", "per-voice")
RESUME_S = 0.02             # after a pause, the first note comes so much later than asked


@dataclass(frozen=True)
class PlayerSettings:
    tempo_bpm: float = 80.0
    beat_ticks: int = 480
    bar_ticks: int = 1920
    channels: str = "one"
    clock_out: bool = False
    clock_in: bool = False         # wait for an outer clock's Start
    nudge_s: float = 0.0
    stall_s: float = 0.25          # later than this, time is moved by whole beats instead of hurried
    hold_release_s: float = 2.0    # a chord held through an underrun is let go after this

    def __post_init__(self):
        ticks_per_second(self.tempo_bpm)
        if self.channels not in CHANNELS:
            raise ValueError(f"channels {self.channels!r}: expected one of {', '.join(CHANNELS)}")


class Player:
    """Plays notes given by `notes`, obeys `orders`; both arrive through `handle`.

    Notes of one epoch only are taken; `flush` begins the next one. It decides when; `Sounding` sends.
    """

    def __init__(self, port, shared: Shared, settings: PlayerSettings, now=time.monotonic):
        self.shared, self.settings, self.now = shared, settings, now
        self.sounding = Sounding(port, shared, now)
        self.clock_out = ClockSender(self.sounding, settings.clock_out)
        self.transport = Transport(ticks_per_second(settings.tempo_bpm))
        self.tempo_bpm = settings.tempo_bpm
        self.nudge_s = settings.nudge_s
        self.beat_ticks = settings.beat_ticks
        self.epoch = 0
        self.horizon = 0.0
        self.last_tick = math.inf       # where the music ends, once it is known
        self.state = "waiting"
        self.hold_started_s = 0.0
        self.accepting = True
        self._events: list[tuple] = []  # heap of (tick, order, serial, slot, voice, message or None)
        self._serial = 0
        self._armed_tick: float | None = None
        shared.set("beat_ticks", self.beat_ticks)
        self._publish()

    # -- what arrives ------------------------------------------------------------------------------------

    def handle(self, message: Notes | Order) -> None:
        if isinstance(message, Notes):
            if message.epoch == self.epoch and self.accepting:
                self._take_notes(message)
        elif message.name in _GENERATOR_ORDERS and message.epoch != self.epoch:
            return                      # said before the last flush
        else:
            _ORDERS[message.name](self, *message.values)
        self._publish()

    def _take_notes(self, message: Notes) -> None:
        playhead = self.transport.tick_at(self.now()) - self.settings.stall_s * self.transport.rate
        for note in message.notes:
            if self.transport.running and note.start_ticks < playhead:
                self.shared.add("late_count")       # its moment has gone: it would only burst
                continue
            self._schedule(note)
        self.horizon = max(self.horizon, message.horizon_tick)
        self._resume_if_ready()

    def _schedule(self, note: TimedNote) -> None:
        channel = note.voice - 1 if self.settings.channels == "per-voice" else 0
        slot = (channel & 15) * 128 + note.pitch
        self._serial += 1
        on = (note.start_ticks, note.voice, self._serial, slot, note.voice, note_on(slot, note.velocity))
        off = (note.start_ticks + note.duration_ticks, 0, self._serial, slot, note.voice, None)
        heapq.heappush(self._events, on)
        heapq.heappush(self._events, off)

    def flush(self, epoch: float, *_values: float) -> None:
        """End everything that sounds and begin `epoch` at tick 0."""
        self.release_all()
        self._forget()
        self.epoch = int(epoch)
        self.shared.set("played_epoch", self.epoch)
        self.accepting = True

    def panic(self, *_values: float) -> None:
        """Tracked note-offs, then CC 64, 123 and 120 on 16 channels. Takes no notes before the next flush."""
        self.sounding.panic(self.transport.tick_at(self.now()))
        self._forget()
        self.accepting = False

    def _forget(self) -> None:
        """What was to come does not; how far it came is kept for the log, and in the recording what comes
        next begins at a bar line.
        """
        shared, bar = self.shared, self.settings.bar_ticks
        if shared.get("played_epoch") != shared.get("ended_epoch"):
            if shared.get("played_tick") >= 0:
                reached = max(shared.get("played_tick"), self.transport.tick_at(self.now()))
                shared.add("epoch_tick", (reached // bar + 1) * bar)
            shared.set("ended_tick", shared.get("played_tick"))
            shared.set("ended_epoch", shared.get("played_epoch"))
            shared.set("played_tick", -1)
        self._events.clear()
        self.horizon, self.last_tick = 0.0, math.inf
        self.transport.stop(self.now(), 0.0)
        self.clock_out.stop()
        self._set_state("waiting")

    def start(self, tick: float, delay_s: float, _third: float = 0.0) -> None:
        """Begin to play at `tick`, `delay_s` from now; with `clock_in`, when the outer clock says so."""
        if self.settings.clock_in:
            self._armed_tick = tick
            return
        self._begin(self.now() + delay_s, tick)

    def go(self, at_s: float, *_values: float) -> None:
        """The outer clock's Start, at `at_s`. Music not ready by then begins late, on one of its beats."""
        if self._armed_tick is not None:
            beat_s = self._beat_s()
            late_s = max(0.0, self.now() - self.settings.stall_s - at_s)
            self._begin(at_s + math.ceil(late_s / beat_s) * beat_s, self._armed_tick)
            self._armed_tick = None

    def _begin(self, begin_s: float, tick: float) -> None:
        self.transport.start(begin_s, tick)
        self._set_state("playing")
        self.clock_out.start(begin_s)

    def truncate(self, tick: float, *_values: float) -> None:
        """Withdraw the notes that begin at `tick` or later; they were never promised."""
        withdrawn = {event[2] for event in self._events if event[5] is not None and event[0] >= tick}
        self._events = [event for event in self._events if event[2] not in withdrawn]
        heapq.heapify(self._events)
        self.horizon = min(self.horizon, tick)

    def shorten(self, tick: float, mask: float, _third: float = 0.0) -> None:
        """Notes of the voices in `mask` that begin before `tick` end there, if they do not sooner."""
        later = {event[2] for event in self._events if event[5] is not None and event[0] >= tick}
        self._events = [
            (tick, *event[1:]) if event[5] is None and event[0] > tick and event[2] not in later
            and int(mask) >> event[4] - 1 & 1 else event for event in self._events]
        heapq.heapify(self._events)

    def finish(self, tick: float, *_values: float) -> None:
        self.last_tick, self.horizon = max([tick, *(event[0] for event in self._events)]), math.inf
        self._resume_if_ready()

    def set_tempo(self, tempo_bpm: float, *_values: float) -> None:
        """From now on. Followed clocks set it too, and win."""
        now_s = self.now()
        old_rate = self.transport.rate
        self.transport.set_rate(now_s, ticks_per_second(tempo_bpm))
        self.tempo_bpm = tempo_bpm
        self.clock_out.stretch(now_s, old_rate / self.transport.rate)
        self.sounding.mark_tempo(self.transport.tick_at(now_s), tempo_bpm)

    def pause(self, on: float, at_s: float = 0.0, _third: float = 0.0) -> None:
        """Stand and be silent, or go on where it stood; `at_s`: an outer clock's beat that begins then."""
        if on and self.state in ("playing", "holding"):
            self.transport.stop(self.now())
            self.release_all()
            self._set_state("paused")
            self.clock_out.stop()
        elif not on and self.state == "paused":
            into_beat = self.transport.anchor_tick % self.beat_ticks / self.transport.rate
            begin_s = at_s + into_beat if at_s else self.now() + RESUME_S
            self.transport.start(begin_s)
            self._set_state("playing")
            self.clock_out.go_on(begin_s, self.transport)

    def mute(self, mask: float, *_values: float) -> None:
        self.sounding.mute(int(mask), self.transport.tick_at(self.now()))

    def nudge(self, seconds: float, *_values: float) -> None:
        self.nudge_s = seconds

    def set_beat(self, ticks: float, *_values: float) -> None:
        self.beat_ticks = int(ticks)
        self.shared.set("beat_ticks", self.beat_ticks)

    def sync(self, quarters: float, at_s: float, tempo_bpm: float) -> None:
        """Follow an outer clock: it stood at `quarters` (whole and fraction) at `at_s` and runs at
        `tempo_bpm`.

        Only the place inside the beat is followed; the difference is made up within the next beat.
        """
        if not self.transport.running:
            return
        self.transport.set_rate(self.now(), ticks_per_second(tempo_bpm))
        self.tempo_bpm = tempo_bpm
        error = (quarters * 480 - self.transport.tick_at(at_s)) / 480     # quarters that we are behind
        error -= round(error)
        correction = max(-0.1, min(0.1, error))
        self.transport.rate *= 1.0 + correction

    # -- what is due -------------------------------------------------------------------------------------

    def step(self) -> float:
        """Do everything that is due; the next deadline in seconds of `now`, infinity for none."""
        now_s = self.now()
        if self.clock_out.next_s <= now_s:
            self.clock_out.pulse(now_s, self.tempo_bpm, self.settings.stall_s)
        if self.transport.running:
            self._play_due()
        elif self.state == "holding" and now_s >= self.hold_started_s + self.settings.hold_release_s:
            self.release_all()
        return self._next_deadline()

    def _play_due(self) -> None:
        events, now = self._events, self.now
        limit = min(self.horizon, self.last_tick)
        while events and events[0][0] <= limit:
            tick = events[0][0]
            due_s = self.transport.time_of(tick) + self.nudge_s
            late_s = now() - due_s
            if late_s < 0:
                return
            if late_s > self.settings.stall_s:
                self._slip(tick, late_s)
                return
            event = heapq.heappop(events)
            if event[5] is None:
                self.sounding.release(event[2], tick, due_s)
            else:
                self.sounding.strike(event, due_s)
                self.shared.set("played_tick", tick)
        limit_s = self.transport.time_of(limit) + self.nudge_s
        if now() >= limit_s:
            if self.last_tick <= self.horizon and not events:
                self._end()
            elif self.last_tick > self.horizon:
                self._hold(limit_s - self.nudge_s)

    def release_all(self) -> None:
        self.sounding.release_all(self.transport.tick_at(self.now()))

    # -- when it cannot go on ----------------------------------------------------------------------------

    def _beat_s(self) -> float:
        return self.beat_ticks / self.transport.rate

    def _slip(self, tick: float, late_s: float) -> None:
        """This process was kept from running: move time by whole beats, so that nothing bursts, and stand at
        `tick` until then; what lies before it has sounded.
        """
        beats = math.ceil(late_s / self._beat_s())
        self.transport.start(self.transport.time_of(tick) + beats * self._beat_s(), tick)
        self.shared.add("stalls")
        self.shared.add("slipped_beats", beats)
        self._publish()

    def _hold(self, since_s: float) -> None:
        """Underrun: stand at the horizon; sounding notes are held, for a while."""
        self.hold_started_s = since_s
        self.transport.stop(since_s, self.horizon)
        self.shared.add("underruns")
        self._set_state("holding")

    def _resume_if_ready(self) -> None:
        if self.state != "holding" or self.horizon < self.transport.anchor_tick + self.beat_ticks:
            return
        beat_s = self._beat_s()
        resume_s = whole_beats_after(self.hold_started_s, self.now() + 0.005, beat_s, least=1)
        self.transport.start(resume_s)
        self.shared.add("slipped_beats", round((resume_s - self.hold_started_s) / beat_s))
        self._set_state("playing")

    def _end(self) -> None:
        self.release_all()
        self.transport.stop(self.now())
        self._set_state("ended")
        self.clock_out.stop()

    def _next_deadline(self) -> float:
        deadline_s = self.clock_out.next_s
        if self.transport.running:
            limit = min(self.horizon, self.last_tick)
            tick = min(self._events[0][0], limit) if self._events else limit
            if tick < math.inf:
                deadline_s = min(deadline_s, self.transport.time_of(tick) + self.nudge_s)
        elif self.state == "holding" and self.sounding:
            deadline_s = min(deadline_s, self.hold_started_s + self.settings.hold_release_s)
        return deadline_s

    def _set_state(self, state: str) -> None:
        self.state = state
        self._publish()

    def _publish(self) -> None:
        self.shared.publish(self.transport, self.nudge_s, self.horizon, STATES.index(self.state), self.epoch)
        self.shared.set("tempo_bpm", self.tempo_bpm)


def _ignore(_player: Player, *_values: float) -> None:
    """Orders for the process around the player."""


_GENERATOR_ORDERS = {"start", "truncate", "shorten", "finish", "beat"}
_ORDERS = {
    "start": Player.start, "truncate": Player.truncate, "shorten": Player.shorten,
    "finish": Player.finish, "flush": Player.flush,
    "tempo": Player.set_tempo, "pause": Player.pause, "panic": Player.panic, "mute": Player.mute,
    "go": Player.go, "nudge": Player.nudge, "sync": Player.sync, "beat": Player.set_beat,
    "port": _ignore, "quit": _ignore,
}
