"""The step as a pure function: the only step body in the project."""

from __future__ import annotations

from collections.abc import Callable

from mlxgen.sampling.rules import Rules
from mlxgen.sampling.sampler import apply_filters, apply_log_probability, draw


def make_step(model, rules: Rules, shape, filters: tuple[bool, bool]) -> Callable:
    """The step as a pure function: feed ids, apply rules and filters, draw, advance the rules.

    (ids (B, 1), cache state, rule state, rule arrays, knobs, noise (B, V)) ->
    (drawn (B, 1), logprobs (B, 1), rule state, written cache arrays).
    """
    size = len(rules.vocab)

    def step(ids, held, state, arrays, knobs, noise):
        logits, written = model.step_logits(ids, held, shape)
        if logits.shape[-1] > size:  # rows of the embedding that the tokenizer has no names for
            logits = logits[:, :size]
        allowed = rules.apply(logits, state, arrays)
        drawn = draw(apply_filters(allowed, knobs, *filters), noise, knobs)
        return drawn, apply_log_probability(logits, drawn), rules.advance(state, drawn, arrays), written

    return step
