"""Two checkpoints on the same held-out music: `python -m weights.recipe.compare A.pt B.pt --work A B`.

For one arm of an experiment beside another: a vocabulary, a corpus, a run. Each reads its own corpus'
encoding of the pieces that both hold out; their events are charged, EOS apart from them, names of sections
never. Differences are B's less A's, in nats per token, with a 95 % interval from 2,000 redraws of the
pieces: below 0, B is better.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .corpus import read_vocab
from .data import IGNORED, load_pieces
from .likelihood import HELD_OUT, load_torch
from .windows import Window, make_windows, measure_windows

REDRAWS = 2000


@dataclass(frozen=True)
class Arm:
    """Nats and tokens of every held-out piece, without EOS, and the nats of EOS where a window has it."""

    forms: dict[str, str]
    music: dict[str, list[float]]
    ends: dict[str, list[float]]


def measure_arm(checkpoint: Path, work: Path, length: int) -> Arm:
    """One checkpoint on its corpus' held-out pieces, in windows of `length` tokens."""
    vocab = read_vocab(work)
    pieces = [piece for piece in load_pieces(work, vocab) if piece.split in HELD_OUT]
    windows = [window for piece in pieces for window in make_windows(piece, length)]
    model = load_torch(checkpoint)
    ending = [window for window in windows if window.targets[-1] == vocab["EOS"]]
    return Arm(
        {piece.name: piece.form for piece in pieces},
        measure_windows(model, [charge(window, vocab["EOS"], wanted=False) for window in windows]),
        measure_windows(model, [charge(window, vocab["EOS"], wanted=True) for window in ending]),
    )


def charge(window: Window, token: int, *, wanted: bool) -> Window:
    """The window with only `token` charged, or with everything but it."""
    return replace(window, targets=np.where((window.targets == token) == wanted, window.targets, IGNORED))


def difference(first: dict, second: dict, names: list[str], seed: int = 0) -> tuple[float, float, float]:
    """Nats per token of the second less the first's over `names`, and the 95 % interval of redrawn pieces."""
    table = np.array([[*first[name], *second[name]] for name in names])
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(names), size=(REDRAWS, len(names)))
    sums = np.concatenate([table.sum(0)[None], table[draws].sum(1)])
    values = sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1]
    return float(values[0]), *(float(value) for value in np.quantile(values[1:], (0.025, 0.975)))


def compare(first: Arm, second: Arm) -> dict:
    """{form or "all" or "EOS": both arms' nats per token, the difference and its interval, pieces}."""
    both = [name for name in first.music if name in second.music]
    groups = {"all": both}
    for name in both:
        groups.setdefault(first.forms[name], []).append(name)
    result = {}
    for group, names in groups.items():
        result[group] = describe(first.music, second.music, names)
    ended = [name for name in both if name in first.ends and name in second.ends]
    return result | {"EOS": describe(first.ends, second.ends, ended)}


def describe(first: dict, second: dict, names: list[str]) -> dict:
    nats = [
        sum(arm[name][0] for name in names) / sum(arm[name][1] for name in names) for arm in (first, second)
    ]
    change, low, high = difference(first, second, names)
    return {
        "pieces": len(names),
        "first": round(nats[0], 4),
        "second": round(nats[1], 4),
        "difference": round(change, 4),
        "interval": [round(low, 4), round(high, 4)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs=2)
    parser.add_argument("--work", type=Path, nargs=2, required=True, help="the corpus of each")
    parser.add_argument("--length", type=int, default=1024, help="tokens a window")
    args = parser.parse_args()
    arms = [
        measure_arm(checkpoint, work, args.length)
        for checkpoint, work in zip(args.checkpoints, args.work, strict=True)
    ]
    print(json.dumps(compare(*arms), indent=1))


if __name__ == "__main__":
    main()
