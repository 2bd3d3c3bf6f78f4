"""From ids to logits: the transformer, its positions and its cache. mlx only."""
