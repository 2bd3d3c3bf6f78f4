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


# Real-time priorities, where they are allowed (JACK's own threads have more): the player before all; a panic
# must not wait for the generator, nor the generator for whatever else runs on this machine. Else nice values.
PLAYER, CONDUCTOR, GENERATOR = 10, 6, 5
NICE = -10
_LOCK_PRESENT, _LOCK_COMING = 1, 2      # sys/mman.h


def prefer(priority: int) -> None:
    """Ask for the processor before other programs, for this thread and those it starts; where that is not
    allowed, for a larger share of it, or go on without.
    """
    if mac.IS_MAC:
        mac.begin_activity()
        mac.make_thread_user_interactive()
        return
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
    except (PermissionError, AttributeError):
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, NICE)


def prefer_nothing() -> None:
    """Undo what was inherited from the process that started this one."""
    with contextlib.suppress(PermissionError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


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
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PLAYER))
