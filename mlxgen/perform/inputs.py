"""MIDI that comes in: python-rtmidi's thread puts messages into a queue, the conductor's loop takes them out."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque

from mlxgen.perform.ports import PortSpec, open_input

QUEUE = 4096        # messages; older ones are dropped when nobody takes them


class MidiInput:
    """`fileno()` can be read when messages wait; `read()` gives [(second of arrival, message)]."""

    def __init__(self, spec: PortSpec):
        self._queue: deque[tuple[float, list[int]]] = deque(maxlen=QUEUE)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._midi_in = open_input(spec, self._take)

    def _take(self, message: list[int], _since_s: float) -> None:
        self._queue.append((time.monotonic(), message))
        with contextlib.suppress(BlockingIOError):      # full: the reader is awake already
            self._writer.send(b"x")

    def fileno(self) -> int:
        return self._reader.fileno()

    def read(self) -> list[tuple[float, list[int]]]:
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(65536)
        taken = []
        while self._queue:
            taken.append(self._queue.popleft())
        return taken

    def close(self) -> None:
        self._midi_in.close_port()
        self._midi_in.delete()
        self._reader.close()
        self._writer.close()
