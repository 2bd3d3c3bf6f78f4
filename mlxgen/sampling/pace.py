"""A soft rule of ours for pace: a form's note values as often as in real music.

Left alone, one value begets itself: the model writes whole fugues in quarters or, pushed, in sixteenths, and
chorales without half notes and sixteenths. So the last notes of all voices are counted, older ones less, and
every value that is rarer among them than it should be is that much likelier: log (share wanted / share
heard), times the form's gain. When to change is still the model's choice.

The counts decay by shifts of integers, so that host and device agree to the last bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context
from mlxgen.sampling.motion import LASTS

# Shares of note values, by ticks, counted in training pieces; a value that is not here is left alone.
PACES = {
    "chorale": {120: 0.024, 240: 0.339, 480: 0.518, 720: 0.02, 960: 0.07, 1440: 0.02, 1920: 0.006},
    "fugue": {60: 0.006, 120: 0.36, 240: 0.35, 360: 0.021, 480: 0.15, 720: 0.026, 960: 0.055, 1440: 0.012,
              1920: 0.01},
}
GAINS = {"chorale": 1.0, "fugue": 1.3}
MOST = 2.5  # logits, before the gain
MEMORY = 5  # a note counts half after .7 * 2^MEMORY more
NOTE = 1 << 16  # what a note adds to its value
WHOLE = NOTE << MEMORY  # what all values add up to
LEAST = WHOLE // 100  # a share below this counts as this


class PaceTables(NamedTuple):
    """What the rule knows of the ids of one context."""

    ids: mx.array  # (1, V) int32: 0, 1, 2, ...
    wanted: mx.array  # (1, V) log of the count wanted
    gain: mx.array  # (1, V) 0 where the rule says nothing


def asks_for_pace(context: Context) -> bool:
    """Whether the rule holds; where it does not, the counts stand still and cost nothing."""
    return context.form in PACES and not context.sequential


@lru_cache(maxsize=16)
def start_values(vocab: Vocab, form: str | None) -> tuple[int, ...]:
    """(V,) counts before the first note: as wanted."""
    wanted, durations = [0] * len(vocab), vocab.family("Dur_")
    for ticks, share in PACES.get(form, {}).items():
        if str(ticks) in durations:
            wanted[durations[str(ticks)]] = round(share * WHOLE)
    return tuple(wanted)


@lru_cache(maxsize=16)
def make_pace_tables(vocab: Vocab, context: Context) -> PaceTables:
    wanted = np.array([start_values(vocab, context.form)])
    return PaceTables(mx.array([list(range(len(vocab)))], dtype=mx.int32),
                      mx.array(np.log(np.maximum(wanted, LEAST)), dtype=mx.float32),
                      mx.array(GAINS.get(context.form, 0.0) * (wanted > 0), dtype=mx.float32))


def apply_pace(logits: mx.array, values: mx.array, tables: PaceTables) -> mx.array:
    """(B, V) logits and (B, V) counts -> (B, V), rare values likelier."""
    rarer = tables.wanted - mx.log(mx.maximum(values, LEAST).astype(mx.float32))
    return logits + tables.gain * mx.clip(rarer, -MOST, MOST)


def advance_pace(values: mx.array, ids: mx.array, facts: mx.array, tables: PaceTables) -> mx.array:
    """(B, V) counts after one more id a row; ids (B, 1), facts (V,) of `motion.lane_facts`."""
    lasts = (mx.take(facts, ids) & LASTS) != 0
    older = values - (values >> MEMORY)
    return mx.where(lasts, older + mx.where(tables.ids == ids, NOTE, 0), values)


def advance_pace_row(values: tuple[int, ...], token: int, fact: int) -> tuple[int, ...]:
    """The same for one row in plain integers."""
    if not fact & LASTS:
        return values
    return tuple(count - (count >> MEMORY) + NOTE * (value == token) for value, count in enumerate(values))
