"""What every process of a performance does first."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

from mlxgen.perform import mac


def redirect_errors(path: str) -> None:
    """Standard error into a file: libraries below Python write to it, over the screen."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(number, 2)
    os.close(number)


GENERATOR_NICE, CONDUCTOR_NICE = -10, -12      # a panic must not wait for the next note
_LOCK_PRESENT, _LOCK_COMING = 1, 2      # sys/mman.h


def prefer(nice: int) -> None:
    """Ask for a larger share of the processor than other programs; where it is not allowed, go on without."""
    if mac.IS_MAC:
        mac.begin_activity()
        mac.make_thread_user_interactive()
        return
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def lock_memory() -> None:
    """Keep every page of this process in memory: one that was sent away is read from disk in the middle of a
    bar. Linux only; where it is not allowed, go on without. `grep VmLck /proc/PID/status` shows it.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).mlockall(_LOCK_PRESENT | _LOCK_COMING)


def raise_priority() -> None:
    """Ask for a real-time thread; where it is not allowed, go on without."""
    if mac.IS_MAC:
        mac.begin_activity()
        mac.make_thread_time_critical()
        return
    with contextlib.suppress(PermissionError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
