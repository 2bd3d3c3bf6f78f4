"""Hands: what comes in on MIDI inputs (knobs, an outer clock, a theme) and where it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from mlxgen.music.theory import bar_ticks, beat_ticks
from mlxgen.music.vocab import Vocab
from mlxgen.perform.controls import Desk
from mlxgen.perform.inputs import MidiInput
from mlxgen.perform.listen import ThemeListener
from mlxgen.perform.mapping import Mapping
from mlxgen.perform.ports import VIRTUAL
from mlxgen.perform.sync import ClockFollower
from mlxgen.perform.troupe import Troupe

WATCH_S = 0.25


class Hands:
    """`open()` the inputs of the settings, `read(input)` when one can be read, `look()` once a tick."""

    def __init__(
        self, troupe: Troupe, vocab: Vocab, desk: Desk, mapping: Mapping, note: Callable[[str], None]
    ):
        self.troupe, self.desk, self.mapping, self._note = troupe, desk, mapping, note
        self._inputs: dict[str, MidiInput] = {}
        meter = troupe.settings.session.conditioning.with_defaults().meter
        self.listener = ThemeListener(beat_ticks(meter), bar_ticks(meter), vocab.duration_bins)
        self._clock = ClockFollower()
        self._watched_s = 0.0
        self._said = ""

    @property
    def inputs(self) -> list[MidiInput]:
        """Those that are open."""
        return list(self._inputs.values())

    def open(self) -> None:
        """ValueError for a wrong name, listing what exists."""
        for name in self.troupe.inputs:
            self._open(name)

    def _open(self, name: str) -> None:
        spec = replace(self.troupe.settings.spec, name=None if name == VIRTUAL else name)
        self._inputs[name] = MidiInput(spec)

    def close(self) -> None:
        while self._inputs:
            self._inputs.popitem()[1].close()

    def watch(self) -> None:
        """Inputs are unplugged and plugged in again; they die with a JACK server, and come back with it.

        They must be closed before this process opens one again: libjack frees the clients of a dead server
        then, and closing one of those afterwards crashes.
        """
        now_s = time.monotonic()
        if now_s - self._watched_s < WATCH_S:
            return
        self._watched_s = now_s
        if not self.troupe.shared.get("system_seen"):
            self.close()
            return
        seen = int(self.troupe.shared.get("inputs_seen"))
        for number, name in enumerate(self.troupe.inputs):
            if name in self._inputs and not seen >> number & 1:
                self._inputs.pop(name).close()
                self._say(f"input {name!r} is gone")
            elif name not in self._inputs and seen >> number & 1:
                try:
                    self._open(name)
                    self._say(f"input {name!r} is back")
                except ValueError as error:
                    self._say(str(error))       # again and again, until it can be opened

    def _say(self, text: str) -> None:
        """Tell the performer, once."""
        if text != self._said:
            self._said = text
            self._note(text)

    def read(self, opened: MidiInput) -> None:
        settings = self.troupe.settings
        for at_s, message in opened.read():
            if message[0] >= 0xF0:
                if settings.player.clock_in:
                    for name, *values in self._clock.feed(message, at_s):
                        self.troupe.order(name, *values)
            elif not self.mapping.feed(message, self.desk) and settings.session.listen:
                self._hear(message, at_s)

    def _hear(self, message: list[int], at_s: float) -> None:
        position = self.troupe.shared.position(at_s)
        tick = position.tick
        if position.state == "waiting" and message[0] & 0xF0 == 0x90 and message[2]:
            # The first note is the first downbeat.
            self.troupe.order("start", 0, at_s - time.monotonic(), epoch=position.epoch)
            tick = 0.0
        if self.listener.feed(message, tick):
            self._tell(tick, over=False)

    def look(self) -> None:
        """Tell the generator when the theme is over."""
        if self.listener.began:
            tick = self.troupe.shared.position(time.monotonic()).tick
            if self.listener.is_over(tick):
                self._tell(tick, over=True)
                self.listener.clear()

    def _tell(self, tick: float, over: bool) -> None:
        self.troupe.tell_generator(("hear", [tuple(note) for note in self.listener.notes(tick)], over))
