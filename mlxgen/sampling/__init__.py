"""From logits to ids: rules, sampler, and the engine with the project's only step."""
