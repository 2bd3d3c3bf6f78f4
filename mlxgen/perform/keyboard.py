"""The terminal's keyboard, a key at a time, and the terminal put back as it was."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import tty


class Keyboard:
    """Use as a context manager. Without a terminal on standard input there are no keys: `fileno` is None."""

    def __init__(self, stream=None):
        stream = sys.stdin if stream is None else stream
        self._number = (
            stream.fileno() if stream is not None and not stream.closed and stream.isatty() else None
        )
        self._before = None

    @property
    def fileno(self) -> int | None:
        return self._number

    def __enter__(self) -> Keyboard:
        if self._number is not None:
            self._before = termios.tcgetattr(self._number)
            tty.setcbreak(self._number)
        return self

    def __exit__(self, *_error) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._number, termios.TCSADRAIN, self._before)

    def read(self) -> list[str]:
        """The keys pressed; arrow keys and the like arrive as one name that begins with an escape."""
        data = os.read(self._number, 64).decode(errors="ignore")
        if data.startswith("\x1b") and len(data) > 1:
            return [data]
        return list(data)
