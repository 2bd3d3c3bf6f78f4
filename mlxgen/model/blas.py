"""A fast BLAS under MLX on Linux.

MLX's CPU wheel for Linux carries the reference BLAS. When the system has OpenBLAS
(Debian: libopenblas0-pthread), loading it with global symbols *before* libmlx makes the dynamic linker bind
sgemm there: a 1024 x 1024 x 1024 product went from 289 to 18 ms on one core. Nothing happens where there is
no such library, on macOS (Accelerate), or when mlx was imported before this module.
MLXGEN_BLAS=off turns it off, so that a benchmark can compare.

OpenBLAS 0.3.21 (Debian 12) takes an AMD processor newer than itself for a Haswell and leaves its AVX-512
alone. Where the processor has what OpenBLAS's SkylakeX kernels need, that name is put into
OPENBLAS_CORETYPE, unless it is set already: one row times 256 x 768 went from 50 to 12 us (those kernels do
not pack small matrices), 256 rows from 2.7 to 0.5 ms.

A helper thread of OpenBLAS spins for 2^26 ticks after its last product, some 27 ms in which the thread that
builds steps wants that core; OPENBLAS_THREAD_TIMEOUT asks for 2^18 (0.1 ms), unless it is set: the first 70
ids after a prompt take .95 of the time, reading prompts takes what it took.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPENBLAS = "libopenblas.so.0"
SPIN_TICKS_LOG2 = "18"
SKYLAKEX_FLAGS = {"avx2", "fma", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


def choose_kernels(cpuinfo: str) -> str | None:
    """The OPENBLAS_CORETYPE to ask for, from the text of /proc/cpuinfo; None: let OpenBLAS choose."""
    facts = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", "").split())
    return "SkylakeX" if facts.get("vendor_id") == "AuthenticAMD" and flags >= SKYLAKEX_FLAGS else None


def load_openblas() -> bool:
    """Load the system's OpenBLAS ahead of MLX; True if MLX will run on it."""
    if not sys.platform.startswith("linux") or os.environ.get("MLXGEN_BLAS") == "off":
        return False
    if "mlx.core" in sys.modules:
        return False
    cpuinfo = Path("/proc/cpuinfo")
    kernels = choose_kernels(cpuinfo.read_text()) if cpuinfo.exists() else None
    if kernels:
        os.environ.setdefault("OPENBLAS_CORETYPE", kernels)
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", SPIN_TICKS_LOG2)
    try:
        ctypes.CDLL(OPENBLAS, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


@contextmanager
def at_most_threads(count: int) -> Iterator[None]:
    """Inside, OpenBLAS uses at most `count` threads for one product; other BLAS libraries go on as they are.

    Products that several MLX streams ask for at once would otherwise wait for each other.
    """
    if not LOADED:
        yield
        return
    library = ctypes.CDLL(OPENBLAS)
    before = library.openblas_get_num_threads()
    library.openblas_set_num_threads(min(before, count))
    try:
        yield
    finally:
        library.openblas_set_num_threads(before)


LOADED = load_openblas()
