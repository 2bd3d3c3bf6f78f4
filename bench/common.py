"""What the benches share: options, the machine in words, contestants, medians with spreads, the JSON line."""

from __future__ import annotations

import argparse
import ctypes.util
import json
import os
import platform
import statistics
import sys
from importlib import metadata
from pathlib import Path

from bench.worker import ROOT, Contestant

DEFAULT_MODEL = ROOT / "weights" / "default"

# what holds for every contestant and changes figures
ENVIRONMENT = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE",
               "OPENBLAS_THREAD_TIMEOUT", "MLX_DISABLE_COMPILE")

# name -> module; the first is what the others are compared with
CONTESTANTS = {
    "mlxgen": "bench.ours",
    "mlxgen, no rules": "bench.ours_unconstrained",
    "mlxgen, soft rules": "bench.ours_soft",
    "torch loop, rules": "bench.peers.torch_loop",
    "mlx-lm, no rules": "bench.peers.mlx_lm_peer",
}
NEEDS = {"bench.peers.torch_loop": "torch", "bench.peers.mlx_lm_peer": "mlx-lm"}


def find_allocator() -> str | None:
    """jemalloc, if the system has it: preloaded for every contestant alike on Linux.

    MLX's CPU backend allocates on one thread and frees on another. glibc's lock is then fought over, in some
    runs and not in others (4.4 or 2.9 ms an id, ours; mlx-lm 8.3 or 3.3); with jemalloc runs are all alike.
    """
    name = ctypes.util.find_library("jemalloc") if sys.platform.startswith("linux") else None
    return name if name and "LD_PRELOAD" not in os.environ else None


def make_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model folder")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes: only to see that it runs")
    return parser


def describe_machine() -> dict:
    """Machine, processor, cores, and the versions of what is measured."""
    versions = {}
    for package in ("mlxgen", "mlx", "mlx-lm", "torch", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if package == "mlxgen":
                from mlxgen import __version__

                versions[package] = __version__
    return {"system": f"{platform.system()} {platform.machine()}", "processor": _processor(),
            "cores": os.cpu_count(), "python": platform.python_version(), "versions": versions,
            "allocator": find_allocator() or os.environ.get("LD_PRELOAD", "the system's"),
            "environment": {name: os.environ.get(name, "unset") for name in ENVIRONMENT}}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def open_contestants(names: list[str], model: Path) -> dict[str, Contestant]:
    """Start the named contestants; one whose package is not installed is left out, with a line on stderr."""
    opened = {}
    allocator = find_allocator()
    environment = {"LD_PRELOAD": allocator} if allocator else {}
    for name in names:
        module = CONTESTANTS[name]
        package = NEEDS.get(module)
        try:
            if package:
                metadata.version(package)
        except metadata.PackageNotFoundError:
            print(f"bench: {name} left out: {package} is not installed", file=sys.stderr)
            continue
        opened[name] = Contestant(name, module, str(model), environment=environment)
    return opened


def median_and_spread(values: list[float]) -> tuple[float, float]:
    """The median and half the distance between the smallest and the largest."""
    return statistics.median(values), (max(values) - min(values)) / 2


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) if place == 0 else cell.rjust(width)
                        for place, (cell, width) in enumerate(zip(row, widths, strict=True))))


def finish(result: dict, json_path: Path | None) -> dict:
    """Print the result as one JSON line, the last; write it to a file if asked to."""
    line = json.dumps(result)
    print(line)
    if json_path:
        temporary = json_path.with_name(json_path.name + ".part")
        temporary.write_text(line + "\n", encoding="utf-8")
        temporary.replace(json_path)
    return result
