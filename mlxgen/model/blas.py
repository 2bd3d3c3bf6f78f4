"""A fast BLAS under MLX on Linux.

MLX's CPU wheel for Linux carries the reference BLAS. When the system has OpenBLAS
(Debian: libopenblas0-pthread), loading it with global symbols *before* libmlx makes the dynamic linker bind
sgemm and sgemv there: a 1024 x 1024 x 1024 product went from 289 to 18 ms on one core. Nothing happens where
there is no such library, on macOS (Accelerate), or when mlx was imported before this module.
MLXGEN_BLAS=off turns it off, so that a benchmark can compare.
"""

from __future__ import annotations

import ctypes
import os
import sys

OPENBLAS = "libopenblas.so.0"


def load_openblas() -> bool:
    """Load the system's OpenBLAS ahead of MLX; True if MLX will run on it."""
    if not sys.platform.startswith("linux") or os.environ.get("MLXGEN_BLAS") == "off":
        return False
    if "mlx.core" in sys.modules:
        return False
    try:
        ctypes.CDLL(OPENBLAS, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


LOADED = load_openblas()
