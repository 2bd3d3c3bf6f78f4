"""Watching the port from a process of its own, because asking is slow or blind elsewhere.

A client of a JACK server that was killed goes on seeing its ports; only messages stop. So the watcher sends
messages to itself: a server that carries none for a while is gone (opening a new client to find out fails on
a busy machine with a living server, too). CoreMIDI tells a process of new and vanished ports only while that
process turns its run loop.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import multiprocessing
import os
import select
import signal
import time
from dataclasses import dataclass, replace

from mlxgen.perform import mac
from mlxgen.perform.ports import (
    CLIENT_NAME,
    SILENT,
    VIRTUAL,
    PortSpec,
    is_jack,
    make_client,
    note_off,
    open_output,
    panic_messages,
)
from mlxgen.perform.processes import prefer_nothing, redirect_errors
from mlxgen.perform.shared import Shared

WATCH_S = 0.2
HEART_S = 1.2           # without a message for so long a server is gone; 2 s in all are allowed
WATCHER, HEART = f"{CLIENT_NAME}-watch", "heart"      # our own client and port


@dataclass(frozen=True)
class WatcherProcess:
    """All that the process is given."""

    spec: PortSpec
    inputs: tuple[str, ...]     # the names of those that are wanted
    shared: Shared
    requests: object        # Connection: anything sent means panic
    error_path: str


class PortWatcher:
    """`poll()` says whether the port is there. A virtual port is looked for itself: it goes with a JACK
    server.

    `system_answers` is False while there is no MIDI system to ask. `port_name` may be changed.
    """

    def __init__(self, spec: PortSpec, port_name: str, now=time.monotonic):
        self.spec, self.port_name, self._now = spec, port_name, now
        self.system_answers = True
        self._outputs = self._inputs = None     # clients that list what can be played to, and listened to
        self._jack = False
        self._answered_s = 0.0
        self._pump = _make_run_loop_pump()

    def poll(self) -> bool:
        if self.spec.name == SILENT:
            return True
        if not self.system_answers:
            self.close()            # takes a second where the server is dead, so the bad news went first
        if self._outputs is None and not self._open():
            self.system_answers = False
            return False
        self._pump()
        self.system_answers = not self._jack or self._heart_beats()
        if not self.system_answers:
            return False
        client = self._inputs if self.spec.name is None else self._outputs
        return any(self.port_name in name for name in client.get_ports() if WATCHER not in name)

    def poll_inputs(self, wanted: tuple[str, ...]) -> int:
        """A bit for each of these that can be listened to; a virtual one always can."""
        names = [] if self._inputs is None else [
            name.casefold() for name in self._inputs.get_ports() if WATCHER not in name]
        return sum(1 << number for number, name in enumerate(wanted)
                   if name == VIRTUAL or any(name.casefold() in there for there in names))

    def _open(self) -> bool:
        try:
            self._outputs = make_client("MidiOut", self.spec.api, WATCHER)
            self._inputs = make_client("MidiIn", self.spec.api, f"{WATCHER}-in")
        except ValueError:
            self.close()
            return False
        self._jack = is_jack(self._outputs)
        if self._jack:
            heart = f"{HEART}-{os.getpid()}"        # another performance has a heart of its own
            self._outputs.open_virtual_port(heart)
            names = self._inputs.get_ports()
            mine = [number for number, name in enumerate(names) if name.endswith(f":{heart}")]
            if not mine:
                self.close()
                return False
            self._inputs.open_port(mine[-1], "listen")
            self._answered_s = self._now()
        return True

    def _heart_beats(self) -> bool:
        """A message to ourselves came back within the last HEART_S: the server turns."""
        self._outputs.send_message([0xBF, 119, 0])
        while self._inputs.get_message() is not None:
            self._answered_s = self._now()
        return self._now() - self._answered_s < HEART_S

    def close(self) -> None:
        for client in (self._outputs, self._inputs):
            if client is not None:
                client.close_port()
                client.delete()
        self._outputs = self._inputs = None


def _make_run_loop_pump():
    if not mac.IS_MAC:
        return lambda: None
    core = ctypes.CDLL(ctypes.util.find_library("CoreFoundation"))
    mode = ctypes.c_void_p.in_dll(core, "kCFRunLoopDefaultMode")
    core.CFRunLoopRunInMode.argtypes = [ctypes.c_void_p, ctypes.c_double, ctypes.c_bool]
    core.CFRunLoopRunInMode.restype = ctypes.c_int32
    return lambda: core.CFRunLoopRunInMode(mode, 0.0, True)


def run_watcher(given: WatcherProcess) -> None:
    """Entry point of the process: keeps `port_seen` up to date until its parent is gone.

    When the player was killed the parent asks for a panic, and it is sent from here: a JACK server that
    misses a client can keep whoever opens a port waiting, and that shall not be the parent.
    """
    redirect_errors(given.error_path)
    prefer_nothing()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watcher = PortWatcher(given.spec, given.shared.port_name)
    parent = multiprocessing.parent_process().sentinel
    while True:
        readable = select.select([parent, given.requests], [], [], WATCH_S)[0]
        if parent in readable:
            return
        if readable:
            given.requests.recv()
            watcher.close()
            end_notes(given.spec, given.shared)
        watcher.port_name = given.shared.port_name
        given.shared.set("port_seen", float(watcher.poll()))
        if watcher.system_answers:
            given.shared.set("inputs_seen", watcher.poll_inputs(given.inputs))
        given.shared.set("system_seen", float(watcher.system_answers))


def end_notes(spec: PortSpec, shared: Shared) -> None:
    """The notes of a player that was killed, ended from another port to the same place."""
    try:
        port = open_output(replace(spec, client=f"{CLIENT_NAME}-panic"))
    except ValueError:
        return                      # nowhere to send it: the next player panics first of all
    for channel, pitch in shared.sounding_notes():
        port.send(note_off(channel * 128 + pitch))
    for message in panic_messages():
        port.send(message)
    port.close()
