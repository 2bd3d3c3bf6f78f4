"""The registry of controls: one row a control, whatever turns it: a key, a CC, OSC or a session's log."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlxgen.music.theory import SCALES, Key
from mlxgen.music.vocab import Vocab
from mlxgen.perform.clock import MAX_TEMPO_BPM, MIN_TEMPO_BPM

KEYS = tuple(Key(root, mode).name for mode in SCALES for root in range(12))
LEVELS = ("low", "moderate", "high")


@dataclass(frozen=True)
class Control:
    """One control. kind: "number" (low, high, step), "choice" (choices), "switch" (0 or 1), "action" (no
    value).

    target: who obeys it, "generator" or "player". keys: the keyboard's keys, (down, up) or (press,).
    """

    name: str
    kind: str
    target: str
    keys: tuple[str, ...]
    cc: int
    help: str
    low: float = 0.0
    high: float = 1.0
    step: float = 1.0
    choices: tuple[str, ...] = ()
    family: str = ""        # prefix of the vocabulary's tokens that say which choices there are

    @property
    def osc(self) -> str:
        return f"/mlxgen/{self.name}"

    def check(self, value):
        """The value as this control takes it. ValueError with the value and the range."""
        if self.kind == "action":
            return 1
        if self.kind == "choice":
            found = next(
                (choice for choice in self.choices if choice.casefold() == str(value).casefold()), None
            )
            if found is None:
                raise ValueError(f"{self.name} {value!r}: expected one of {', '.join(self.choices)}")
            return found
        try:
            number = round(float(value), 6)     # OSC's floats are single: 0.6 arrives as 0.60000002
        except (TypeError, ValueError):
            raise ValueError(f"{self.name} {value!r}: expected a number") from None
        if not self.low <= number <= self.high:
            raise ValueError(f"{self.name} {number:g}: expected {self.low:g} to {self.high:g}")
        return int(number) if self.kind == "switch" else number

    def from_unit(self, place: float):
        """0..1 (a fader's place) -> a value."""
        if self.kind == "choice":
            return self.choices[min(int(place * len(self.choices)), len(self.choices) - 1)]
        if self.kind == "switch":
            return int(place >= 0.5)
        return self.low + place * (self.high - self.low)

    def to_unit(self, value) -> float:
        """A value -> the fader's place, 0..1."""
        if self.kind == "choice":
            return self.choices.index(value) / max(1, len(self.choices) - 1) if value else 0.0
        return (value - self.low) / (self.high - self.low)

    def moved(self, value, steps: int):
        """The value `steps` steps further, held at the ends; choices go round."""
        if self.kind == "choice":
            place = self.choices.index(value) if value else -1 if steps > 0 else 0
            return self.choices[(place + steps) % len(self.choices)]
        if self.kind == "switch":
            return 1 - int(value)
        moved = round((value + steps * self.step) / self.step) * self.step
        return round(min(self.high, max(self.low, moved)), 6)


def _number(name: str, span: tuple[float, float, float], keys: str, cc: int, text: str) -> Control:
    """span: low, high, step. keys: the two that turn it down and up."""
    low, high, step = span
    return Control(name, "number", "generator", tuple(keys), cc, text, low, high, step)


def _choice(name: str, choices: tuple[str, ...], letter: str, cc: int, text: str) -> Control:
    """The letter goes on to the next, its capital goes back."""
    keys = (letter.upper(), letter)
    return Control(name, "choice", "generator", keys, cc, text, choices=choices, family=f"{name.upper()}_")


def _switch(name: str, key: str, cc: int, text: str) -> Control:
    return Control(name, "switch", "player", (key,), cc, text)


def _action(name: str, keys: tuple[str, ...], cc: int, text: str, target: str = "generator") -> Control:
    return Control(name, "action", target, keys, cc, text)


_ROWS = (
    _number("temperature", (0.1, 2.0, 0.05), "[]", 20, "boldness of the draws"),
    _number("min_p", (0.0, 0.3, 0.005), ";'", 21, "drop unlikely ids"),
    replace(_number("tempo", (MIN_TEMPO_BPM, MAX_TEMPO_BPM, 1.0), "-=", 22, "quarters a minute"),
            target="player"),
    _choice("key", KEYS, "k", 23, "modulate at the next bar line"),
    _choice("style", ("bach", "baroque", "renaissance", "classical"), "s", 24, "whose manner"),
    _choice("texture", ("homophonic", "polyphonic", "mixed"), "x", 25, "texture"),
    _choice("harmonic_tension", LEVELS, "n", 26, "harmonic tension"),
    _choice("imitation", ("none", "low", "high"), "i", 27, "imitation"),
    _choice("chromaticism", LEVELS, "c", 28, "how far from the scale"),
    _choice("harmonic_rhythm", ("slow", "moderate", "fast"), "h", 29, "harmonic rhythm"),
    _number("density", (-3.0, 3.0, 0.25), "dD", 30, "fewer or more notes"),
    replace(_number("nudge_ms", (-200.0, 200.0, 1.0), ",.", 31, "notes later or earlier"), target="player"),
    *(_switch(f"mute_{voice}", str(voice), 101 + voice, f"silence voice {voice}") for voice in range(1, 5)),
    _action("recall", ("r",), 106, "state the theme at the next bar"),
    _action("end", ("e",), 107, "cadence and end"),
    _switch("pause", " ", 108, "pause"),
    _action("panic", ("!", "\x7f"), 109, "all notes off, begin again", target="both"),
)
CONTROLS: dict[str, Control] = {control.name: control for control in _ROWS}


def controls_for(vocab: Vocab) -> dict[str, Control]:
    """The registry with each choice cut down to what the model's vocabulary has; families it lacks are left
    out.
    """
    result = {}
    for name, control in CONTROLS.items():
        if control.family:
            family = {suffix.casefold() for suffix in vocab.family(control.family)}
            known = tuple(choice for choice in control.choices
                          if choice.replace("#", "s").replace(" ", "_").casefold() in family)
            if not known:
                continue
            control = replace(control, choices=known)
        result[name] = control
    return result


DEFAULTS = {"temperature": 0.9, "min_p": 0.03, "tempo": 80.0}


class Desk:
    """The present value of every control. `turn(name, value)` checks it and gives it to `route`."""

    def __init__(self, controls: dict[str, Control], values: dict, route):
        self.controls, self._route = controls, route
        self.values = {
            name: None if values.get(name) is None and control.kind == "choice"     # not said
            else control.check(values.get(name, DEFAULTS.get(name, 0)))
            for name, control in controls.items()
        }

    def turn(self, name: str, value, source: str):
        """Set a control. ValueError for an unknown name or value."""
        if name not in self.controls:
            raise ValueError(f"control {name!r}: expected one of {', '.join(self.controls)}")
        control = self.controls[name]
        checked = control.check(value)
        if control.kind != "action":
            if self.values[name] == checked:
                return
            self.values[name] = checked
        self._route(control, checked, source)

    def press(self, key: str) -> bool:
        """A key of the keyboard. False if no control has it."""
        for control in self.controls.values():
            if key in control.keys:
                steps = 1 if key == control.keys[-1] else -1
                value = 1 if control.kind == "action" else control.moved(self.values[control.name], steps)
                self.turn(control.name, value, "keyboard")
                return True
        return False
