"""Whether steps are compiled here.

MLX compiles for Metal and CUDA by itself, in milliseconds. For the CPU it calls the system's C++ compiler
for every fused kernel, some thirty of them for a step: half a minute the first time, nothing afterwards,
since the kernels stay in the temporary folder; compiled steps then take about two thirds of the time. So on a
CPU steps are compiled only when that half minute was spent before (`python -m bench` does, or
EngineOptions(compiled=True)), which a marker beside the kernels says. The ids drawn are the same either way.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import cache
from pathlib import Path

import mlx.core as mx


def _marker() -> Path:
    """Beside MLX's kernels, so that whoever clears them clears it."""
    return Path(tempfile.gettempdir()) / "mlx" / mx.__version__ / "cpu" / "mlxgen-steps"


@cache
def can_compile() -> bool:
    """True if MLX compiles on the default device; otherwise one line of notice on stderr, once (none when
    MLX_DISABLE_COMPILE asks for it).

    Without a compiler MLX either leaves a function as it is or fails when it first runs.
    """
    if os.environ.get("MLX_DISABLE_COMPILE"):
        return False
    reason = "no C++ compiler found"
    try:
        mx.eval(mx.compile(lambda x: mx.exp(x) * 2 + 1)(mx.array([1.0])))
        if mx.default_device() == mx.gpu or _marker().parent.is_dir():
            return True
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
    print(f"mlxgen: steps run uncompiled and slower; MLX cannot compile here ({reason})", file=sys.stderr)
    return False


def should_compile() -> bool:
    """True where compiling costs next to nothing: on a GPU, or with the kernels there from before."""
    return mx.default_device() == mx.gpu or (_marker().exists() and can_compile())


def remember_kernels() -> None:
    """Note that the kernels of a step are there, for `should_compile` of later runs."""
    if mx.default_device() != mx.gpu and _marker().parent.is_dir():
        _marker().touch()
