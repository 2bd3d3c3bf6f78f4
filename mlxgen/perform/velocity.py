"""How loud: the meter's accents, the phrase's arch and the line's own direction, from the note alone.

A pure function of the note and where it stands, so that a replayed session sounds the same. Accents follow
the usual account of metrical weight (Lerdahl and Jackendoff 1983): the downbeat strongest, then the middle of
an even bar, then the other beats, then what lies between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlxgen.music.piece import Note
from mlxgen.music.theory import bar_ticks, beat_count, beat_ticks

PHRASE_BARS = 4


@dataclass(frozen=True)
class VelocityShape:
    """`base` 1-127; the three others are the most that each may add or take, in velocity steps."""

    base: int = 72
    metric: float = 10.0
    phrase: float = 8.0
    register: float = 5.0

    def __post_init__(self):
        if not 1 <= self.base <= 127:
            raise ValueError(f"velocity {self.base}: expected 1 to 127")


FLAT = VelocityShape(metric=0.0, phrase=0.0, register=0.0)


def metric_weight(tick: int, meter: tuple[int, int]) -> float:
    """1 on the downbeat, 0.5 on an even bar's middle beat, 0 on other beats, -0.5 and -1 between them."""
    beat = beat_ticks(meter)
    number, rest = divmod(tick % bar_ticks(meter), beat)
    if rest:
        return -0.5 if rest * 2 % beat == 0 else -1.0
    if number == 0:
        return 1.0
    beats = beat_count(meter)
    return 0.5 if beats % 2 == 0 and number == beats // 2 else 0.0


def phrase_weight(tick: int, meter: tuple[int, int]) -> float:
    """-1 at the ends of a four-bar phrase, 1 a little past its middle."""
    place = tick / (bar_ticks(meter) * PHRASE_BARS) % 1.0
    return -math.cos(2 * math.pi * place ** 1.2)


def shape_velocity(note: Note, voice: int, meter: tuple[int, int], shape: VelocityShape) -> int:
    """MIDI velocity 1-127: outer voices a little louder, high notes of a line swell."""
    register = max(-1.0, min(1.0, (note.pitch - (74 - 7 * (voice - 1))) / 12))
    value = (shape.base + shape.metric * metric_weight(note.start_ticks, meter)
             + shape.phrase * phrase_weight(note.start_ticks, meter) + shape.register * register)
    return max(1, min(127, round(value)))
