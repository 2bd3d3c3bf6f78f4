"""What decides a run: its settings, and what follows from its progress 0 to 1: learning rate, crop length."""

from __future__ import annotations

from dataclasses import dataclass

# Until this share of the budget: crop lengths, drawn with equal chance. Short crops are cheaper a token and
# teach the grammar; the last stages teach the memory that chunks and streams need.
STAGES = ((0.20, (256,)), (0.55, (512,)), (0.85, (1024,)), (1.0, (1024, 2048)))
DECAY_FROM = 0.60
FINAL_LR_SHARE = 0.02


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run but the data."""

    lr: float = 6e-3
    optimizer: str = "muon"
    weight_decay: float = 0.05
    dropout: float = 0.0
    tokens_per_step: int = 4096
    shortest: int = 256
    warmup_steps: int = 100
    clip: float = 1.0
    steps: int = 0
    minutes: float = 0.0
    valid_every_s: float = 300.0
    save_every_s: float = 120.0
    seed: int = 0
    device: str = "cpu"


def learning_rate(settings: Settings, step: int, progress: float) -> float:
    """Linear warm-up, level, then linear to FINAL_LR_SHARE.

    The level part can be resumed with a larger budget.
    """
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    fall = max(0.0, (progress - DECAY_FROM) / (1 - DECAY_FROM))
    return settings.lr * warm * (1 - (1 - FINAL_LR_SHARE) * min(fall, 1.0))


def crop_length(step: int, progress: float, shortest: int, longest: int) -> int:
    """The crop length of one step: the lengths of its stage in turn."""
    lengths = next(lengths for until, lengths in STAGES if progress <= until or until == 1.0)
    return min(max(lengths[step % len(lengths)], shortest), longest)
