"""Held-out likelihood: pieces cut into windows that each carry the prefix, every token after it charged once.

A window starts at a bar line about `stride` tokens after the last one and is charged from where the last
one ended, so that all but the first have context; torch only in the function that runs the model.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from .data import IGNORED, EncodedPiece


@dataclass(frozen=True)
class Window:
    """Inputs and targets (length,) of one stretch of one piece; IGNORED targets are not charged."""

    form: str
    piece: str
    inputs: np.ndarray
    targets: np.ndarray


def make_windows(
    piece: EncodedPiece, length: int, limit: int = 1 << 30, prefix: np.ndarray | None = None
) -> list[Window]:
    """The windows of one piece, at most `limit` of them, each overlapping the last by half."""
    windows, start, charged = [], 0, 0
    while charged < len(piece.events) and len(windows) < limit:
        own = piece.prefix_at(start) if prefix is None else prefix
        room = length + 1 - len(own)
        end = min(start + room, len(piece.events))
        ids = np.concatenate([own, piece.events[start:end]])
        targets = np.full(len(ids) - 1, IGNORED, dtype=np.int64)
        first = len(own) + charged - start
        targets[first - 1 :] = np.where(piece.charged(charged, end), ids[first:], IGNORED)
        windows.append(Window(piece.form, piece.name, ids[:-1], targets))
        charged = end
        bars = piece.bar_starts[piece.bar_starts >= end - room // 2]
        start = int(bars[0]) if len(bars) and bars[0] < end else max(0, end - room // 2)
    return windows


def measure_windows(
    model, windows: list[Window], device: str = "cpu", amp: bool = True
) -> dict[str, list[float]]:
    """{piece: [nats, tokens]} under the model. Rows of one length are run together."""
    import torch
    import torch.nn.functional as functional

    model.eval()
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for window in sorted(windows, key=lambda window: len(window.inputs)):
        inputs = torch.from_numpy(window.inputs)[None].to(device)
        targets = torch.from_numpy(window.targets).to(device)
        with torch.no_grad(), torch.device(device), torch.autocast(device, torch.bfloat16, enabled=amp):
            logits = model(inputs)[0].float()
        totals[window.piece][0] += float(
            functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
        )
        totals[window.piece][1] += int((window.targets != IGNORED).sum())
    return dict(totals)


def by_form(totals: dict[str, list[float]], forms: dict[str, str]) -> dict[str, float]:
    """{form: nats per token} from measure_windows and {piece: form}."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for piece, (nats, tokens) in totals.items():
        sums[forms[piece]][0] += nats
        sums[forms[piece]][1] += tokens
    return {form: nats / max(tokens, 1) for form, (nats, tokens) in sorted(sums.items())}
