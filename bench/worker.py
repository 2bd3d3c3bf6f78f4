"""Contestants in processes of their own, driven a line of JSON at a time.

torch and MLX do not share a process (their BLAS and thread pools would meet), yet they must be measured in
turns, on the same minutes of the same machine. So each contestant is a process that waits for orders:
`Contestant` is this end, `serve` the other. A contestant has

    describe() -> dict                                versions, device, dtype, what it is
    prepare(context) -> {"first_token_s": ...}        a prompt of `context` ids, up to the first id after it
    decode(tokens) -> {"seconds": [one an id]}        goes on from there
    batch(rows, context, tokens, limit_s) -> {"prefill_s", "decode_s", "tokens", "peak_bytes"}
                                                      decodes for limit_s at most, but one step at least
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Contestant:
    """A worker process: `python -m MODULE FOLDER`."""

    def __init__(self, name: str, module: str, *arguments: str, environment: dict[str, str] | None = None):
        self.name = name
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths, **(environment or {})})

    def ask(self, order: str, *, timeout_s: float | None = None, **arguments) -> dict:
        """Run one command there. RuntimeError if the process died; TimeoutError, and it is killed, if it
        takes longer than `timeout_s`."""
        self._process.stdin.write(json.dumps({"order": order, **arguments}) + "\n")
        self._process.stdin.flush()
        if timeout_s is not None and not select.select([self._process.stdout], [], [], timeout_s)[0]:
            self._process.kill()
            self._process.wait()
            raise TimeoutError(f"{self.name}: no answer to {order} in {timeout_s:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: worker ended with {self._process.wait()} during {order}")
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)


def serve(make_contestant) -> None:
    """Answer orders from stdin until it closes. What the contestant itself prints goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    contestant = make_contestant(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        busy = time.process_time()
        answer = getattr(contestant, order.pop("order"))(**order)
        answer["cpu_s"] = time.process_time() - busy
        print(json.dumps(answer), file=answers, flush=True)


def time_each(draw, count: int) -> list[float]:
    """Seconds of each of `count` calls."""
    seconds, before = [], time.perf_counter()
    for _ in range(count):
        draw()
        now = time.perf_counter()
        seconds.append(now - before)
        before = now
    return seconds
