"""mlx-lm's rotating cache, the peer of bench/stream_contestants.py."""

from __future__ import annotations


def make_rotating_cache(size: int, keep: int):
    """A cache of `size` tokens for one layer, the first `keep` of them pinned."""
    from mlx_lm.models.cache import RotatingKVCache

    return RotatingKVCache(max_size=size, keep=keep)
