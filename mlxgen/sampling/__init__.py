"""From logits to ids: rules, sampler, and the one step that everything runs."""
