"""The step as a pure function: the only step body in the project."""

from __future__ import annotations

from collections.abc import Callable

from mlxgen.sampling.rules import Rules
from mlxgen.sampling.sampler import apply_filters, apply_log_probability, draw


def make_step(model, rules: Rules, shape, filters: tuple[bool, bool], early: bool = False) -> Callable:
    """The step as a pure function: feed ids, apply rules and filters, draw, advance the rules.

    (ids (B, 1), cache state, rule state, rule arrays, knobs, noise (B, V)) ->
    (drawn (B, 1), logprobs (B, 1), rule state, weights, written cache arrays).

    weights: what the rules add to the logits, if that is to be an array of its own (`early`), which may be
    evaluated before the rest; otherwise nothing.
    """
    size = len(rules.vocab)

    def step(ids, held, state, arrays, knobs, noise):
        logits, written = model.step_logits(ids, held, shape)
        if logits.shape[-1] > size:  # rows of the embedding that the tokenizer has no names for
            logits = logits[:, :size]
        if early and state:
            weights = rules.weigh(state, arrays)
            # one more axis: MLX makes one kernel of two outputs of a shape, which would need the logits
            allowed, apart = logits + weights, [weights[None]]
        else:
            allowed, apart = rules.apply(logits, state, arrays), []
        drawn = draw(apply_filters(allowed, knobs, *filters), noise, knobs)
        logprobs, state = apply_log_probability(logits, drawn), rules.advance(state, drawn, arrays)
        return drawn, logprobs, state, apart, written

    return step
