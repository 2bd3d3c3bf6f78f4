"""Conductor: the parent process. It starts the others, carries controls to them, and ends everything well.

It plays no note itself and opens no output. What goes wrong with the others is its guard's business; when the
conductor itself dies the player sees that and ends the notes.
"""

from __future__ import annotations

import select
import signal
import time
from dataclasses import replace

from mlxgen.music.theory import bar_ticks, beat_ticks
from mlxgen.music.vocab import Vocab
from mlxgen.perform import mac
from mlxgen.perform.controls import Control, Desk, controls_for
from mlxgen.perform.guard import Guard
from mlxgen.perform.hands import Hands
from mlxgen.perform.log import FORMAT, SessionLog
from mlxgen.perform.mapping import Mapping, default_bindings, load_mapping
from mlxgen.perform.material import density_bias
from mlxgen.perform.osc import open_osc, read_osc
from mlxgen.perform.player import PlayerSettings
from mlxgen.perform.processes import CONDUCTOR, prefer
from mlxgen.perform.settings import SessionSettings
from mlxgen.perform.troupe import StreamSettings, Troupe

TICK_S = 0.05
TURN_S = 0.08           # knobs that are turned on and on are passed on so often


class Conductor:
    """`start()`, then `tick()` again and again until it is False, then `stop()`; use as a context manager."""

    def __init__(self, settings: StreamSettings):
        self.settings = settings
        self.troupe = Troupe(settings)
        self.shared = self.troupe.shared
        self.vocab = Vocab.load(settings.model_folder / "tokenizer.json")
        self.meter = settings.session.conditioning.with_defaults().meter
        self.controls = controls_for(self.vocab)
        self.desk = Desk(self.controls, self._first_values(), self._route)
        self.mapping = (
            Mapping(default_bindings(self.controls))
            if settings.mapping is None
            else load_mapping(settings.mapping, self.controls)
        )
        self.hands = Hands(self.troupe, self.vocab, self.desk, self.mapping, self.note)
        self.log = SessionLog(str(settings.log) if settings.log else None, self.note, anew=True)
        self.guard = Guard(self.troupe, self.meter, self.order, self.note)
        self.guard.session_now, self.guard.player_now = self._session_now, self._player_now
        self.messages: list[str] = []       # the newest last
        self.status: dict = {}
        self.rows: list[tuple] = []         # of the roll, taken by the screen
        self.stopping = False
        self._ended_epoch = 0
        self._pending: dict[str, tuple[Control, object, float]] = {}   # and when it was turned
        self._turned_s = 0.0                # when controls were last passed on
        self._sources: dict = {}            # what else can be read: file -> function

    @property
    def port_name(self) -> str:
        return self.shared.port_name

    def _first_values(self) -> dict:
        session, player = self.settings.session, self.settings.player
        said = vars(session.conditioning.with_defaults())
        values = {name: said[name] for name in self.controls if said.get(name) is not None}
        return {
            **values,
            "temperature": session.params.temperature,
            "min_p": session.params.min_p,
            "key": session.key.name,
            "tempo": player.tempo_bpm,
            "nudge_ms": player.nudge_s * 1e3,
        }

    # -- beginning and end ---------------------------------------------------------------------------------

    def __enter__(self) -> Conductor:
        self.start()
        return self

    def __exit__(self, *_error) -> None:
        self.stop()

    def start(self) -> None:
        """Start the processes; returns when the port is open. ValueError if it cannot be opened."""
        settings = self.settings
        mac.prevent_sleep()
        prefer(CONDUCTOR)
        self.log.write({"format": FORMAT, "model": str(settings.model_folder), **self._describe()})
        self.guard.begin_recording(settings.player.tempo_bpm, self.meter)
        if settings.osc_port is not None:
            listener = open_osc(settings.osc_port)
            self._sources[listener] = lambda: read_osc(listener, self.desk, self.note)
        self.troupe.start_generator(self._session_now())
        try:
            self.troupe.start_player(self._player_now())
            self.hands.open()
        except ValueError:
            self.stop()
            raise
        self.troupe.start_watcher()

    def _describe(self) -> dict:
        session, player = self.settings.session, self.settings.player
        conditioning = session.conditioning.with_defaults()
        return {
            "seed": session.seed,
            "key": session.key.name,
            "tempo_bpm": player.tempo_bpm,
            "window": self.settings.window,
            "channels": player.channels,
            "conditioning": {name: value for name, value in vars(conditioning).items() if value is not None},
            "velocity": vars(session.velocity),
        }

    def _session_now(self) -> SessionSettings:
        """As the performance began, with the controls as they stand now."""
        session, values = self.settings.session, self.desk.values
        character = {
            name: value for name, value in values.items() if value and hasattr(session.conditioning, name)
        }
        return replace(
            session,
            conditioning=replace(session.conditioning, **character),
            key=type(session.key).parse(values["key"]),
            params=replace(session.params, temperature=values["temperature"], min_p=values["min_p"]),
            rules=replace(session.rules, bias=density_bias(values["density"], self.vocab)),
        )

    def _player_now(self) -> PlayerSettings:
        return replace(self.settings.player, tempo_bpm=self.desk.values["tempo"],
                       nudge_s=self.desk.values["nudge_ms"] / 1e3, beat_ticks=beat_ticks(self.meter),
                       bar_ticks=bar_ticks(self.meter))

    def stop(self) -> None:
        """End the notes, then the processes, then the files."""
        self.stopping = True
        self.troupe.end()
        self.hands.close()
        self.guard.close()
        self._log_ended()
        self.log.write({"op": "stop"})
        self.log.close()

    # -- while it plays ------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Something to tell: kept for the screen and written into the log."""
        self.messages.append(text)
        del self.messages[:-20]
        self.log.write({"op": "note", "text": text})

    def order(self, name: str, *values: float) -> None:
        if not self.troupe.order(name, *values) and not self.stopping:
            self.note(f"the player does not take orders ({name})")

    def tick(self, wait_s: float = TICK_S) -> bool:
        """Wait for something to do, at most `wait_s`, and do it. False when the performance is over."""
        troupe = self.troupe
        if self._pending:
            wait_s = min(wait_s, max(0.0, self._turned_s + TURN_S - time.monotonic()))
        readable = [troupe.generator_pipe, troupe.generator.sentinel, troupe.player.sentinel,
                    *self._sources, *self.hands.inputs]
        for source in select.select(readable, [], [], wait_s)[0]:
            if source is troupe.generator_pipe:
                self._hear_generator()
            elif source in self._sources:
                self._sources[source]()
            elif source in self.hands.inputs:
                self.hands.read(source)
        self._send_controls()
        self.hands.look()
        self._log_ended()
        self._look()
        return not self.stopping and self.shared.position(time.monotonic()).state != "ended"

    def _look(self) -> None:
        """After everybody else: nothing is replaced while the performance ends."""
        if self.stopping:
            return
        if self.guard.look():
            self._pend(self.controls["panic"], 1)
            self._pend(self.controls["mute_1"], self.desk.values["mute_1"])     # and all others
        self.hands.watch()
        self.stopping = self.stopping or self.guard.gave_up

    def add_source(self, file, function) -> None:
        """Have `function()` called whenever `file` can be read."""
        self._sources[file] = function

    def _route(self, control: Control, value, source: str) -> None:
        """A control was turned: a panic goes at once, of everything else the newest value at the end of the
        tick, and not sooner than TURN_S after the one before.
        """
        if control.name == "panic":
            self.order("panic")
        self._pend(control, value)

    def _pend(self, control: Control, value) -> None:
        self._pending[control.name] = control, value, time.monotonic()

    def _send_controls(self) -> None:
        now_s = time.monotonic()
        if not self._pending or now_s - self._turned_s < TURN_S:
            return              # a flood: later, and only the newest
        self._turned_s = now_s
        for name, (control, value, turned_s) in list(self._pending.items()):
            message = "control", name, value, turned_s
            if control.target != "player" and not self.troupe.tell_generator(message):
                continue            # it is behind: next time
            del self._pending[name]
            if control.target == "player":
                order, values = self._player_order(control, value)
                self.order(order, *values)
            tick = round(self.shared.position(time.monotonic()).tick, 1)
            self.log.write({"op": "turn", "name": name, "value": value, "tick": tick})

    def _player_order(self, control: Control, value) -> tuple[str, tuple]:
        if control.name.startswith("mute_"):
            mask = sum(1 << number - 1 for number in range(1, 5) if self.desk.values.get(f"mute_{number}"))
            return "mute", (mask,)
        if control.name == "nudge_ms":
            return "nudge", (value / 1e3,)
        return control.name, (value,)

    def _hear_generator(self) -> None:
        pipe = self.troupe.generator_pipe
        try:
            while pipe.poll():
                kind, value = pipe.recv()
                self.guard.heard_generator()
                if kind == "status":
                    self.status = value
                elif kind == "note":
                    self.note(value)
                else:
                    self.rows.append((kind, value))
                    del self.rows[:-500]
        except (EOFError, ConnectionError):
            pass        # `_look_after_processes` sees it too

    def _log_ended(self) -> None:
        """How far an epoch's notes were played: a replay stops there."""
        epoch = int(self.shared.get("ended_epoch"))
        if epoch != self._ended_epoch:
            self._ended_epoch = epoch
            self.log.write({"op": "ended", "epoch": epoch, "tick": self.shared.get("ended_tick")})


def install_signals(conductor: Conductor) -> None:
    """SIGTERM, SIGHUP and Ctrl-C end the performance the ordinary way. Ctrl-Z, which would leave notes
    hanging until somebody says `fg`, does nothing, here and in the processes started afterwards.
    """
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)

    def leave(*_signal) -> None:
        conductor.stopping = True

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)
