"""A replaced prefix equals the slow twin: other keys and values in front, everything behind as it was."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from slow_twin import SlowTwin
from tiny_models import make_model
from twin_drive import Drive, as_ids

from mlxgen.model.prefix import replace_prefix

BOUND = 1e-4


def replace_both(drive: Drive, count: int, ids: list[int]) -> None:
    replace_prefix(drive.model, drive.cache, count, ids)
    twin = drive.twins[0]
    fresh = SlowTwin(twin.config, twin.weights, twin.window, len(ids))
    fresh.feed(ids)
    twin.keys[:count], twin.values[:count] = fresh.keys, fresh.values
    twin.prefix += len(ids) - count


@pytest.mark.parametrize("kind", ["pope-gqa", "rope-mha", "pope-drope"])
@pytest.mark.parametrize("fed", [10, 25, 170])      # inside the window, about to wrap, prefix moved twice
def test_it_equals_the_twin_shorter_longer_and_again(kind, fed):
    drive = Drive(kind, seed=fed, window=20, prefix=9, slack=6)
    drive.feed(fed)
    length = 6                                      # of 9 pinned, the last three are a theme that stays
    for ids in ([1, 2, 3, 4, 5, 6], [7, 8, 9, 1, 2, 3, 4, 5], [3, 2, 1]):
        replace_both(drive, length, ids)
        length = len(ids)
        drive.feed(1)
        drive.rewind(2)
        for _ in range(40):
            drive.feed(1)
        drive.feed(7)
    assert drive.worst <= BOUND


def test_it_is_heard_and_the_same_ids_change_nothing():
    model, _ = make_model("pope-gqa")
    ids = np.random.default_rng(1).integers(0, 23, 60)
    cache = model.make_cache(window=30, prefix=5, slack=8)
    model(as_ids([ids]), cache=cache)
    before = model(as_ids([[3]]), cache=cache)
    for count, prefix, same in ((5, ids[:5], True), (5, (ids[:5] + 1) % 23, False)):
        cache.rewind(1)
        replace_prefix(model, cache, count, [int(token) for token in prefix])
        after = model(as_ids([[3]]), cache=cache)
        assert (float(mx.abs(after - before).max()) < BOUND) == same


def test_what_cannot_be_replaced_is_refused():
    model, _ = make_model("pope-gqa")
    cache = model.make_cache(window=30, prefix=5, slack=8)
    model(as_ids([[1, 2, 3]]), cache=cache)
    for count, ids in ((4, [1]), (0, [1]), (3, [])):
        with pytest.raises(ValueError, match="expected 1 to 3 pinned"):
            replace_prefix(model, cache, count, ids)
    model(as_ids([[1, 2, 3]]), cache=cache)
    with pytest.raises(ValueError, match="forked"):
        replace_prefix(model, cache.fork(2), 3, [1, 2, 3])
