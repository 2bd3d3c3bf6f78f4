"""Conductor: the parent process. Starts generator and player, carries controls to them, and ends everything
well.

It plays no note itself and opens no output. When the generator dies it has the notes ended and starts
another; when the player dies the watcher ends the notes from a port of its own; when the conductor itself
dies the player sees that and ends them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import signal
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mlxgen.music.theory import bar_ticks, beat_ticks
from mlxgen.music.vocab import Vocab
from mlxgen.perform.controls import Control, Desk, controls_for
from mlxgen.perform.generator import GeneratorProcess, run_generator
from mlxgen.perform.inputs import MidiInput
from mlxgen.perform.listen import ThemeListener
from mlxgen.perform.log import FORMAT, SessionLog
from mlxgen.perform.mapping import Mapping, default_bindings, load_mapping
from mlxgen.perform.osc import open_osc, read_osc
from mlxgen.perform.player import PlayerSettings
from mlxgen.perform.playerproc import PlayerProcess, run_player
from mlxgen.perform.ports import PortSpec
from mlxgen.perform.record import Recorder
from mlxgen.perform.session import SessionSettings
from mlxgen.perform.shared import Shared
from mlxgen.perform.sync import ClockFollower
from mlxgen.perform.watch import WatcherProcess, run_watcher
from mlxgen.perform.wire import Writer, make_channel, pack_order

TICK_S = 0.05
VIRTUAL = "virtual"
WATCH_S = 0.5
RECORD_S = 1.0
RESTARTS_A_MINUTE = 3
START_S = 60.0          # the longest that a process may take to be ready


@dataclass(frozen=True)
class StreamSettings:
    """One performance, as the command line gives it."""

    model_folder: Path
    session: SessionSettings
    player: PlayerSettings
    spec: PortSpec = field(default_factory=PortSpec)
    window: int | None = None
    folder: Path | None = None          # the session's folder: log, recording, what libraries say
    record: Path | None = None
    log: Path | None = None
    mapping: Path | None = None
    osc_port: int | None = None
    control_port: str | None = None     # MIDI input whose CCs turn the controls; "virtual" makes one
    listen_port: str | None = None      # MIDI input on which a theme is played


class Conductor:
    """`start()`, then `tick()` again and again until it is False, then `stop()`; use as a context manager."""

    def __init__(self, settings: StreamSettings):
        self.settings = settings
        self.context = multiprocessing.get_context("spawn")
        self.shared = Shared(self.context)
        self.vocab = Vocab.load(settings.model_folder / "tokenizer.json")
        self.notes_reader, self.notes_writer = make_channel()
        self.orders_reader, orders_writer = make_channel()
        self.orders = Writer(orders_writer, timeout_s=1.0)
        self.controls = controls_for(self.vocab)
        self.desk = Desk(self.controls, self._first_values(), self._route)
        self.mapping = (Mapping(default_bindings(self.controls)) if settings.mapping is None
                        else load_mapping(settings.mapping, self.controls))
        self.log = SessionLog(str(settings.log) if settings.log else None, self.note)
        self.recorder: Recorder | None = None
        self.messages: list[str] = []       # the newest last
        self.status: dict = {}
        self.rows: list[tuple] = []         # of the roll, taken by the screen
        self.port_name = ""
        self.stopping = False
        self._restarts_s: list[float] = []
        self._watched_s = self._recorded_s = 0.0
        self._port_was_gone = False
        self._pending: dict[str, object] = {}
        self._sources: dict = {}            # what else can be read: file -> function
        self._inputs: list[MidiInput] = []
        self._clock = ClockFollower()
        meter = settings.session.conditioning.with_defaults().meter
        self.listener = ThemeListener(beat_ticks(meter), bar_ticks(meter), self.vocab.duration_bins)

    def _first_values(self) -> dict:
        session, conditioning = self.settings.session, self.settings.session.conditioning.with_defaults()
        values = {name: getattr(conditioning, name, None) for name in self.controls}
        values.update(
            temperature=session.params.temperature,
            min_p=session.params.min_p,
            key=session.key.name,
            tempo=self.settings.player.tempo_bpm,
            nudge_ms=self.settings.player.nudge_s * 1e3,
        )
        return {name: value for name, value in values.items() if value is not None}

    # -- beginning and end ---------------------------------------------------------------------------------

    def __enter__(self) -> Conductor:
        self.start()
        return self

    def __exit__(self, *_error) -> None:
        self.stop()

    def start(self) -> None:
        """Start both processes; returns when the port is open. ValueError if it cannot be opened."""
        settings = self.settings
        self.log.write({"format": FORMAT, "model": str(settings.model_folder), **self._describe()})
        if settings.record is not None:
            self.recorder = Recorder(str(settings.record), self.shared)
            self.recorder.begin(
                settings.player.tempo_bpm, settings.session.conditioning.with_defaults().meter
            )
        if settings.osc_port is not None:
            listener = open_osc(settings.osc_port)
            self._sources[listener] = lambda: read_osc(listener, self.desk, self.note)
        self._start_generator()
        try:
            self._start_player()
            self._open_inputs()
        except ValueError:
            self.stop()
            raise
        self._start_watcher()

    def _open_inputs(self) -> None:
        for name in dict.fromkeys((self.settings.control_port, self.settings.listen_port)):
            if name is not None:
                opened = MidiInput(replace(self.settings.spec, name=None if name == VIRTUAL else name))
                self._inputs.append(opened)
                self._sources[opened] = partial(self._hear_midi, opened)

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

    def _start_generator(self) -> None:
        ours, theirs = self.context.Pipe()
        self.generator_pipe = ours
        given = GeneratorProcess(
            model_folder=str(self.settings.model_folder), settings=self._session_settings(),
            window=self.settings.window, shared=self.shared, notes=self.notes_writer, supervisor=theirs,
            log_path=str(self.settings.log) if self.settings.log else None,
            error_path=self._error_path("generator"), epoch=int(self.shared.get("epoch")) + 1)
        self.generator = self.context.Process(target=run_generator, args=(given,), name="mlxgen-generator")
        self.generator.start()
        theirs.close()

    def _session_settings(self) -> SessionSettings:
        """As the performance began, with the controls as they stand now."""
        session, values = self.settings.session, self.desk.values
        character = {name: values[name] for name in values if hasattr(session.conditioning, name)}
        return replace(
            session, conditioning=replace(session.conditioning, **character),
            key=type(session.key).parse(values["key"]),
            params=replace(session.params, temperature=values["temperature"], min_p=values["min_p"]))

    def _start_player(self, takes_over: bool = False) -> None:
        ours, theirs = self.context.Pipe()
        settings = replace(self.settings.player, tempo_bpm=self.desk.values["tempo"],
                           beat_ticks=beat_ticks(self.settings.session.conditioning.with_defaults().meter))
        given = PlayerProcess(
            spec=self.settings.spec, settings=settings, shared=self.shared, notes=self.notes_reader,
            orders=self.orders_reader, ready=theirs, error_path=self._error_path("player"),
            record_path=str(self.settings.record) if self.settings.record else None, takes_over=takes_over)
        self.player = self.context.Process(target=run_player, args=(given,), name="mlxgen-player")
        self.player.start()
        theirs.close()
        if not ours.poll(START_S):
            raise ValueError(f"the player was not ready within {START_S:g} s")
        try:
            kind, text = ours.recv()
        except EOFError:
            raise ValueError(f"the player ended while it opened the port; see {given.error_path}") from None
        if kind == "error":
            raise ValueError(text)
        if not takes_over:
            self.port_name = text

    def _start_watcher(self) -> None:
        self.shared.set("port_seen", 1)
        self.shared.set("system_seen", 1)
        self.watcher_pipe, theirs = self.context.Pipe()
        given = WatcherProcess(self.settings.spec, self.port_name, self.shared, theirs,
                               self._error_path("watcher"))
        self.watcher = self.context.Process(
            target=run_watcher, args=(given,), name="mlxgen-watcher", daemon=True
        )
        self.watcher.start()

    def _error_path(self, name: str) -> str:
        return "/dev/null" if self.settings.folder is None else str(self.settings.folder / f"{name}.err")

    def stop(self) -> None:
        """End the notes, then the processes, then the files."""
        self.stopping = True
        stopped_at = self.shared.position(time.monotonic())
        self.order("quit")
        player = getattr(self, "player", None)
        if player is not None:
            player.join(4.0)
            if player.is_alive():
                player.kill()
                player.join()
                self._panic_elsewhere()
                time.sleep(1.0)
        with contextlib.suppress(OSError):
            self.generator_pipe.send(("quit",))
        self.generator.join(1.0)
        if self.generator.is_alive():
            self.generator.kill()
            self.generator.join()
        if getattr(self, "watcher", None) is not None:
            self.watcher.kill()
            self.watcher.join()
        for opened in self._inputs:
            opened.close()
        self._record(final=True)
        self.log.write({"op": "stop", "tick": round(stopped_at.tick, 1), "epoch": stopped_at.epoch})
        self.log.close()

    # -- while it plays ------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Something to tell: kept for the screen and written into the log."""
        self.messages.append(text)
        del self.messages[:-20]
        self.log.write({"op": "note", "text": text})

    def order(self, name: str, *values: float) -> None:
        if not self.orders.send(pack_order(0, name, *values)) and not self.stopping:
            self.note(f"the player does not take orders ({name})")

    def _route(self, control: Control, value, source: str) -> None:
        self.log.write({"op": "turn", "name": control.name, "value": value, "source": source,
                        "tick": round(self.shared.position(time.monotonic()).tick, 1)})
        if control.target in ("player", "both"):
            name, values = self._player_order(control, value)
            self.order(name, *values)
        if control.target in ("generator", "both"):
            self._pending[control.name] = value     # sent at the end of the tick, the newest value only

    def _player_order(self, control: Control, value) -> tuple[str, tuple]:
        if control.name.startswith("mute_"):
            mask = sum(1 << number - 1 for number in range(1, 5) if self.desk.values.get(f"mute_{number}"))
            return "mute", (mask,)
        if control.name == "nudge_ms":
            return "nudge", (value / 1e3,)
        return control.name, (value,)

    def tick(self, wait_s: float = TICK_S) -> bool:
        """Wait for something to do, at most `wait_s`, and do it. False when the performance is over."""
        readable = [self.generator_pipe, self.generator.sentinel, self.player.sentinel, *self._sources]
        for source in select.select(readable, [], [], wait_s)[0]:
            if source is self.generator_pipe:
                self._hear_generator()
            elif source in self._sources:
                self._sources[source]()
        self._send_controls()
        self._see_theme_end()
        if not self.generator.is_alive():
            self._generator_died()
        if not self.player.is_alive():
            self._player_died()
        now_s = time.monotonic()
        if now_s - self._watched_s >= WATCH_S:
            self._watched_s = now_s
            self._watch_port()
        if now_s - self._recorded_s >= RECORD_S:
            self._recorded_s = now_s
            self._record()
        return not self.stopping and self.shared.position(now_s).state != "ended"

    def add_source(self, file, function) -> None:
        """Have `function()` called whenever `file` can be read."""
        self._sources[file] = function

    def remove_source(self, file) -> None:
        self._sources.pop(file, None)

    def _send_controls(self) -> None:
        pending, self._pending = self._pending, {}
        for name, value in pending.items():
            with contextlib.suppress(OSError):      # a dead generator is noticed a line later
                self.generator_pipe.send(("control", name, value))

    def _hear_midi(self, opened: MidiInput) -> None:
        for at_s, message in opened.read():
            if message[0] >= 0xF0:
                if self.settings.player.clock_in:
                    for name, *values in self._clock.feed(message, at_s):
                        self.order(name, *values)
            elif not self.mapping.feed(message, self.desk) and self.settings.session.listen:
                self._hear_note(message, at_s)

    def _hear_note(self, message: list[int], at_s: float) -> None:
        position = self.shared.position(at_s)
        if position.state == "waiting" and message[0] & 0xF0 == 0x90 and message[2]:
            # The first note is the first downbeat.
            self.orders.send(pack_order(position.epoch, "start", 0, at_s - time.monotonic()))
            self.listener.feed(message, 0.0)
        elif not self.listener.feed(message, position.tick):
            return
        self._send_theme(position.tick, over=False)

    def _see_theme_end(self) -> None:
        if self.listener.began:
            tick = self.shared.position(time.monotonic()).tick
            if self.listener.is_over(tick):
                self._send_theme(tick, over=True)
                self.listener.clear()

    def _send_theme(self, tick: float, over: bool) -> None:
        notes = [tuple(note) for note in self.listener.notes(tick)]
        with contextlib.suppress(OSError):
            self.generator_pipe.send(("hear", notes, over))

    def _hear_generator(self) -> None:
        try:
            while self.generator_pipe.poll():
                kind, value = self.generator_pipe.recv()
                if kind == "status":
                    self.status = value
                elif kind == "note":
                    self.note(value)
                else:
                    self.rows.append((kind, value))
                    del self.rows[:-500]
        except (EOFError, ConnectionError):
            pass        # `is_alive` says so as well

    def _generator_died(self) -> None:
        self.order("panic")
        self.generator.join()
        how = self.generator.exitcode
        now_s = time.monotonic()
        self._restarts_s = [then for then in self._restarts_s if now_s - then < 60] + [now_s]
        if len(self._restarts_s) > RESTARTS_A_MINUTE:
            self.note(f"generator ended again ({how}): all notes off, giving up")
            self.stopping = True
            return
        self.note(f"generator ended ({how}): all notes off, starting another")
        self._start_generator()

    def _player_died(self) -> None:
        how = self.player.exitcode
        self._panic_elsewhere()
        self.note(f"player ended ({how}): all notes off, starting another")
        self._start_player(takes_over=True)
        self._pending["panic"] = 1

    def _panic_elsewhere(self) -> None:
        with contextlib.suppress(OSError):
            self.watcher_pipe.send("panic")

    def _watch_port(self) -> None:
        if not self.watcher.is_alive():
            self._start_watcher()
        open_now = bool(self.shared.get("port_open"))
        if open_now and not self.shared.get("port_seen"):
            self.note(f"port {self.port_name!r} is gone: playing on in silence")
            self.order("port", 0)
        elif not open_now:
            self.order("port", 1)
        elif self._port_was_gone:
            self.note(f"port {self.port_name!r} is back")
        self._port_was_gone = not self.shared.get("port_open")
        self._watch_inputs()

    def _watch_inputs(self) -> None:
        """Inputs die with a JACK server. They must be closed before this process opens a port again: libjack
        frees the clients of a dead server then, and closing one of those afterwards crashes."""
        if not self.shared.get("system_seen"):
            while self._inputs:
                opened = self._inputs.pop()
                self.remove_source(opened)
                opened.close()
        elif not self._inputs:
            try:
                self._open_inputs()
            except ValueError as error:
                self.note(str(error))

    def _record(self, final: bool = False) -> None:
        if self.recorder is None:
            return
        try:
            self.recorder.flush()
        except OSError as error:
            self.note(f"recording stopped: {error.strerror}; {self.settings.record} is whole up to here")
            self.recorder.close()
            self.recorder = None
            return
        if final:
            self.recorder.close()
            self.recorder = None


def install_signals(conductor: Conductor) -> None:
    """SIGTERM, SIGHUP and Ctrl-C end the performance the ordinary way."""
    def leave(*_signal) -> None:
        conductor.stopping = True

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)
