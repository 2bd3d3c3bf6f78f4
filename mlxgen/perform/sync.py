"""MIDI clock in: from pulses with jitter to a tempo and a place, told to the player a few times a beat.

The line through the last pulses is fitted by least squares, so one late pulse moves the music little; the
player closes the rest of the gap within a beat (`Player.sync`).
"""

from __future__ import annotations

from collections import deque

from mlxgen.perform.clock import CLOCKS_PER_QUARTER, MAX_TEMPO_BPM, MIN_TEMPO_BPM

PULSES_FITTED = 24          # one quarter
PULSES_A_REPORT = 6
LOST_S = 0.5                # a gap this long and the old pulses say nothing any more

CLOCK, START, CONTINUE, STOP, SONG_POSITION = 0xF8, 0xFA, 0xFB, 0xFC, 0xF2

Order = tuple       # (name, *values) as in wire.ORDERS


class ClockFollower:
    """`feed(message, at_s)` takes real-time messages and returns the player's orders: go, pause, sync."""

    def __init__(self):
        self.quarters = 0.0             # of the next pulse, since the song's beginning
        self._times: deque[float] = deque(maxlen=PULSES_FITTED)
        self._starting: str | None = None
        self._since_report = 0

    def feed(self, message: list[int], at_s: float) -> list[Order]:
        status = message[0]
        if status == CLOCK:
            return self._pulse(at_s)
        if status == START:
            self.quarters, self._starting = 0.0, "go"
        elif status == CONTINUE:
            self._starting = "continue"
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
        if self._starting is not None:      # the first pulse after Start is the beginning itself
            orders.append(("go", at_s) if self._starting == "go" else ("pause", 0))
            self._starting = None
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
