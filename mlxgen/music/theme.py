"""A theme written as text: "D4:q A4:e r:e Bb4:q. C5:h" -> notes."""

from __future__ import annotations

import re

from mlxgen.music.piece import Note
from mlxgen.music.theory import STEP_PITCH_CLASS, TICKS_PER_QUARTER

_VALUES = {"w": 4 * TICKS_PER_QUARTER, "h": 2 * TICKS_PER_QUARTER, "q": TICKS_PER_QUARTER,
           "e": TICKS_PER_QUARTER // 2, "s": TICKS_PER_QUARTER // 4, "t": TICKS_PER_QUARTER // 8}
_GRID_TICKS = _VALUES["t"]
_ITEM = re.compile(r"^(?:(?P<rest>[rR])|(?P<step>[A-Ga-g])(?P<alter>##?|bb?|[♯♭])?(?P<octave>-?\d+))"
                   r":(?P<length>[^:]+)$")
_ALTER = {None: 0, "#": 1, "##": 2, "♯": 1, "b": -1, "bb": -2, "♭": -1}
_HELP = ("expected a pitch with its octave (C4 is middle C; # and b) or r for a rest, a colon, and a length: "
         "w h q e s t (whole to 32nd), dots, and + for ties, such as D4:q Bb4:q. r:e C5:h+e")


def _duration(text: str, where: str) -> int:
    """"q." -> 720, "h+e" -> 1200."""
    total = 0
    for part in text.split("+"):
        value, dots = part[:1], part[1:]
        if value not in _VALUES or dots.strip("."):
            raise ValueError(f"{where}: no length {part!r}; {_HELP}")
        ticks = _VALUES[value] * 2 - _VALUES[value] / 2 ** len(dots)
        if ticks % _GRID_TICKS:
            raise ValueError(f"{where}: {part!r} is finer than a 32nd note")
        total += int(ticks)
    return total


def parse_theme(text: str) -> list[Note]:
    """Notes of one voice, one after the other from tick 0.

    Items stand apart by blanks (or commas): a pitch with its octave, or r, then ":" and a length. Raises
    ValueError that names the item at fault, its place in the text, and what was expected.
    """
    notes: list[Note] = []
    now_ticks = 0
    for number, item in enumerate(text.replace(",", " ").split(), start=1):
        where = f"theme item {number}, {item!r}"
        match = _ITEM.match(item)
        if match is None:
            raise ValueError(f"{where}: {_HELP}")
        duration_ticks = _duration(match["length"], where)
        if not match["rest"]:
            step = STEP_PITCH_CLASS[match["step"].upper()]
            pitch = 12 * (int(match["octave"]) + 1) + step + _ALTER[match["alter"]]
            if not 0 <= pitch <= 127:
                raise ValueError(f"{where}: outside MIDI's range, C-1 to G9")
            notes.append(Note(now_ticks, duration_ticks, pitch))
        now_ticks += duration_ticks
    if not notes:
        raise ValueError(f"theme {text!r} has no notes; {_HELP}")
    return notes
