"""Troupe: the processes of a performance and the channels between them: generator, player, watcher.

Each is started with all that it needs and can be replaced while the others go on; what they share (memory,
channels) belongs to this one and outlives each of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import time
from dataclasses import dataclass, field
from pathlib import Path

from mlxgen.perform.generator import GeneratorProcess, run_generator
from mlxgen.perform.player import PlayerSettings
from mlxgen.perform.playerproc import PlayerProcess, run_player
from mlxgen.perform.ports import PortSpec
from mlxgen.perform.settings import SessionSettings
from mlxgen.perform.shared import Shared
from mlxgen.perform.watch import WatcherProcess, run_watcher
from mlxgen.perform.wire import Writer, make_channel, pack_order

START_S = 60.0          # the longest that a process may take to be ready
WINDOW_IDS = 1024       # of context: held-out nats .475 at 1,024, .480 at 2,048, .509 at 4,096
LEAVE_S = 4.0           # the player has so long to end its notes and leave


@dataclass(frozen=True)
class StreamSettings:
    """One performance, as the command line gives it."""

    model_folder: Path
    session: SessionSettings
    player: PlayerSettings
    spec: PortSpec = field(default_factory=PortSpec)
    window: int = WINDOW_IDS
    folder: Path | None = None          # the session's folder: log, recording, what libraries say
    record: Path | None = None
    log: Path | None = None
    mapping: Path | None = None
    osc_port: int | None = None
    control_port: str | None = None     # MIDI input whose CCs turn the controls; "virtual" makes one
    listen_port: str | None = None      # MIDI input on which a theme is played


class Troupe:
    """Starts, replaces and ends the three processes of one performance."""

    def __init__(self, settings: StreamSettings):
        self.settings = settings
        self.context = multiprocessing.get_context("spawn")
        self.shared = Shared(self.context)
        self.notes_reader, self.notes_writer = make_channel()
        self.orders_reader, orders_writer = make_channel()
        self.orders = Writer(orders_writer, timeout_s=1.0)
        self.generator = self.player = self.watcher = None

    def start_generator(self, session: SessionSettings) -> None:
        self.generator_pipe, theirs = self.context.Pipe()
        given = GeneratorProcess(
            model_folder=str(self.settings.model_folder),
            settings=session,
            window=self.settings.window,
            shared=self.shared,
            notes=self.notes_writer,
            supervisor=theirs,
            log_path=_text(self.settings.log),
            error_path=self._error_path("generator"),
            epoch=int(self.shared.get("epoch")) + 1,
        )
        self.generator = self._start(run_generator, given, "generator")
        theirs.close()

    def start_player(self, player: PlayerSettings, takes_over: bool = False) -> None:
        """Returns when the port is open; ValueError if it cannot be. One that `takes_over` plays without."""
        ours, theirs = self.context.Pipe()
        given = PlayerProcess(
            spec=self.settings.spec,
            settings=player,
            shared=self.shared,
            notes=self.notes_reader,
            orders=self.orders_reader,
            ready=theirs,
            error_path=self._error_path("player"),
            record_path=_text(self.settings.record),
            takes_over=takes_over,
        )
        self.player = self._start(run_player, given, "player")
        theirs.close()
        if not ours.poll(START_S):
            raise ValueError(f"the player was not ready within {START_S:g} s")
        try:
            kind, text = ours.recv()
        except EOFError:
            raise ValueError(f"the player ended while it opened the port; see {given.error_path}") from None
        if kind == "error":
            raise ValueError(text)

    @property
    def inputs(self) -> list[str]:
        """The names of the MIDI inputs that are wanted."""
        settings = self.settings
        return list(dict.fromkeys(name for name in (settings.control_port, settings.listen_port) if name))

    def start_watcher(self) -> None:
        self.shared.set("port_seen", 1)
        self.shared.set("inputs_seen", (1 << len(self.inputs)) - 1)
        self.shared.set("system_seen", 1)
        self.watcher_pipe, theirs = self.context.Pipe()
        given = WatcherProcess(self.settings.spec, tuple(self.inputs), self.shared, theirs,
                               self._error_path("watcher"))
        self.watcher = self._start(run_watcher, given, "watcher")
        theirs.close()

    def _start(self, function, given, name: str):
        process = self.context.Process(target=function, args=(given,), name=f"mlxgen-{name}", daemon=True)
        process.start()
        return process

    def _error_path(self, name: str) -> str:
        return "/dev/null" if self.settings.folder is None else str(self.settings.folder / f"{name}.err")

    def order(self, name: str, *values: float, epoch: int = 0) -> bool:
        """Tell the player. False if it does not listen."""
        return self.orders.send(pack_order(epoch, name, *values))

    def tell_generator(self, message: tuple) -> bool:
        """False if it does not listen, or is behind in listening; nothing waits for it."""
        try:
            if not select.select([], [self.generator_pipe], [], 0)[1]:
                return False
            self.generator_pipe.send(message)
        except OSError:
            return False        # it has died, which shows elsewhere
        return True

    def panic_elsewhere(self) -> None:
        """End the notes of a player that can no longer do it."""
        with contextlib.suppress(OSError):
            self.watcher_pipe.send("panic")

    def end(self) -> None:
        """End the notes, then the processes."""
        self.order("quit")
        if self.player is not None:
            self.player.join(LEAVE_S)
            if self.player.is_alive():
                self.player.kill()
                self.player.join()
                self.panic_elsewhere()
                time.sleep(1.0)
        self.tell_generator(("quit",))
        self.generator.join(1.0)
        for process in (self.generator, self.watcher):
            if process is not None and process.is_alive():
                process.kill()
                process.join()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
