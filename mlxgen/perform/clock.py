"""Transport: the straight line between ticks and seconds that a performance is played along.

A tempo change, a pause or an underrun bends the line at one point (the anchor); before and after it is
straight, so a deadline is always computed from the anchor and never from the note before: errors do not add
up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlxgen.music.theory import TICKS_PER_QUARTER

MIN_TEMPO_BPM, MAX_TEMPO_BPM = 20.0, 300.0
CLOCKS_PER_QUARTER = 24


def ticks_per_second(tempo_bpm: float) -> float:
    """Ticks a second at `tempo_bpm` quarters a minute. ValueError outside 20-300."""
    if not MIN_TEMPO_BPM <= tempo_bpm <= MAX_TEMPO_BPM:
        raise ValueError(f"tempo {tempo_bpm} bpm: expected {MIN_TEMPO_BPM:g} to {MAX_TEMPO_BPM:g}")
    return tempo_bpm * TICKS_PER_QUARTER / 60.0


@dataclass
class Transport:
    """tick(now_s) = anchor_tick + (now_s - anchor_s) * rate while running; anchor_tick while stopped, and
    before anchor_s: time that begins to run in a moment stands until then.
    """

    rate: float
    anchor_tick: float = 0.0
    anchor_s: float = 0.0
    running: bool = False

    def tick_at(self, now_s: float) -> float:
        if not self.running:
            return self.anchor_tick
        return self.anchor_tick + max(0.0, now_s - self.anchor_s) * self.rate

    def time_of(self, tick: float) -> float:
        """The second at which `tick` is due; infinity while stopped."""
        if not self.running:
            return math.inf
        return self.anchor_s + (tick - self.anchor_tick) / self.rate

    def start(self, now_s: float, tick: float | None = None) -> None:
        """Run from `tick` (where it stood, if None) at `now_s`."""
        if tick is not None:
            self.anchor_tick = tick
        self.anchor_s, self.running = now_s, True

    def stop(self, now_s: float, tick: float | None = None) -> None:
        """Stand at `tick` (where it is at `now_s`, if None)."""
        self.anchor_tick = self.tick_at(now_s) if tick is None else tick
        self.anchor_s, self.running = now_s, False

    def set_rate(self, now_s: float, rate: float) -> None:
        """Another tempo from `now_s` on; the tick at `now_s` stays the same."""
        self.anchor_tick, self.anchor_s = self.tick_at(now_s), max(now_s, self.anchor_s)
        self.rate = rate


def whole_beats_after(start_s: float, now_s: float, beat_s: float, least: int = 0) -> float:
    """The first second >= now_s that lies a whole number (>= least) of beats after `start_s`."""
    count = max(least, math.ceil((now_s - start_s) / beat_s - 1e-9))
    return start_s + count * beat_s
