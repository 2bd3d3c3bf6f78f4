"""MIDI CC to controls: absolute, pickup and relative knobs, MIDI learn, and the TOML file that keeps them."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from mlxgen.perform.controls import Control

MODES = ("absolute", "pickup", "relative")
PICKUP_REACH = 2 / 127      # a knob this near to the value has hold of it


@dataclass(frozen=True)
class Binding:
    """One knob: CC number 0-127, channel 1-16 or 0 for all, and how its value is meant.

    absolute: the place of the knob is the value. pickup: the same, but only once the knob has passed the
    present value. relative: 1-63 are steps up, 127-65 steps down (two's complement).
    """

    control: str
    cc: int
    channel: int = 0
    mode: str = "absolute"

    def __post_init__(self):
        if not 0 <= self.cc <= 127:
            raise ValueError(f"{self.control}: cc {self.cc}: expected 0 to 127")
        if not 0 <= self.channel <= 16:
            raise ValueError(f"{self.control}: channel {self.channel}: expected 0 (all) to 16")
        if self.mode not in MODES:
            raise ValueError(f"{self.control}: mode {self.mode!r}: expected one of {', '.join(MODES)}")


def default_bindings(controls: dict[str, Control]) -> list[Binding]:
    return [Binding(control.name, control.cc) for control in controls.values()]


class Mapping:
    """Feeds CC messages to a desk: `feed(message, desk)`; `learn(name)` binds the next CC that moves."""

    def __init__(self, bindings: list[Binding]):
        self.bindings = list(bindings)
        self.learning: str | None = None
        self.changed = False                    # something was learned and is not kept yet
        self._last: dict[str, float] = {}       # control -> where its knob was last seen, 0..1

    def learn(self, control: str | None) -> None:
        self.learning = control

    def feed(self, message: list[int], desk) -> list[str]:
        """A MIDI message that is not a CC is passed over. Names of the controls that heard it."""
        if len(message) < 3 or message[0] & 0xF0 != 0xB0:
            return []
        channel, cc, value = (message[0] & 15) + 1, message[1], message[2]
        if self.learning is not None:
            self._bind(self.learning, cc, channel)
            self.learning = None
        heard = [binding for binding in self.bindings
                 if binding.cc == cc and binding.channel in (0, channel) and binding.control in desk.controls]
        for binding in heard:
            self._turn(binding, value, desk)
        return [binding.control for binding in heard]

    def _bind(self, control: str, cc: int, channel: int) -> None:
        """`cc` now turns `control` and nothing else; the control keeps its mode."""
        old = next((binding for binding in self.bindings if binding.control == control), Binding(control, cc))
        self.bindings = [
            binding
            for binding in self.bindings
            if binding.control != control and (binding.cc, binding.channel) not in ((cc, 0), (cc, channel))
        ]
        self.bindings.append(replace(old, cc=cc, channel=channel))
        self.changed = True

    def _turn(self, binding: Binding, value: int, desk) -> None:
        control = desk.controls[binding.control]
        if control.kind == "action":
            if value >= 64:
                desk.turn(control.name, 1, "cc")
        elif binding.mode == "relative":
            steps = value if value < 64 else value - 128
            if steps:
                desk.turn(control.name, control.moved(desk.values[control.name], steps), "cc")
        elif binding.mode == "absolute" or self._picked_up(control, value / 127, desk):
            desk.turn(control.name, control.from_unit(value / 127), "cc")

    def _picked_up(self, control: Control, place: float, desk) -> bool:
        """True once the knob has met or passed the control's value."""
        last = self._last.get(control.name)
        self._last[control.name] = place
        target = control.to_unit(desk.values[control.name])
        if abs(place - target) <= PICKUP_REACH:
            return True
        if last is None:
            return False
        return (last - target) * (place - target) < 0 or abs(last - target) <= PICKUP_REACH


def load_mapping(path: str | Path, controls: dict[str, Control]) -> Mapping:
    """The defaults, with what the file at `path` says instead; a file that is not there changes nothing.

    The file has a table for each control: [temperature] cc = 20, channel = 0, mode = "pickup".
    Raises ValueError naming the file, the control and what was expected.
    """
    bindings = {binding.control: binding for binding in default_bindings(controls)}
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        tables = {}
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML ({error})") from None
    for name, table in tables.items():
        if name not in controls:
            raise ValueError(f"{path}: control {name!r}: expected one of {', '.join(controls)}")
        unknown = set(table) - {"cc", "channel", "mode"} if isinstance(table, dict) else {"a value"}
        if unknown:
            raise ValueError(f"{path}: [{name}] {sorted(unknown)}: expected cc, channel, mode")
        try:
            bindings[name] = replace(bindings[name], **table)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from None
    return Mapping(list(bindings.values()))


def save_mapping(path: str | Path, mapping: Mapping) -> None:
    """Write the file whole, under another name first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(
        f'[{binding.control}]\ncc = {binding.cc}\nchannel = {binding.channel}\nmode = "{binding.mode}"\n\n'
        for binding in sorted(mapping.bindings, key=lambda binding: binding.control)
    )
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
