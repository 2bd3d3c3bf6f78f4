"""The screen: what sounds, how far ahead the music is, the roll, and every control with its key and value.

`render` is a pure function of what there is to show, so that a test can look at it; `run_screen` draws it
some eight times a second (rich writes one block of text; the generator needs the processor more than we do).
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mlxgen.perform.keyboard import Keyboard
from mlxgen.perform.mapping import save_mapping
from mlxgen.perform.roll import Roll, draw_roll
from mlxgen.perform.status import make_status

FRAME_S = 0.125
CELL = 26               # columns of one control, at least
GAUGE = 10
KEY_NAMES = {" ": "space", "\x7f": "bksp"}
STATE_STYLES = {"playing": "on dark_blue", "waiting": "on dark_blue", "ended": "on grey30",
                "paused": "on dark_orange3", "holding": "on red3"}
STATES = {"waiting": "getting ready", "holding": "UNDERRUN, waits for notes", "paused": "PAUSED"}


def render(status: dict, roll: Roll, controls: dict, width: int, height: int) -> Text:
    """One screenful, `height` lines of `width` columns; made for 80 x 24 and more."""
    lines = [_head(status, width), _buffer(status, width), _figures(status, width)]
    table = _controls(status, controls, width)
    lane_rows = max(1, (height - len(lines) - len(table) - 2) // status["voices"])
    lines += draw_roll(status, roll, width, lane_rows)
    lines += [Text()] * max(0, height - len(lines) - len(table) - 1)
    lines += table
    lines.append(Text(f" {_say(status)}"[:width], style="bold yellow"))
    lines = lines[:height]
    return Text("\n").join(line if len(line) <= width else line[:width] for line in lines)


def _head(status: dict, width: int) -> Text:
    state = status["state"]
    key = status["key"] or "..."
    if status["coming_key"]:
        key += f" → {status['coming_key']}"
    place = "" if state == "waiting" else f"bar {status['bar']} beat {status['beat']}   "
    port = status["port"] if status["port_open"] else f"{status['port']} IS GONE, playing on in silence"
    doing = "listening" if status["listening"] else STATES.get(state, state)
    text = Text(f" mlxgen  {status['form']}, {key}, {status['tempo_bpm']:.0f} bpm   {place}{doing} to {port}")
    text.pad_right(max(0, width - len(text)))
    text.stylize("bold white " + (STATE_STYLES[state] if status["port_open"] else "on red3"))
    return text


def _buffer(status: dict, width: int) -> Text:
    """What a performer looks at: the music in hand, and how soon a turn is heard."""
    share = status["ahead_bars"] / status["buffer_bars"]
    full = max(0, min(GAUGE, round(GAUGE * share)))
    text = Text(" buffer ")
    text.append("█" * full + "░" * (GAUGE - full),
                style="green" if share > 0.5 else "yellow" if share > 0.2 else "bold red")
    text.append(f" {status['ahead_bars']:.1f} of {status['buffer_bars']:g} bars")
    slow = status["turn_ms"] > 60e3 / status["tempo_bpm"]
    text.append(f"   turns heard in {status['turn_ms'] / 1e3:.2f} s", style="bold red" if slow else "")
    troubles = status["underruns"] + status["stalls"]
    text.append(f"   underruns {status['underruns']}", style="bold red" if troubles else "")
    if status["stalls"]:
        text.append(f" stalls {status['stalls']}", style="bold red")
    return text


_NARROW = (
    " {ids_per_s:.0f} ids/s   step {p50_ms:.1f}/{p95_ms:.1f}/{p99_ms:.1f} ms   "
    "late {late_p50_ms:.2f}/{late_p99_ms:.2f} max {late_max_ms:.1f} ms"
)
_WIDE = (
    " {ids_per_s:.0f} ids/s, a step p50 {p50_ms:.1f} p95 {p95_ms:.1f} p99 {p99_ms:.1f} ms   "
    "notes late p50 {late_p50_ms:.2f} p99 {late_p99_ms:.2f} max {late_max_ms:.2f} ms"
)


def _figures(status: dict, width: int) -> Text:
    return Text((_NARROW if width < 100 else _WIDE).format(**status), style="grey58")


def _say(status: dict) -> str:
    slow = f"too slow for this tempo: slow down to {status['slow_to_bpm']:.0f} bpm  "
    return f"{slow if status['slow_to_bpm'] else ''}{status['note']}"


def _controls(status: dict, controls: dict, width: int) -> list[Text]:
    """The table of controls, filled column by column; the voices' mutes are beside their lanes."""
    cells = [_cell(control, status["controls"].get(control.name)) for control in controls.values()
             if not control.name.startswith("mute_")]
    cells = [*cells, (f"1-{status['voices']}", "mute a voice", ""), ("L", "learn a MIDI knob", ""),
             ("q", "quit", "")]
    rows = -(-len(cells) // max(1, width // CELL))
    columns = [cells[first:first + rows] for first in range(0, len(cells), rows)]
    spare = max(0, width - sum(sum(_widths(column)) for column in columns)) // len(columns)
    lines = [Text() for _ in range(rows)]
    for column in columns:
        keys_wide, name_wide, value_wide = _widths(column)
        for line, (keys, name, value) in zip(lines, column, strict=False):
            line.append(f" {keys:>{keys_wide - 2}s} ", style="bold bright_white")
            line.append(f"{name:{name_wide}s}", style="bold red" if name == "panic" else "grey70")
            line.append(f"{value:{value_wide + spare}s}", style="bold bright_cyan")
    return lines


def _widths(cells: list[tuple[str, str, str]]) -> tuple[int, int, int]:
    """Columns that keys, names and values take, with what is left free between them."""
    valued = [name for _, name, value in cells if value] or [name for _, name, _ in cells]
    keys, name = max(len(keys) for keys, _, _ in cells) + 2, max(map(len, valued)) + 1
    rest = max(max(len(value), len(label) - name) for _, label, value in cells)
    return keys, name, rest + 1


def _cell(control, value) -> tuple[str, str, str]:
    """(keys, name, value)."""
    keys = " ".join(KEY_NAMES.get(key, key) for key in control.keys)
    name = control.name.replace("harmonic_", "").replace("_", " ")
    if control.kind == "choice":
        return f"{control.keys[1]} {control.keys[0]}", name, str(value or "-")      # forward first
    if control.kind == "action":
        return control.keys[0], name, ""
    return keys, name, f"{value:g}" if control.kind == "number" else "on" if value else "off"


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
