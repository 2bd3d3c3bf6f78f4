"""Pace: what this machine sustains, measured while it plays, and what follows from it.

A turn of a knob takes back what has not been promised, and the notes that come instead must be there when the
playhead arrives. How much is promised therefore depends on how long the first of them take.
"""

from __future__ import annotations

import math
import statistics
from collections import deque

from mlxgen.music.theory import TICKS_PER_QUARTER

FIRST_IDS = 32              # about what the first moment of new music takes: four voices, a time shift
SPARE_S = 0.04              # for everything else: a rewind, a pipe, a playhead that is a little ahead
GUESSED_STEP_S = 0.003
GUESSED_BLOCK_S = 0.05
LATELY = 96                 # steps that count as lately
BLOCKS_LATELY = 6           # and blocks of a history
SPREAD_OF_HALF = 1.4826     # times the median distance from the median: a standard deviation of a normal law
CAUTION = 1.0               # standard deviations that a promise allows for


class Pace:
    """`stepped(seconds)` after every step, `read(seconds)` after every block of READ_IDS ids."""

    def __init__(self):
        self._steps_s: deque[float] = deque(maxlen=512)
        self._lately_s: deque[float] = deque([GUESSED_STEP_S], maxlen=LATELY)
        self._blocks_s: deque[float] = deque([GUESSED_BLOCK_S], maxlen=BLOCKS_LATELY)

    def stepped(self, seconds: float) -> None:
        self._steps_s.append(seconds)
        self._lately_s.append(seconds)

    def read(self, seconds: float) -> None:
        self._blocks_s.append(seconds)

    @property
    def first_notes_s(self) -> float:
        """From a rewind until the first new notes are with the player."""
        return SPARE_S + self.steps_s(FIRST_IDS)

    def steps_s(self, count: float, caution: float = 0.0) -> float:
        """How long `count` steps take at the present speed, and `caution` standard deviations more."""
        spread_s = statistics.pstdev(self._lately_s) if caution else 0.0
        return count * statistics.fmean(self._lately_s) + caution * math.sqrt(count) * spread_s

    def reading_s(self, blocks: float, caution: float = 0.0) -> float:
        """How long `blocks` blocks of a history take. There are few to judge by, so one that the system held
        up must not count for all: the middle one, and how far half of the others are from it.
        """
        middle_s = statistics.median(self._blocks_s)
        spread_s = statistics.median(abs(each_s - middle_s) for each_s in self._blocks_s)
        return blocks * middle_s + caution * math.sqrt(blocks) * SPREAD_OF_HALF * spread_s

    def affordable_blocks(self, seconds: float) -> int:
        """How many blocks of a history can be read within `seconds`, with all caution."""
        count = int(max(0.0, seconds) / statistics.median(self._blocks_s))
        while count and self.reading_s(count, CAUTION) > seconds:
            count -= 1
        return count

    def figures(self) -> dict[str, float]:
        """{"ids_per_s", "p50_ms", "p95_ms", "p99_ms"} of the last steps, zeros before the first."""
        times = sorted(self._steps_s)
        if not times:
            return dict.fromkeys(("ids_per_s", "p50_ms", "p95_ms", "p99_ms"), 0.0)
        place = lambda share: times[min(int(share * len(times)), len(times) - 1)] * 1e3  # noqa: E731
        return {"ids_per_s": len(times) / sum(times), "p50_ms": place(0.5), "p95_ms": place(0.95),
                "p99_ms": place(0.99)}


def slow_to(ticks: list[int], ids_per_s: float, rate: float) -> float:
    """The tempo (bpm) that this machine keeps up with when it hardly keeps up with the present one, else 0.

    ticks: the clock after each id; rate: ticks a second at present. A fifth is left for prefills and rewinds.
    """
    recent = ticks[-256:]
    if len(recent) < 64 or not rate or recent[-1] == recent[0]:
        return 0.0
    affordable = ids_per_s * (recent[-1] - recent[0]) / (len(recent) - 1) * 0.8      # ticks a second
    return float(int(affordable * 60 / TICKS_PER_QUARTER)) if affordable < rate else 0.0
