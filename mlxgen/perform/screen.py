"""The screen: a scrolling piano roll a voice, both zones, the buffer, the figures, and every control with its
key.

`render` is a pure function of what there is to show, so that a test can look at it; `run_screen` draws it
some eight times a second (rich writes one block of text; the generator needs the processor more than we do).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mlxgen.perform.keyboard import Keyboard
from mlxgen.perform.mapping import save_mapping
from mlxgen.perform.status import make_status
from mlxgen.perform.wire import TimedNote

FRAME_S = 0.125
COLUMN_TICKS = 120
KEPT_NOTES = 600
PLAYHEAD_AT = 0.4           # of the roll's width
LABEL = 7                   # columns before the roll
MUTED = "grey30"
PAST, COMMITTED, TENTATIVE = "grey58", "bold bright_green", "cyan"
LEAST_RANGE = 14            # semitones that a lane shows at least
NAMES = {4: ("sopr.", "alto", "tenor", "bass"), 3: ("upper", "mid", "lower"), 2: ("upper", "lower")}
SHOWN_KEYS = {" ": "space", "\x7f": "bksp"}


@dataclass
class Roll:
    """The notes near the playhead, as the generator tells of them."""

    notes: deque = field(default_factory=lambda: deque(maxlen=KEPT_NOTES))

    def take(self, rows: list[tuple]) -> None:
        for kind, value in rows:
            if kind == "notes":
                self.notes.extend(TimedNote(*note) for note in value)
            elif kind == "truncate":
                self.notes = deque(
                    (note for note in self.notes if note.start_ticks < value), maxlen=KEPT_NOTES
                )


def render(status: dict, roll: Roll, controls: dict, width: int, height: int) -> Text:
    """One screenful, `height` lines of `width` columns; made for 80 x 24 and more."""
    lines = [_head(status, width), _figures(status, width)]
    table = _controls(status, controls, width)
    voices = status["voices"]
    lane_rows = max(1, (height - len(lines) - len(table) - 2) // voices)
    lines += _roll(status, roll, width, lane_rows)
    lines += table
    slow = (
        f"too slow for this tempo: slow down to {status['slow_to_bpm']:.0f} bpm  "
        if status["slow_to_bpm"]
        else ""
    )
    lines.append(Text(f" {slow}{status['note']}"[:width], style="yellow"))
    lines = lines[:height]
    return Text("\n").join(line if len(line) <= width else line[:width] for line in lines)


def _head(status: dict, width: int) -> Text:
    place = f"bar {status['bar']} beat {status['beat']}" if status["state"] != "waiting" else "getting ready"
    port = status["port"] if status["port_open"] else f"{status['port']} IS GONE, playing on in silence"
    text = Text(
        f" mlxgen  {status['form']}, {status['key'] or '...'}, {status['tempo_bpm']:.0f} bpm   {place}   "
        f"{status['state']} to {port}",
        style="bold white on dark_blue",
    )
    text.pad_right(max(0, width - len(text)))
    if not status["port_open"]:
        text.stylize("bold white on red")
    return text


_NARROW = (
    " ahead {gauge} {ahead_bars:.1f}  {ids_per_s:.0f} ids/s {p50_ms:.0f}/{p95_ms:.0f}/{p99_ms:.0f} ms  "
    "late {late_p99_ms:.2f}/{late_max_ms:.1f} ms  under {underruns}"
)
_WIDE = (
    " ahead {gauge} {ahead_bars:.1f} of {buffer_bars:g} bars   {ids_per_s:.0f} ids/s, p50/95/99 {p50_ms:.1f}/"
    "{p95_ms:.1f}/{p99_ms:.1f} ms   late p99 {late_p99_ms:.2f} max {late_max_ms:.2f} ms   "
    "underruns {underruns}"
)


def _figures(status: dict, width: int) -> Text:
    full = max(0, min(10, round(10 * status["ahead_bars"] / status["buffer_bars"])))
    template = _NARROW if width < 110 else _WIDE
    return Text(template.format(**status, gauge="█" * full + "░" * (10 - full)))


def _roll(status: dict, roll: Roll, width: int, lane_rows: int) -> list[Text]:
    columns = width - LABEL
    first_column = int(status["tick"] // COLUMN_TICKS) - int(columns * PLAYHEAD_AT)
    voices = status["voices"]
    lines = [_ruler(status, first_column, columns)]
    for voice in range(1, voices + 1):
        notes = [note for note in roll.notes if note.voice == voice]
        name = NAMES.get(voices, NAMES[4])[voice - 1]
        lines += _lane(notes, name, voice in status["muted"], status, (first_column, columns), lane_rows)
    return lines


def _ruler(status: dict, first_column: int, columns: int) -> Text:
    cells = [" "] * columns
    bar = status["bar_ticks"]
    for column in range(columns):
        tick = (first_column + column) * COLUMN_TICKS
        if tick >= 0 and tick % bar == 0:
            for place, letter in enumerate(str(tick // bar + 1)):
                if column + place < columns:
                    cells[column + place] = letter
        elif tick >= 0 and tick % status["beat_ticks"] == 0 and cells[column] == " ":
            cells[column] = "·"
    text = Text(" " * LABEL + "".join(cells), style="grey50")
    playhead = LABEL + int(columns * PLAYHEAD_AT)
    text.plain = text.plain[:playhead] + "▼" + text.plain[playhead + 1:]
    text.stylize("bold bright_yellow", playhead, playhead + 1)
    return text


def _lane(notes, name, muted, status, span: tuple[int, int], rows: int) -> list[Text]:
    """One voice: each text row holds two pitch rows, as half blocks. `span`: first column, columns."""
    first_column, columns = span
    low, high = _pitch_range(notes)
    halves = [[""] * columns for _ in range(rows * 2)]
    for note in notes:
        row = halves[(high - note.pitch) * len(halves) // (high - low + 1)]
        begin = note.start_ticks // COLUMN_TICKS - first_column
        length = max(1, note.duration_ticks // COLUMN_TICKS)
        for column in range(max(0, begin), min(columns, begin + length)):
            row[column] = MUTED if muted else _zone(note, status)
    lines = []
    for row in range(rows):
        line = Text()
        line.append(
            f" {name:{LABEL - 1}s}" if row == 0 else " " * LABEL, style="strike grey50" if muted else "grey62"
        )
        for column, (top, bottom) in enumerate(zip(halves[2 * row], halves[2 * row + 1], strict=True)):
            if top or bottom:
                line.append("█" if top and bottom else "▀" if top else "▄", style=top or bottom)
            elif column == int(columns * PLAYHEAD_AT):
                line.append("│", style="yellow")
            else:
                line.append(" ")
        lines.append(line)
    return lines


def _pitch_range(notes) -> tuple[int, int]:
    """The lowest and the highest pitch that a lane has room for: what the voice has played lately."""
    low, high = (
        min((note.pitch for note in notes), default=60),
        max((note.pitch for note in notes), default=60),
    )
    lacking = max(0, LEAST_RANGE - (high - low + 1))
    return low - lacking // 2, high + lacking - lacking // 2


def _zone(note: TimedNote, status: dict) -> str:
    if note.start_ticks <= status["tick"]:
        return "bold bright_yellow" if note.start_ticks + note.duration_ticks > status["tick"] else PAST
    return COMMITTED if note.start_ticks <= status["tick"] + status["commit_ticks"] else TENTATIVE


def _controls(status: dict, controls: dict, width: int) -> list[Text]:
    """The table of controls, filled column by column."""
    cells = [_cell(control, status["controls"].get(control.name)) for control in controls.values()]
    cells += [("L", "learn a knob", ""), ("q", "quit", "")]
    columns = max(1, width // 26)
    rows = -(-len(cells) // columns)
    wide = width // columns
    lines = []
    for row in range(rows):
        line = Text()
        for number in range(row, len(cells), rows):
            keys, name, value = cells[number]
            line.append(f" {keys:>5s} ", style="bold bright_white")
            room = wide - 8
            shown = f"{name} " if value else name
            line.append(shown[:room], style="grey70")
            line.append(value[:max(0, room - len(shown))], style="bold bright_cyan")
            line.pad_right(max(0, wide * (number // rows + 1) - len(line)))
        lines.append(line)
    return lines


def _cell(control, value) -> tuple[str, str, str]:
    keys = " ".join(SHOWN_KEYS.get(key, key) for key in control.keys[:2 if len(control.keys[0]) == 1 else 1])
    if control.name == "panic":
        keys = "!"
    name = control.name.replace("harmonic_", "").replace("_", " ")
    if control.kind == "action":
        return keys, name, ""
    if control.kind == "switch":
        return keys, name, "on" if value else "off"
    return keys, name, f"{value:g}" if control.kind == "number" else str(value or "-")


class Keys:
    """What the keyboard means: the registry's keys, L to learn, q to quit."""

    def __init__(self, conductor, mapping_path: Path | None):
        self.conductor, self.mapping_path, self.learning = conductor, mapping_path, False

    def press(self, key: str) -> None:
        conductor = self.conductor
        if key == "q":
            conductor.stopping = True
        elif key == "L":
            self.learning = not self.learning
            conductor.mapping.learn(None)
            conductor.note(
                "learn: press a control's key, then move the knob" if self.learning else "learn: no"
            )
        elif self.learning:
            self._choose(key)
        elif key == "\x1b":
            conductor.desk.turn("panic", 1, "keyboard")
        else:
            conductor.desk.press(key)

    def _choose(self, key: str) -> None:
        self.learning = False
        for control in self.conductor.controls.values():
            if key in control.keys:
                self.conductor.mapping.learn(control.name)
                self.conductor.note(f"learn: now move the knob for {control.name}")

    def save(self) -> None:
        """Keep what was learned."""
        if self.mapping_path is not None and self.conductor.mapping.changed:
            save_mapping(self.mapping_path, self.conductor.mapping)
            self.conductor.mapping.changed = False
            self.conductor.note(f"learned; kept in {self.mapping_path}")


def run_screen(conductor, mapping_path: Path | None = None) -> None:
    """Show a performance until it is over."""
    console, roll, drawn_s = Console(), Roll(), 0.0
    keys = Keys(conductor, mapping_path)
    with Keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        if keyboard.fileno is not None:
            conductor.add_source(keyboard.fileno, lambda: [keys.press(key) for key in keyboard.read()])
        while conductor.tick():
            if time.monotonic() - drawn_s >= FRAME_S:
                drawn_s = time.monotonic()
                roll.take(conductor.rows)
                conductor.rows.clear()
                keys.save()
                live.update(
                    render(make_status(conductor), roll, conductor.controls, *console.size), refresh=True
                )
