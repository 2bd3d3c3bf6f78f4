"""Averages two checkpoints of one lineage: `python -m weights.recipe.average A.pt B.pt --out C.pt`.

Where B was trained on from A, the straight line between them often has a lower held-out loss than either end
(Wortsman et al. 2022, arXiv 2109.01903): it takes the noise of a high learning rate out, as its fall would.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from . import checkpoints


def average(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) of `first` and `share` of `second`, name by name. ValueError where they do not match."""
    if not 0 <= share <= 1:
        raise ValueError(f"share {share}: expected 0 to 1")
    for name in sorted(first.keys() ^ second.keys()):
        raise ValueError(f"{name} is in one checkpoint only; expected two of one architecture")
    for name, weight in first.items():
        if weight.shape != second[name].shape:
            raise ValueError(f"{name}: shapes {tuple(weight.shape)} and {tuple(second[name].shape)} differ")
    return {name: weight.lerp(second[name], share) for name, weight in first.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="The weighted average of two checkpoints.")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="how much of the second")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    first, second = checkpoints.load(args.first), checkpoints.load(args.second)
    weights = average(first["model_state_dict"], second["model_state_dict"], args.share)
    checkpoints.write(args.out, {**second, "model_state_dict": weights, "optimizer_state_dict": {},
                                 "best_val_loss": None})


if __name__ == "__main__":
    main()
