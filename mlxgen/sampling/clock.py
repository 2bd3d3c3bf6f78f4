"""Positions in a bar and the shifts between them, as the encoder cuts gaps: the largest first."""

from __future__ import annotations

from mlxgen.music.theory import bar_ticks, beat_count, beat_ticks

FRESH = 10**6  # no limit on the next shift: nothing has been shifted since the last note or line
ON_LINE = 10**6  # see Clock.reach


class Clock:
    """Positions in a bar, in units, and which shifts the encoder can write from them."""

    def __init__(self, meter: tuple[int, int], shifts: dict[int, int], unit_ticks: int):
        self.bar, self.beat = bar_ticks(meter) // unit_ticks, beat_ticks(meter) // unit_ticks
        self.beats = beat_count(meter)
        self.bins = sorted(shifts)

    def next_line(self, position: int) -> int:
        return min((position // self.beat + 1) * self.beat, self.bar)

    def room_after(self, shift: int, room: int) -> int:
        """How much may still be shifted after `shift` (less than this), if the gap is cut largest first."""
        larger = next((units for units in self.bins if units > shift), FRESH)
        return min(room - shift, larger - shift)

    def rooms(self) -> list[int]:
        """All values of room that can come up, the fresh one first."""
        found = [FRESH]
        for room in found:
            for shift in self.bins:
                left = self.room_after(shift, room)
                if shift < room and shift < self.beat and left not in found:
                    found.append(left)
        return found

    def reach(self, position: int, shift: int, room: int) -> int:
        """The largest gap that begins with this shift, ON_LINE if that gap ends on a line.

        -1 where the shift would cross a line or is not how the encoder would cut any gap.
        """
        to_line = self.next_line(position) - position
        if shift > to_line or shift >= room:
            return -1
        if shift == to_line:
            return ON_LINE
        best, left = shift, self.room_after(shift, room)
        for more in self.bins:
            further = self.reach(position + shift, more, left)
            if further == ON_LINE:
                return ON_LINE
            if further >= 0:
                best = max(best, shift + further)
        return best
