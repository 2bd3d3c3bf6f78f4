"""generate-long: plan, chunks, candidates, pick, stitch, report."""

from mlxgen.model import blas as _blas  # noqa: F401  (must run before mlx is first imported)
