"""Compiled functions of one model, shared by all that run it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import mlx.core as mx

KEPT = 64  # a traced step takes some 0.3 MB


class CompiledTable:
    """Functions through mx.compile by a key that says all they depend on besides their arguments.

    So a fork, another key of music or a new engine traces nothing that was traced before. The one that was
    not asked for longest leaves when there are more than KEPT. MLX traces anew in another thread.
    """

    def __init__(self) -> None:
        self._functions: OrderedDict[Hashable, Callable] = OrderedDict()

    def find(self, key: Hashable, make: Callable[[], Callable]) -> tuple[Callable, bool]:
        """The compiled function, and whether it is new: then it is what `make()` returns, compiled."""
        is_new = key not in self._functions
        if is_new:
            self._functions[key] = mx.compile(make())
            if len(self._functions) > KEPT:
                self._functions.popitem(last=False)
        self._functions.move_to_end(key)
        return self._functions[key], is_new
