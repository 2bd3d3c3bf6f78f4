"""What keeps a performance safe on a Mac, through the system's own libraries.

Written from Apple's documentation and headers, NOT yet run on a Mac. Every measure, and how to check it there
while `mlxgen stream` plays (PID: `pgrep -f mlxgen`):

    no App Nap            Activity Monitor, Energy, column "App Nap" says No for every python of mlxgen
    no timer coalescing   `python -m bench latency timer`: p99 well under 1 ms, also after ten idle minutes
    player's thread       `ps -M -p PID`: the player's main thread has priority 97 (time constraint)
    generator's thread    `ps -M -p PID`: priority 47 (user interactive)
    GPU kept warm         `sudo powermetrics --samplers gpu_power -i 1000`: it does not fall idle in rests
    sleep prevented       `pmset -g assertions | grep caffeinate`
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys

IS_MAC = sys.platform == "darwin"

# mach/thread_policy.h
_THREAD_TIME_CONSTRAINT_POLICY = 2
_THREAD_TIME_CONSTRAINT_COUNT = 4
# NSProcessInfo.h: user initiated, idle system sleep allowed or not, latency critical
_ACTIVITY_USER_INITIATED = 0x00FFFFFF
_ACTIVITY_LATENCY_CRITICAL = 0xFF00000000

# sys/qos.h
_QOS_USER_INTERACTIVE = 0x21

_activities: list[int] = []     # kept for as long as the process lives


def make_thread_time_critical(period_s: float = 0.005, computation_s: float = 0.001,
                              constraint_s: float = 0.003) -> bool:
    """Ask Mach for a time-constraint thread (what Core Audio's own threads have). True if granted."""
    system = ctypes.CDLL(ctypes.util.find_library("System"))
    timebase = (ctypes.c_uint32 * 2)()
    system.mach_timebase_info(ctypes.byref(timebase))
    per_second = 1e9 * timebase[1] / timebase[0]
    policy = (ctypes.c_uint32 * 4)(int(period_s * per_second), int(computation_s * per_second),
                                   int(constraint_s * per_second), 1)
    system.mach_thread_self.restype = ctypes.c_uint32
    return system.thread_policy_set(system.mach_thread_self(), _THREAD_TIME_CONSTRAINT_POLICY,
                                    ctypes.byref(policy), _THREAD_TIME_CONSTRAINT_COUNT) == 0


def make_thread_user_interactive() -> bool:
    """The highest ordinary quality of service for this thread (sys/qos.h). True if granted."""
    system = ctypes.CDLL(ctypes.util.find_library("System"))
    return system.pthread_set_qos_class_self_np(_QOS_USER_INTERACTIVE, 0) == 0


def begin_activity(reason: str = "mlxgen plays") -> None:
    """No App Nap and no coalesced timers for this process, until it ends."""
    objc = ctypes.CDLL(ctypes.util.find_library("objc"))
    ctypes.CDLL(ctypes.util.find_library("Foundation"))
    objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p
    objc.objc_getClass.argtypes = objc.sel_registerName.argtypes = [ctypes.c_char_p]

    def send(receiver, selector: bytes, *arguments, types=()):
        call = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, *types)(
            ("objc_msgSend", objc))
        return call(receiver, objc.sel_registerName(selector), *arguments)

    info = send(objc.objc_getClass(b"NSProcessInfo"), b"processInfo")
    text = send(objc.objc_getClass(b"NSString"), b"stringWithUTF8String:", reason.encode(),
                types=(ctypes.c_char_p,))
    activity = send(info, b"beginActivityWithOptions:reason:",
                    _ACTIVITY_USER_INITIATED | _ACTIVITY_LATENCY_CRITICAL, text,
                    types=(ctypes.c_uint64, ctypes.c_void_p))
    _activities.append(send(activity, b"retain"))


def prevent_sleep() -> subprocess.Popen | None:
    """Keep display and system awake while this process lives."""
    if not IS_MAC:
        return None
    return subprocess.Popen(["caffeinate", "-d", "-i", "-m", "-s", "-w", str(os.getpid())])
