"""Watching the port from a process of its own, because asking is slow or blind elsewhere.

A JACK client goes on seeing the ports of a server that was killed, so each look needs a new client (some 20
ms); CoreMIDI tells a process of new and vanished ports only while that process turns its run loop.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import multiprocessing
import select
import signal
from dataclasses import dataclass, replace

from mlxgen.perform import mac
from mlxgen.perform.ports import (
    CLIENT_NAME,
    SILENT,
    PortSpec,
    make_client,
    note_off,
    open_output,
    panic_messages,
)
from mlxgen.perform.processes import redirect_errors
from mlxgen.perform.shared import Shared

WATCH_S = 0.5


@dataclass(frozen=True)
class WatcherProcess:
    """All that the process is given."""

    spec: PortSpec
    port_name: str
    shared: Shared
    requests: object        # Connection: anything sent means panic
    error_path: str


class PortWatcher:
    """`poll()` says whether the port is there. A virtual port is looked for itself: it goes with a JACK
    server.
    """

    def __init__(self, spec: PortSpec, port_name: str):
        self.spec, self.port_name = spec, port_name
        self._kind = "MidiIn" if spec.name is None else "MidiOut"
        self.system_answers = True      # False: there is no MIDI system to ask (no JACK server)
        self._client = None
        self._pump = _make_run_loop_pump()

    def poll(self) -> bool:
        if self.spec.name == SILENT:
            return True
        if self._client is None:
            try:
                self._client = make_client(self._kind, self.spec.api, f"{CLIENT_NAME}-watch")
            except ValueError:
                self.system_answers = False
                return False
        self.system_answers = True
        self._pump()
        available = self._client.get_ports()
        if _is_jack(self._client):
            self.close()
        return any(self.port_name in name for name in available)

    def close(self) -> None:
        if self._client is not None:
            self._client.delete()
            self._client = None


def _is_jack(client) -> bool:
    import rtmidi

    return client.get_current_api() == rtmidi.API_UNIX_JACK


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watcher, parent = PortWatcher(given.spec, given.port_name), multiprocessing.parent_process().sentinel
    while True:
        readable = select.select([parent, given.requests], [], [], WATCH_S)[0]
        if parent in readable:
            return
        if readable:
            given.requests.recv()
            watcher.close()
            end_notes(given.spec, given.shared)
        given.shared.set("port_seen", float(watcher.poll()))
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
