"""Candidates: N continuations of one context in one batch, each row ending on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.engine import Engine

Stop = Callable[[list[int]], bool]


@dataclass(frozen=True)
class Candidate:
    """One continuation. ended: "eos", "stop" (the predicate), or None when max_tokens ran out."""

    ids: list[int]
    logprobs: list[float]
    ended: str | None


def stop_after_bars(vocab: Vocab, bars: int) -> Stop:
    """True at the BAR that opens bar number `bars` + 1 of what was drawn (that BAR is the last id)."""
    if bars < 1:
        raise ValueError(f"bars {bars}: expected 1 or more")
    bar = vocab["BAR"]
    return lambda ids: ids[-1] == bar and ids.count(bar) > bars


def candidates(engine: Engine, n: int, max_tokens: int, stop: Stop | None = None,
               seeds: Sequence[int] | None = None) -> list[Candidate]:
    """`n` continuations from where `engine` stands, which stays there. Row r draws with seeds[r].

    A row ends after EOS or after an id for which `stop(ids of the row so far)` is true; the others go on
    and draw what they would have drawn alone.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens {max_tokens}: expected 1 or more")
    fork = engine.fork(n, seeds)
    eos = engine.vocab["EOS"]
    rows: list[tuple[list[int], list[float]]] = [([], []) for _ in range(n)]
    ended: list[str | None] = [None] * n
    for count in range(1, max_tokens + 1):
        drawn = fork.step(ahead=count < max_tokens)
        for row, (ids, logprobs) in enumerate(rows):
            if ended[row] is None:
                ids.append(drawn.ids[row])
                logprobs.append(drawn.logprobs[row])
                if ids[-1] == eos:
                    ended[row] = "eos"
                elif stop is not None and stop(ids):
                    ended[row] = "stop"
        if all(ended):
            break
    return [Candidate(ids, logprobs, end) for (ids, logprobs), end in zip(rows, ended, strict=True)]
