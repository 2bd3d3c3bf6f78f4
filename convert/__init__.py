"""From an upstream PyTorch checkpoint to a model folder, with proof that it is the same model."""
