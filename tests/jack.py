"""A real JACK server with its dummy driver, and a synthesiser at its other end, for tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

MLXGEN = str(Path(sys.executable).parent / "mlxgen")


class JackServer:
    """`jackd -r -d dummy` under a name of its own; `kill()` and `start()` as often as a test likes.

    JACK knows at most eight servers, and one that was killed keeps its place until another of its name ends
    in peace: so the names are few, and a lock says which is free.
    """

    def __init__(self, *options: str):
        for number in range(3):
            self._lock = open(Path(tempfile.gettempdir()) / f"mlxgen-jack-{number}.lock", "w")  # noqa: SIM115
            self.name = f"mlxgen-test-{number}"
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                self._lock.close()
        else:
            pytest.skip("three other test runs have a JACK server each")
        self.process = None
        self.options = options

    def start(self) -> None:
        self.process = subprocess.Popen(["jackd", "-n", self.name, *self.options, "-d", "dummy",
                                         "-r", "48000", "-p", "256"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if (
                    subprocess.run(["jack_lsp", "-s", self.name], capture_output=True, timeout=2).returncode
                    == 0
                ):
                    return
            time.sleep(0.05)
        raise RuntimeError("jackd did not come up")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """The ordinary way: a server killed too often leaves no room for others in JACK's registry."""
        self._end(signal.SIGTERM)

    def release(self) -> None:
        self._lock.close()

    def _end(self, how: int) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None


@pytest.fixture
def jack(monkeypatch):
    """A running server; python-rtmidi in this process and in its children talks to it.

    In real time where that is allowed; else with -S: it waits for its clients. A server that is kept waiting
    drops messages.
    """
    may = subprocess.run(["chrt", "-f", "10", "true"], capture_output=True).returncode == 0
    yield from running_server(monkeypatch, *(["-R", "-P", "60"] if may else ["-r", "-S"]))


@pytest.fixture
def unsure_jack(monkeypatch):
    """A server that survives a client's sudden death (one with -S stands still); it may drop messages."""
    yield from running_server(monkeypatch, "-r")


def running_server(monkeypatch, *options: str):
    rtmidi = pytest.importorskip("rtmidi")
    if shutil.which("jackd") is None or rtmidi.API_UNIX_JACK not in rtmidi.get_compiled_api():
        pytest.skip("no jackd, or a python-rtmidi without JACK")
    server = JackServer(*options)
    monkeypatch.setenv("JACK_DEFAULT_SERVER", server.name)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    server.start()
    yield server
    server.stop()
    server.release()


class Synth:
    """A JACK client with one input; keeps what it receives as (second, message).

    It polls: a callback would wait for Python's lock inside JACK's cycle, and JACK drops what comes late.
    """

    def __init__(self, name: str = "synth"):
        import rtmidi

        self.received: list[tuple[float, list[int]]] = []
        self._midi_in = rtmidi.MidiIn(rtmidi.API_UNIX_JACK, name, queue_size_limit=65536)
        self._midi_in.ignore_types(sysex=True, timing=False, active_sense=True)
        self._midi_in.open_virtual_port("in")
        self._open = True
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while self._open:
            while (event := self._midi_in.get_message()) is not None:
                self.received.append((time.monotonic(), event[0]))
            time.sleep(0.001)

    def close(self) -> None:
        if self._midi_in is not None:
            self._open = False
            self._thread.join()
            self._midi_in.close_port()
            self._midi_in.delete()
            self._midi_in = None

    @property
    def messages(self) -> list[list[int]]:
        return [message for _, message in self.received]

    def note_ons(self) -> list[tuple[float, int]]:
        return [(at_s, message[1]) for at_s, message in self.received if is_on(message)]

    def sounding(self) -> dict[tuple[int, int], int]:
        return sounding(self.messages)


def is_on(message: list[int]) -> bool:
    return message[0] & 0xF0 == 0x90 and message[2] > 0


def is_off(message: list[int]) -> bool:
    return message[0] & 0xF0 == 0x80 or (message[0] & 0xF0 == 0x90 and message[2] == 0)


def sounding(messages: list[list[int]]) -> dict[tuple[int, int], int]:
    """{(channel, pitch): how many more note-ons than note-offs}, without the zeros."""
    counts: dict[tuple[int, int], int] = {}
    for message in messages:
        if is_on(message) or is_off(message):
            slot = message[0] & 15, message[1]
            counts[slot] = counts.get(slot, 0) + (1 if is_on(message) else -1)
    return {slot: count for slot, count in counts.items() if count}


def hanging(messages: list[list[int]]) -> set[tuple[int, int]]:
    """(channel, pitch) of what a synthesiser would still play: CC 120 and 123 end a channel as well."""
    held: set[tuple[int, int]] = set()
    for message in messages:
        channel = message[0] & 15
        if is_on(message):
            held.add((channel, message[1]))
        elif is_off(message):
            held.discard((channel, message[1]))
        elif message[0] & 0xF0 == 0xB0 and message[1] in (120, 123):
            held = {slot for slot in held if slot[0] != channel}
    return held


def has_panicked(messages: list[list[int]]) -> bool:
    """True if CC 64, 123 and 120 came on all 16 channels."""
    return all(
        [0xB0 | channel, controller, 0] in messages for channel in range(16) for controller in (64, 123, 120)
    )


class Streaming:
    """`mlxgen stream --headless --json` as a process of its own."""

    def __init__(self, folder: Path, *options: str, port: str | None = "synth"):
        port_options = [] if port is None else ["--midi-port", port]
        self.folder = folder
        self.process = subprocess.Popen(
            [
                MLXGEN,
                "stream",
                "--headless",
                "--json",
                "--midi-api",
                "jack",
                "--tempo",
                "120",
                "--seed",
                "5",
                "--session-folder",
                str(folder),
                *port_options,
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def children(self) -> dict[str, int]:
        """{"generator": process id, "player": process id}, from what each has open."""
        found = {}
        listing = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="],
                                 capture_output=True, text=True).stdout
        for line in listing.splitlines():
            pid = int(line.split()[0])
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/2")
                for name in ("generator", "player"):
                    if target.endswith(f"{name}.err"):
                        found[name] = pid
        return found

    def finish(self, timeout_s: float = 20) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)."""
        try:
            out, error = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, error


def wait_until(condition, timeout_s: float = 20.0, step_s: float = 0.02) -> float:
    """Wait for a condition; the seconds it took. Fails the test when it does not come."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            pytest.fail(f"not within {timeout_s} s: {condition}")
        time.sleep(step_s)
    return time.monotonic() - began_s
