"""Muon for the matrices inside the layers, AdamW for everything else.

Muon (Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/): the momentum of a weight matrix is
replaced by its nearest orthogonal matrix, found by five Newton-Schulz steps. Embeddings, norms and biases
have no such geometry.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Coefficients of the quintic iteration, from the same source: steepest at 0, bounded on [0, 1].
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
EPSILON = 1e-7


def orthogonalised(matrix: Tensor) -> Tensor:
    """(rows, columns) -> about its nearest (semi-)orthogonal matrix, singular values in about .7 to 1.2."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if wide else matrix).bfloat16()
    x = x / (x.norm() + EPSILON)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if wide else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; a step has an RMS of .2 lr for any shape (arXiv 2502.16982)."""

    def __init__(self, matrices, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                momentum = state.setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalised(matrix.grad.lerp(momentum, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)


def make_optimizers(
    model: nn.Module, kind: str, lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """ "muon".

    Muon on the layers' matrices and AdamW on the rest; "adamw": AdamW on everything. Decay on matrices
    only.
    """
    matrices = [
        weight for name, weight in model.named_parameters() if weight.ndim == 2 and name.startswith("layers.")
    ]
    known = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    if kind == "muon":
        return [
            Muon(matrices, lr, weight_decay=weight_decay),
            torch.optim.AdamW(rest, lr, betas=(0.9, 0.95), weight_decay=0.0),
        ]
    if kind == "adamw":
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, lr, betas=(0.9, 0.95))]
    raise ValueError(f"optimizer {kind!r}: expected muon or adamw")
