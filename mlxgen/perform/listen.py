"""ThemeListener: what somebody plays, put on the grid and told apart from what comes after it.

Fed with note messages and their ticks on the performance's own line; a theme is over when nothing sounded for
a beat, or when its last note has been held for a bar.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlxgen.music.piece import Note
from mlxgen.music.theory import Key, detect_key

GRID_TICKS = 120        # a sixteenth


def quantise(notes: Sequence[tuple[float, float, int]], bins: Sequence[int]) -> list[Note]:
    """(start tick, end tick, pitch) as played -> one voice on the grid.

    Onsets go to the nearest sixteenth; of two on the same one the higher stays. A note ends where the next
    begins if it was held longer or nearly so long, and has one of the durations in `bins`.
    """
    starts: dict[int, tuple[float, int]] = {}
    for start, end, pitch in sorted(notes):
        grid = round(start / GRID_TICKS) * GRID_TICKS
        if grid not in starts or pitch > starts[grid][1]:
            starts[grid] = (end - start, pitch)
    line = sorted(starts)
    result = []
    for start, following in zip(line, [*line[1:], None], strict=True):
        length, pitch = starts[start]
        if following is not None and length > (following - start) * 0.7:
            length = following - start
        fitting = [
            ticks
            for ticks in bins
            if ticks >= GRID_TICKS and (following is None or ticks <= following - start)
        ]
        result.append(Note(start, min(fitting or [GRID_TICKS], key=lambda ticks: abs(ticks - length)), pitch))
    return result


def key_of(notes: Sequence[Note]) -> Key:
    """The key that a line is likeliest in."""
    weights = [0.0] * 12
    for note in notes:
        weights[note.pitch % 12] += note.duration_ticks
    return detect_key(weights)


class ThemeListener:
    """`feed(message, tick)`, then ask `notes(tick)` and `is_over(tick)`."""

    def __init__(self, beat_ticks: int, bar_ticks: int, bins: Sequence[int]):
        self.beat_ticks, self.bar_ticks, self.bins = beat_ticks, bar_ticks, bins
        self.clear()

    def clear(self) -> None:
        self._played: list[tuple[float, float, int]] = []
        self._held: dict[int, float] = {}       # pitch -> tick it began
        self._last_tick = 0.0

    def feed(self, message: list[int], tick: float) -> bool:
        """True if the message was a note's beginning or end."""
        if len(message) < 3 or message[0] & 0xE0 != 0x80:
            return False
        pitch = message[1]
        if pitch in self._held:
            self._played.append((self._held.pop(pitch), tick, pitch))
            self._last_tick = tick
        if message[0] & 0x10 and message[2]:
            self._held[pitch] = tick
            self._last_tick = tick
        return True

    @property
    def began(self) -> bool:
        return bool(self._played or self._held)

    def notes(self, tick: float) -> list[Note]:
        """The theme so far; a held note counts up to `tick`."""
        held = [(start, max(tick, start + 1), pitch) for pitch, start in self._held.items()]
        return quantise([*self._played, *held], self.bins)

    def is_over(self, tick: float) -> bool:
        if not self.began:
            return False
        quiet = tick - self._last_tick
        return quiet >= (self.bar_ticks if self._held else self.beat_ticks)
