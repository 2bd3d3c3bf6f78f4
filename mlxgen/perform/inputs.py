"""MIDI that comes in: a thread takes it from python-rtmidi's queue, the conductor's loop takes it from there.

The thread polls. A callback would wait for Python's lock inside JACK's process cycle, and JACK drops the
messages of clients that come late.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque

from mlxgen.perform.ports import PortSpec, open_input

QUEUE = 4096        # messages; older ones are dropped when nobody takes them
POLL_S = 0.002


class MidiInput:
    """`fileno()` can be read when messages wait; `read()` gives [(second of arrival, message)]."""

    def __init__(self, spec: PortSpec):
        self._queue: deque[tuple[float, list[int]]] = deque(maxlen=QUEUE)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._midi_in = open_input(spec, QUEUE)
        self._stamp = Stamp()
        self._open = True
        self._thread = threading.Thread(target=self._poll, name="mlxgen-input", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while self._open:
            while (event := self._midi_in.get_message()) is not None:
                message, since_s = event
                self._queue.append((self._stamp.at_s(since_s, time.monotonic()), message))
                with contextlib.suppress(BlockingIOError):      # full: the reader is awake already
                    self._writer.send(b"x")
            time.sleep(POLL_S)

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
        self._open = False
        self._thread.join()
        self._midi_in.close_port()
        self._midi_in.delete()
        self._reader.close()
        self._writer.close()


class Stamp:
    """When messages really came: the system tells the time between them exactly, polling only when we looked.

    Of all delays between the two the smallest is taken for the true one; it may grow slowly, as clocks drift.
    """

    DRIFT = 1e-4        # seconds a second

    def __init__(self):
        self._sum_s = 0.0
        self._offset_s = None

    def at_s(self, since_s: float, seen_s: float) -> float:
        """The moment of a message that came `since_s` after the one before it and was seen at `seen_s`."""
        self._sum_s += since_s
        delay_s = seen_s - self._sum_s
        if self._offset_s is None or delay_s < self._offset_s + since_s * self.DRIFT:
            self._offset_s = delay_s
        else:
            self._offset_s += since_s * self.DRIFT
        return min(seen_s, self._sum_s + self._offset_s)
