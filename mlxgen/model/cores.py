"""The thread that builds steps and the thread that runs them, each on a core of its own (Linux).

MLX's CPU backend runs what one thread enqueues on another, and the two wake each other many times a step.
Linux likes to wake a thread where its waker runs, above all in a virtual machine, whose idle cores it takes
for taken away: both then share one core for the first 45 ms of every burst, while the other idles, and a step
takes a third longer (1.02 ms instead of 0.77).

So while `apart` is entered its thread keeps to one core and the thread that runs its operations to the rest.
That is bad where others want the cores too (a quarter slower beside one busy process), and Linux says how
long each of the two waited for a core: where that is too long, both are let go for a while. Threads of real
time are never held: Linux moves them to a free core at once by itself, and one that may not move waits for
whole turns of another of its priority (0.1 s). The mask of the calling thread is put back on leaving, as
processes and threads that it starts would inherit it.

MLX holds some fifty operations of a CPU in store. A thread that enqueues faster waits, and the other spends a
tenth of a step on waking it, five operations later again. So `enqueue` pauses after every layer, for so long
that the store is just full at the end, when the next step is built: a step takes .9 of the time.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from mlxgen.model.streams import on_cpu

LOOK = 16  # entries during which the thread that runs the operations is looked for
BUSY = 0.3  # of the time then, at least
CHECK = 64  # entries between two looks at how long the threads waited
# of the time, and others want the cores: the one that runs hardly ever waits; the one that builds is woken so
# often that it waits an eighth in a virtual machine that is otherwise idle
DEVICE_WAITED, HOST_WAITED = 0.05, 0.4
REST_S, LONGEST_REST_S = 0.5, 8.0  # let go for so long, twice as long every time, up to
# seconds that a pause grows by while the store is full, and what it shrinks to where not; who waited so long
# to enqueue a layer found it full
LONGER_S, SHORTER, FULL_S = 3e-7, 0.9, 8e-6
SET_TIMERSLACK, SLACK_NS = 29, 1000  # prctl; Linux would sleep 50 us longer than asked for
TASKS = Path("/proc/self/task")
SELF = "/proc/thread-self"  # a link to PID/task/TID


class Apart:
    """Of one thread, see `apart`. Does nothing where it cannot."""

    def __init__(self, task: int) -> None:
        self._host = task
        self._device: int | None = None  # the other thread, once it is known
        self._all: set[int] = set()  # the cores of both
        self._own: set[int] = set()  # the core of this thread while entered; empty: let go
        self._entries = 0
        self._since, self._ran, self._waited = 0, {}, [0.0, 0.0]
        self._rest_s, self._rest_until = REST_S, 0
        self._pause_s = 0.0
        self._can = task != 0 and on_cpu()

    def __enter__(self) -> Apart:
        if not self._can:
            return self
        try:
            self._enter()
        except PermissionError:
            self._can, self._own = False, set()
        except OSError:  # a thread has ended
            self._device, self._own, self._ran, self._entries = None, set(), {}, 1
        return self

    def __exit__(self, *_) -> None:
        if self._own:
            os.sched_setaffinity(0, self._all)

    def enqueue(self, layers: Sequence[mx.array], beside: Sequence[mx.array] = ()) -> None:
        """Most of a step whose layers make these arrays, one after another: not faster than they are run.
        beside: small ones that need no layer, in the middle of them. Behind the last layer the device would
        be through with each before the next is enqueued, and wait."""
        if not self._own:
            mx.async_eval(layers[len(layers) * 2 // 3])
            return
        *paced, last = layers[:-1] or layers
        for number, layer in enumerate(paced[:-1]):
            mx.async_eval(layer, *(beside if number == len(paced) // 2 else ()))
            time.sleep(self._pause_s)
        mx.async_eval(paced[-1:])
        began, worked = time.perf_counter(), time.thread_time()
        mx.async_eval(last)
        waited = time.perf_counter() - began - (time.thread_time() - worked)
        self._pause_s = self._pause_s + LONGER_S if waited > FULL_S else self._pause_s * SHORTER

    def _enter(self) -> None:
        if self._device is None and self._entries % LOOK == 0:
            self._look()
        elif self._device is not None and self._entries % CHECK == 0:
            self._check()
        self._entries += 1
        if self._own:
            os.sched_setaffinity(0, self._own)

    def _look(self) -> None:
        now, ran = time.monotonic_ns(), {int(task.name): _times(task.name)[0] for task in TASKS.iterdir()}
        busy = {task: ran[task] - before for task, before in self._ran.items()
                if task in ran and task != self._host}
        most = max(busy, key=busy.get, default=None)
        if most is not None and busy[most] > BUSY * (now - self._since):
            self._device, self._entries = most, 0
            self._check()
        self._since, self._ran = now, ran

    def _check(self) -> None:
        """Let go where others wanted a core; take hold again when the rest is over."""
        now, shares_time = time.monotonic_ns(), os.sched_getscheduler(0) == os.SCHED_OTHER
        waited = [_times(task)[1] / share
                  for task, share in ((self._device, DEVICE_WAITED), (self._host, HOST_WAITED))]
        if not self._own:
            if now >= self._rest_until and shares_time:
                self._take_hold()
        elif not shares_time or any(new - old > now - self._since
                                    for new, old in zip(waited, self._waited, strict=True)):
            os.sched_setaffinity(self._device, self._all)
            self._own = set()
            self._rest_until = now + int(self._rest_s * 1e9)
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)
        else:
            self._rest_s = REST_S
        self._since, self._waited = now, waited

    def _take_hold(self) -> None:
        self._all = os.sched_getaffinity(0)
        if len(self._all) > 1:
            own = {_core(self._host)}
            os.sched_setaffinity(self._device, self._all - own)
            ctypes.CDLL(None).prctl(SET_TIMERSLACK, SLACK_NS, 0, 0, 0)
            self._own = own


TOGETHER = Apart(0)  # for many rows: their operations are long
_of_threads: dict[int, Apart] = {}


def apart() -> Apart:
    """The one of the calling thread: `with apart():` around each step."""
    try:
        task = int(os.readlink(SELF).rpartition("/")[2])
    except OSError:  # not Linux
        task = 0
    if task not in _of_threads:
        _of_threads[task] = Apart(task)
    return _of_threads[task]


def _times(task: int | str) -> tuple[int, int]:
    """ns that a thread ran, and waited for a core."""
    ran, waited, _ = (TASKS / str(task) / "schedstat").read_bytes().split()
    return int(ran), int(waited)


def _core(task: int) -> int:
    """The core that a thread runs on."""
    return int((TASKS / str(task) / "stat").read_text().rpartition(")")[2].split()[36])
