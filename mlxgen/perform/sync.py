"""MIDI clock, out and in.

Out: 24 pulses a quarter in step with the music; after a pause the song position and Continue.
In: from pulses with jitter to a tempo and a place, told to the player a few times a beat.

The line through the last pulses is fitted by least squares, so one late pulse moves the music little; the
player closes the rest of the gap within a beat (`Player.sync`).
"""

from __future__ import annotations

import math
from collections import deque

from mlxgen.music.theory import TICKS_PER_QUARTER
from mlxgen.perform.clock import (
    CLOCKS_PER_QUARTER,
    MAX_TEMPO_BPM,
    MIN_TEMPO_BPM,
    Transport,
    whole_beats_after,
)

PULSES_FITTED = 24          # one quarter
PULSES_A_REPORT = 6
LOST_S = 0.5                # a gap this long and the old pulses say nothing any more

CLOCK, START, CONTINUE, STOP, SONG_POSITION = 0xF8, 0xFA, 0xFB, 0xFC, 0xF2
SIXTEENTH_TICKS = TICKS_PER_QUARTER // 4

Order = tuple       # (name, *values) as in wire.ORDERS


class ClockSender:
    """Sends to `outlet.port`, whatever it is at the moment; nothing at all unless `wanted`.

    `next_s` is the second of the next pulse, infinity while none is due.
    """

    def __init__(self, outlet, wanted: bool):
        self.outlet, self.wanted = outlet, wanted
        self.next_s = math.inf

    def start(self, at_s: float) -> None:
        """The music's first beat is at `at_s`."""
        if self.wanted:
            self._send(SONG_POSITION, 0, 0)
            self._send(START)
            self.next_s = at_s

    def go_on(self, at_s: float, transport: Transport) -> None:
        """After a pause: the song position is the sixteenth that comes next, and so is the first pulse."""
        if self.wanted:
            sixteenth = math.ceil(transport.tick_at(at_s) / SIXTEENTH_TICKS)
            self._send(SONG_POSITION, sixteenth & 127, sixteenth >> 7 & 127)
            self._send(CONTINUE)
            self.next_s = transport.time_of(sixteenth * SIXTEENTH_TICKS)

    def stop(self) -> None:
        if self.next_s < math.inf:
            self._send(STOP)
            self.next_s = math.inf

    def stretch(self, now_s: float, factor: float) -> None:
        """Another tempo: what is left of a pulse takes `factor` times as long."""
        if self.next_s < math.inf:
            self.next_s = now_s + (self.next_s - now_s) * factor

    def pulse(self, now_s: float, tempo_bpm: float, stall_s: float) -> None:
        """One pulse; after a stall it goes on in phase with the quarters instead of catching up."""
        pulse_s = 60.0 / tempo_bpm / CLOCKS_PER_QUARTER
        if now_s - self.next_s > stall_s:
            self.next_s = whole_beats_after(self.next_s, now_s, pulse_s * CLOCKS_PER_QUARTER)
            return
        self._send(CLOCK)
        self.next_s += pulse_s

    def _send(self, *message: int) -> None:
        self.outlet.port.send(list(message))


class ClockFollower:
    """`feed(message, at_s)` takes real-time messages and returns the player's orders: go, pause, sync."""

    def __init__(self):
        self.quarters = 0.0             # of the next pulse, since the song's beginning
        self._times: deque[float] = deque(maxlen=PULSES_FITTED)
        self._starting = False
        self._since_report = 0

    def feed(self, message: list[int], at_s: float) -> list[Order]:
        status = message[0]
        if status == CLOCK:
            return self._pulse(at_s)
        if status == START:
            self.quarters, self._starting = 0.0, True
        elif status == CONTINUE:
            self._starting = True
        elif status == STOP:
            return [("pause", 1)]
        elif status == SONG_POSITION and len(message) == 3:
            self.quarters = (message[1] | message[2] << 7) / 4
        return []

    def _pulse(self, at_s: float) -> list[Order]:
        orders: list[Order] = []
        if self._times and at_s - self._times[-1] > LOST_S:
            self._times.clear()
        self._times.append(at_s)
        if self._starting:      # the first pulse after Start or Continue is the beginning itself
            orders += [("go", at_s), ("pause", 0, at_s)]    # what waits begins, what was stopped goes on
            self._starting = False
        place = self.quarters
        self.quarters += 1 / CLOCKS_PER_QUARTER
        self._since_report += 1
        if self._since_report >= PULSES_A_REPORT and len(self._times) >= 2 * PULSES_A_REPORT:
            self._since_report = 0
            fitted_s, pulse_s = fit_line(list(self._times))
            tempo_bpm = 60.0 / (pulse_s * CLOCKS_PER_QUARTER)
            if MIN_TEMPO_BPM <= tempo_bpm <= MAX_TEMPO_BPM:
                orders.append(("sync", place, fitted_s, tempo_bpm))
        return orders


def fit_line(times_s: list[float]) -> tuple[float, float]:
    """(fitted second of the last pulse, seconds a pulse) by least squares over equally spaced pulses."""
    count = len(times_s)
    middle, mean_s = (count - 1) / 2, sum(times_s) / count
    spread = sum((number - middle) ** 2 for number in range(count))
    slope = sum((number - middle) * (time_s - mean_s) for number, time_s in enumerate(times_s)) / spread
    return mean_s + slope * middle, slope
