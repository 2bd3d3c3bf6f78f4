"""Candidates: N continuations of one context in one batch, each row ending on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.engine import Engine
from mlxgen.sampling.lanes import Lanes

Stop = Callable[[list[int]], bool]

LEAVE_SHARE = 0.125  # ended rows leave the batch when they are this share of it; a step has a shape a batch


@dataclass(frozen=True)
class Candidate:
    """One continuation. ended: "eos", "stop" (the predicate), or None when max_tokens ran out."""

    ids: list[int]
    logprobs: list[float]
    ended: str | None


@dataclass
class _Row:
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: str | None = None


def stop_after_bars(vocab: Vocab, bars: int) -> Stop:
    """True at the BAR that opens bar number `bars` + 1 of what was drawn (that BAR is the last id)."""
    if bars < 1:
        raise ValueError(f"bars {bars}: expected 1 or more")
    bar = vocab["BAR"]
    return lambda ids: ids[-1] == bar and ids.count(bar) > bars


def candidates(engine: Engine, n: int, max_tokens: int, stop: Stop | None = None,
               seeds: Sequence[int] | None = None, *, lanes: int | None = None) -> list[Candidate]:
    """`n` continuations from where `engine` stands, which stays there. Row r draws with seeds[r].

    A row ends after EOS or after an id for which `stop(ids of the row so far)` is true, and leaves the batch
    soon after; the others go on and draw what they would have drawn alone. lanes: see lanes.py; None: as
    many as pay.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens {max_tokens}: expected 1 or more")
    batch = Lanes(engine, n, seeds, lanes=lanes, room=max_tokens)
    eos = engine.vocab["EOS"]
    rows = [_Row() for _ in range(n)]
    held = list(range(n))  # the numbers of the rows in the batch
    with batch.running():
        for count in range(1, max_tokens + 1):
            drawn = batch.step(ahead=count < max_tokens)
            for place, number in enumerate(held):
                if rows[number].ended is None:
                    _take(rows[number], drawn.ids[place], drawn.logprobs[place], eos, stop)
            going = [place for place, number in enumerate(held) if rows[number].ended is None]
            if not going:
                break
            if len(held) - len(going) >= max(1, LEAVE_SHARE * len(held)):
                batch.keep(going)
                held = [held[place] for place in going]
    return [Candidate(row.ids, row.logprobs, row.ended) for row in rows]


def _take(row: _Row, token: int, logprob: float, eos: int, stop: Stop | None) -> None:
    row.ids.append(token)
    row.logprobs.append(logprob)
    if token == eos:
        row.ended = "eos"
    elif stop is not None and stop(row.ids):
        row.ended = "stop"
