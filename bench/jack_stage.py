"""A stage for the performance benches: a JACK server with its dummy driver, a receiver that misses nothing,
and `mlxgen stream` as a user starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

MLXGEN = str(Path(sys.executable).parent / "mlxgen")
SERVER = "mlxgen-bench"


class Receiver:
    """A JACK input "synth"; `received` is [(second of arrival, message)] on the machine's monotonic clock.

    The seconds come from JACK's own time stamps, so that this process may be late without the figures
    knowing.
    """

    def __init__(self):
        from mlxgen.perform.inputs import Stamp
        from mlxgen.perform.ports import make_client

        self.received: list[tuple[float, list[int]]] = []
        self._midi_in = make_client("MidiIn", "jack", "synth", 65536)
        self._midi_in.ignore_types(sysex=True, timing=False, active_sense=True)
        self._midi_in.open_virtual_port("in")
        self._stamp = Stamp()
        self._open = True
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._open = False
        self._thread.join()
        self._midi_in.close_port()
        self._midi_in.delete()

    def _poll(self) -> None:
        while self._open:
            while (event := self._midi_in.get_message()) is not None:
                self.received.append((self._stamp.at_s(event[1], time.monotonic()), event[0]))
            time.sleep(0.002)

    def note_ons(self) -> list[tuple[float, int]]:
        return [(at_s, message[1]) for at_s, message in list(self.received)
                if message[0] & 0xF0 == 0x90 and message[2]]

    def hung(self) -> int:
        """Note-ons that had no note-off, plus note-offs that had no note-on."""
        counts: dict[tuple[int, int], int] = {}
        for _, message in self.received:
            kind = message[0] & 0xF0
            if kind in (0x80, 0x90):
                slot = message[0] & 15, message[1]
                counts[slot] = counts.get(slot, 0) + (1 if kind == 0x90 and message[2] else -1)
        return sum(map(abs, counts.values()))


def server_options() -> list[str]:
    """-R where this user may have real-time threads, else -r and -S."""
    may = subprocess.run(["chrt", "-f", "10", "true"], capture_output=True).returncode == 0
    return ["-R", "-P", "60"] if may else ["-r", "-S"]


@contextlib.contextmanager
def jack_server():
    """`jackd -d dummy`: 256 frames at 48 kHz, so a message waits up to 5.3 ms inside the server.

    In real time where that is allowed (a server that is kept waiting drops messages), else with -r -S.
    """
    os.environ.update(JACK_DEFAULT_SERVER=SERVER, JACK_NO_START_SERVER="1")
    process = subprocess.Popen(
        ["jackd", "-n", SERVER, *server_options(), "-d", "dummy", "-r", "48000", "-p", "256"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(200):
        if subprocess.run(["jack_lsp", "-s", SERVER], capture_output=True).returncode == 0:
            break
        time.sleep(0.05)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


class Stream:
    """`mlxgen stream --headless --json` to the receiver; `statuses` grows while it runs."""

    def __init__(self, folder: Path, *options: str, tempo: float = 120.0, port: str = "synth"):
        self.folder = folder
        self.started_s = time.monotonic()
        self.statuses: list[dict] = []
        self.process = subprocess.Popen(
            [
                MLXGEN,
                "stream",
                "--headless",
                "--json",
                "--midi-api",
                "jack",
                "--midi-port",
                port,
                "--tempo",
                str(tempo),
                "--session-folder",
                str(folder),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.statuses.append(json.loads(line))

    def pids(self) -> dict[str, int]:
        """{"conductor", "generator", "player", "watcher"}: process ids."""
        found = {"conductor": self.process.pid}
        listing = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True
        )
        for pid in map(int, listing.stdout.split()):
            with contextlib.suppress(OSError):
                found[Path(os.readlink(f"/proc/{pid}/fd/2")).stem] = pid
        return {
            name: pid
            for name, pid in found.items()
            if name in ("conductor", "generator", "player", "watcher")
        }

    def stop(self) -> str:
        """End it the ordinary way; what it said on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        time.sleep(0.3)
        return self.process.stderr.read()


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MiB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
