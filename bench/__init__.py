"""Benchmarks: each prints a table and ends with one JSON line."""

from mlxgen.model import blas as _blas  # noqa: F401  (must run before mlx is first imported)
