"""A soft rule of ours for pace: a form's note values as often as in real music.

Left alone, one value begets itself: the model writes whole fugues in quarters or, pushed, in sixteenths, and
chorales without half notes and sixteenths. So the last notes of all voices are counted, older ones less, and
every value that is rarer among them than it should be is that much likelier: log (share wanted / share
heard), times the form's gain. When to change is still the model's choice. In fugues the steps of the clock
are counted beside the notes: with the right note values the voices still moved together in eighths, and the
texture was thinner than Bach's; for the same reason voices are a little likelier to attack.

The counts decay by shifts of integers, so that host and device agree to the last bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context
from mlxgen.sampling.lookup import look_up
from mlxgen.sampling.motion import LASTS, SHIFTS

# Shares of note values, counted in training pieces; in fugues, those in 4/4, among notes and steps of the
# clock together. An id that is not here is left alone.
PACES = {
    "chorale": {"Dur_120": 0.024, "Dur_240": 0.339, "Dur_480": 0.518, "Dur_720": 0.02, "Dur_960": 0.07,
                "Dur_1440": 0.02, "Dur_1920": 0.006},
    "fugue": {"Dur_60": 0.003, "Dur_120": 0.288, "Dur_240": 0.21, "Dur_360": 0.01, "Dur_480": 0.086,
              "Dur_720": 0.012, "Dur_960": 0.022, "Dur_1440": 0.005, "Dur_1920": 0.005,
              "TimeShift_120": 0.264, "TimeShift_240": 0.077, "TimeShift_480": 0.015},
}
GAINS = {"chorale": 1.0, "fugue": 1.3}
ATTACKS = {"fugue": 0.25}  # logits for the voices' names
MOST = 2.5  # logits, before the gain
MEMORY = 5  # what is counted counts half after .7 * 2^MEMORY more
NOTE = 1 << 16  # what a note adds to its value
WHOLE = NOTE << MEMORY  # what all values add up to
LEAST = WHOLE // 100  # a share below this counts as this


class PaceTables(NamedTuple):
    """What the rule knows of the ids of one context."""

    ids: mx.array  # (1, V) int32: 0, 1, 2, ...
    wanted: mx.array  # (1, V) log of the count wanted
    gain: mx.array  # (1, V) 0 where the rule says nothing
    counted: mx.array  # flags of the facts that are counted


def asks_for_pace(context: Context) -> bool:
    """Whether the rule holds; where it does not, the counts stand still and cost nothing."""
    return context.form in PACES and not context.sequential


@lru_cache(maxsize=16)
def counted_facts(form: str | None) -> int:
    """The flags of `motion.lane_facts` whose ids count: notes, and the clock where its shares are known."""
    timed = any(name.startswith("TimeShift_") for name in PACES.get(form, ()))
    return LASTS | SHIFTS if timed else LASTS


@lru_cache(maxsize=16)
def start_values(vocab: Vocab, form: str | None) -> tuple[int, ...]:
    """(V,) counts before the first note: as wanted."""
    wanted = [0] * len(vocab)
    for name, share in PACES.get(form, {}).items():
        if name in vocab:
            wanted[vocab[name]] = round(share * WHOLE)
    return tuple(wanted)


@lru_cache(maxsize=16)
def make_pace_tables(vocab: Vocab, context: Context) -> PaceTables:
    counts = np.array([start_values(vocab, context.form)])
    wanted, gain = np.log(np.maximum(counts, LEAST)), GAINS.get(context.form, 0.0) * (counts > 0)
    names = [token for number, token in vocab.family("VOICE_").items() if number.isdigit()]
    wanted[0, names] += ATTACKS.get(context.form, 0.0)  # a name is never counted: what it lacks stays
    gain[0, names] = 1.0
    return PaceTables(mx.array([list(range(len(vocab)))], dtype=mx.int32), mx.array(wanted, dtype=mx.float32),
                      mx.array(gain, dtype=mx.float32), mx.array(counted_facts(context.form), dtype=mx.int32))


def apply_pace(logits: mx.array, values: mx.array, tables: PaceTables) -> mx.array:
    """(B, V) logits and (B, V) counts -> (B, V), rare values likelier."""
    rarer = tables.wanted - mx.log(mx.maximum(values, LEAST).astype(mx.float32))
    return logits + tables.gain * mx.clip(rarer, -MOST, MOST)


def advance_pace(values: mx.array, ids: mx.array, facts: mx.array, tables: PaceTables) -> mx.array:
    """(B, V) counts after one more id a row; ids (B, 1), facts (1, V) of `motion.lane_facts`."""
    counts = (look_up(facts, ids) & tables.counted) != 0
    older = values - (values >> MEMORY)
    return mx.where(counts, older + mx.where(tables.ids == ids, NOTE, 0), values)


def advance_pace_row(values: tuple[int, ...], token: int, fact: int, counted: int) -> tuple[int, ...]:
    """The same for one row in plain integers, `counted` of `counted_facts`."""
    if not fact & counted:
        return values
    return tuple(count - (count >> MEMORY) + NOTE * (value == token) for value, count in enumerate(values))
