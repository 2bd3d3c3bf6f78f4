"""From ids to logits: the transformer, its positions and its cache. mlx only."""

from mlxgen.model import blas as _blas  # noqa: F401  (must run before mlx is first imported)
