"""The session's log: one JSON object a line, written by the processes of a performance as things happen.

Every line is appended in one write, so the lines of two processes never mix and a killed process leaves whole
lines. When the disk is full the log stops and says so once; the music goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FORMAT = "mlxgen-session-2"


class SessionLog:
    """`write(entry)` appends a line; "t" is the second of the machine's monotonic clock. `anew`: what is in
    the file goes.
    """

    def __init__(self, path: str | None, on_failure: Callable[[str], None] = lambda text: None,
                 anew: bool = False):
        self.path, self._on_failure = path, on_failure
        how = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if anew else 0)
        self._file = None if path is None else os.open(path, how, 0o644)

    def write(self, entry: dict) -> None:
        if self._file is None:
            return
        line = json.dumps({**entry, "t": round(time.monotonic(), 4)}, separators=(",", ":")) + "\n"
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            self.close()
            self._on_failure(f"log stopped: {error.strerror}")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_log(path: str | Path) -> Iterator[dict]:
    """The entries of a log. A last line cut off by a full disk is left out; any other bad line is a
    ValueError.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            if number == len(lines):
                return
            raise ValueError(f"{path}, line {number}: not JSON; expected a session log") from None
        if number == 1 and entry.get("format") != FORMAT:
            raise ValueError(f"{path}: format {entry.get('format')!r}; expected {FORMAT!r}")
        yield entry
