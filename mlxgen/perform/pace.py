"""Pace: what this machine sustains, measured while it plays, and what follows from it.

A turn of a knob takes back what has not been promised, and the notes that come instead must be there when the
playhead arrives. How much is promised therefore depends on how long the first of them take.
"""

from __future__ import annotations

from collections import deque

from mlxgen.music.theory import TICKS_PER_QUARTER

FIRST_IDS = 32              # about what the first moment of new music takes: four voices, a time shift
SPARE_S = 0.04              # for everything else: a rewind, a pipe, a playhead that is a little ahead
GUESSED_STEP_S = 0.003
GUESSED_PREFILL_IDS_PER_S = 1200.0
LATELY = 96                 # steps that count as lately
CAUTION = 0.8               # of the measured speed of prefills is counted on


class Pace:
    """`stepped(seconds)` after every step, `prefilled(ids, seconds)` after every long prefill."""

    def __init__(self):
        self._steps_s: deque[float] = deque(maxlen=512)
        self._lately_s: deque[float] = deque([GUESSED_STEP_S], maxlen=LATELY)
        self.prefill_ids_per_s = GUESSED_PREFILL_IDS_PER_S
        self.has_read = False               # that is no guess any more

    def stepped(self, seconds: float) -> None:
        self._steps_s.append(seconds)
        self._lately_s.append(seconds)

    def prefilled(self, ids: int, seconds: float) -> None:
        """Slower than thought is believed at once, faster by and by."""
        rate = ids / max(seconds, 1e-6)
        self.prefill_ids_per_s = min(rate, 0.5 * (rate + self.prefill_ids_per_s))

    def practised(self, ids: int, seconds: float) -> None:
        """A prefill for its own sake."""
        self.prefill_ids_per_s, self.has_read = ids / max(seconds, 1e-6), True

    @property
    def first_notes_s(self) -> float:
        """From a rewind until the first new notes are with the player."""
        return SPARE_S + FIRST_IDS * sum(self._lately_s) / len(self._lately_s)

    def affordable_ids(self, seconds: float) -> int:
        """How many ids can be prefilled within `seconds`."""
        return int(max(0.0, seconds) * self.prefill_ids_per_s * CAUTION)

    def prefill_s(self, ids: int) -> float:
        """How long a prefill of `ids` takes."""
        return ids / (self.prefill_ids_per_s * CAUTION)

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
