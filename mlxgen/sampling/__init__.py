"""From logits to ids: rules, sampler, and the engine with the project's only step."""

from mlxgen.model import blas as _blas  # noqa: F401  (must run before mlx is first imported)
