"""python -m convert.parity CKPT.pt FOLDER: is the folder's model the checkpoint's? Needs torch.

Our torch reference, given the checkpoint's own weights, against mlxgen's model as the folder loads it: the
same ids, full and cached, in the folder's dtype and in float32.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from convert.checkpoint import read_checkpoint
from convert.export import cast_tensors
from convert.upstream import arrange_tensors, count_rows, translate_config
from mlxgen.model.config import ModelConfig
from mlxgen.music.encode import encode
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

# dtype -> the largest difference of a logit, the largest KL of a next-token distribution, in nats
BOUNDS = {"float32": (1e-4, 1e-4), "float16": (2e-2, 1e-4)}
GREEDY_TOKENS = 256
SINGLE_STEPS = 64
# Nine chords in C major, soprano to bass, a quarter note each.
CHORDS = ((72, 67, 64, 48), (74, 67, 62, 47), (76, 67, 60, 48), (77, 69, 60, 45), (74, 71, 67, 43),
          (72, 69, 64, 45), (72, 69, 65, 41), (71, 67, 62, 43), (72, 67, 64, 48))


@dataclass(frozen=True)
class Row:
    """One line of the table; differences are of logits, KL in nats, both the largest of all positions."""

    dtype: str
    prompt: str
    path: str
    difference: float
    divergence: float

    @property
    def passes(self) -> bool:
        """False for NaN too: a comparison with NaN is false."""
        difference, divergence = BOUNDS[self.dtype]
        return self.difference <= difference and self.divergence < divergence


@dataclass(frozen=True)
class Parity:
    """notes: what is wrong with config or weights themselves; agreement: dtype -> equal greedy ids."""

    rows: list[Row]
    notes: list[str]
    agreement: dict[str, int]

    @property
    def passes(self) -> bool:
        return bool(self.rows) and not self.notes and all(row.passes for row in self.rows)


def measure_parity(checkpoint_path: str | Path, folder: str | Path, seed: int = 0) -> Parity:
    """Compare a checkpoint with a model folder. ValueError for a file or folder that cannot be read."""
    from convert.reference import compute_logits, decode_greedy, load_reference
    from mlxgen.model.load import load, read_config

    checkpoint = read_checkpoint(checkpoint_path)
    config = translate_config(checkpoint.config, count_rows(checkpoint.tensors))
    tensors = arrange_tensors(checkpoint.tensors, config)
    described = read_config(folder)
    notes = compare_configs(config, ModelConfig.from_dict(described))
    if notes:
        return Parity([], notes, {})
    own_dtype = described.get("dtype")
    if own_dtype not in BOUNDS:
        raise ValueError(f"{folder}: dtype {own_dtype!r}; expected one of {', '.join(BOUNDS)}")
    rounded = {name: part.astype(np.float32) for name, part in cast_tensors(tensors, own_dtype).items()}
    rows, agreement = [], {}
    for dtype in dict.fromkeys((own_dtype, "float32")):
        # In its own dtype the folder's rounding of the weights counts as a difference; in float32, where it
        # is the arithmetic that is judged, both sides have the rounded weights.
        reference = load_reference(config, tensors if dtype == own_dtype else rounded)
        model, vocab = load(folder, dtype)
        for name, ids in make_prompts(vocab, config, seed).items():
            expected = compute_logits(reference, ids)
            rows += [Row(dtype, name, path, *compare_logits(expected, logits))
                     for path, logits in run_paths(model, ids)]
        greedy = decode_greedy(reference, ids[:1], GREEDY_TOKENS)
        agreement[dtype] = count_agreement(model, ids[:1], greedy)
    return Parity(rows, notes + compare_weights(rounded, folder), agreement)


def make_prompts(vocab: Vocab, config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Name -> ids (B, T): random ones, more of them, and nine chords."""
    rng = np.random.default_rng(seed)
    longest = min(1000, config.max_seq_len)
    prompts = {"random": rng.integers(0, len(vocab), (2, min(200, longest))),
               "long": rng.integers(0, len(vocab), (1, longest))}
    voices = [[Note(480 * beat, 480, pitch) for beat, pitch in enumerate(voice)]
              for voice in zip(*CHORDS, strict=True)]
    piece = Piece(voices, Key.parse("C major"), (4, 4))
    conditioning = Conditioning(form="chorale" if "FORM_CHORALE" in vocab else None)
    prompts["music"] = np.array([encode(piece, vocab, conditioning)[:-1]])[:, :longest]
    return prompts


def run_paths(model, ids: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """("full" | "cached", logits (B, T, V)); cached: all but the last tokens at once, then one by one."""
    import mlx.core as mx

    ids = mx.array(ids.astype(np.int32))  # (B, T)
    yield "full", np.array(model(ids))
    length = ids.shape[1]
    cache = model.make_cache(batch=ids.shape[0], window=length)
    bounds = [0, *range(max(1, length - SINGLE_STEPS), length + 1)]
    parts = [model(ids[:, start:end], cache=cache) for start, end in pairwise(bounds)]
    yield "cached", np.array(mx.concatenate(parts, axis=1))


def count_agreement(model, prompt: np.ndarray, greedy: np.ndarray) -> int:
    """How many of the reference's greedy ids are ours as well, each step given the reference's ids before it.

    All of them agree exactly when our own greedy run is the reference's; a near tie costs one, not the rest.
    """
    import mlx.core as mx

    cache = model.make_cache(batch=1, window=prompt.shape[1] + len(greedy))
    ids, agreed = prompt, 0
    for expected in greedy:
        logits = model(mx.array(ids.astype(np.int32)), cache=cache)
        agreed += int(mx.argmax(logits[0, -1]).item() == expected)
        ids = np.array([[expected]])
    return agreed


def compare_logits(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Largest |difference|, largest KL(expected || found) in nats, over logits (B, T, V)."""
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    left, right = _log_softmax(expected), _log_softmax(found)
    divergence = (np.exp(left) * (left - right)).sum(-1)  # (B, T)
    return float(np.abs(expected - found).max()), float(divergence.max())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def compare_configs(expected: ModelConfig, found: ModelConfig) -> list[str]:
    """A line for each field that differs; drope_scale_c is tuned after conversion and may."""
    left, right = expected.to_dict(), found.to_dict()
    return [f"config.{name}: {left[name]!r} in the checkpoint, {right[name]!r} in the folder"
            for name in left if left[name] != right[name] and name != "drope_scale_c"]


def compare_weights(expected: dict[str, np.ndarray], folder: str | Path) -> list[str]:
    """A line for each tensor of the folder that is not the checkpoint's, rounded to the folder's dtype."""
    from safetensors.numpy import load_file

    found = load_file(Path(folder, "model.safetensors"))
    return [f"{name}: {np.count_nonzero(tensor != found[name])} of {tensor.size} weights are not the file's"
            for name, tensor in expected.items() if not np.array_equal(tensor, found[name])]


def format_table(parity: Parity) -> str:
    lines = [f"{'dtype':9}{'prompt':9}{'path':8}{'max |diff|':>11}{'max KL':>11}  bound"]
    for row in parity.rows:
        difference, divergence = BOUNDS[row.dtype]
        lines.append(f"{row.dtype:9}{row.prompt:9}{row.path:8}{row.difference:11.2e}{row.divergence:11.2e}  "
                     f"{difference:g}, {divergence:g}  {'ok' if row.passes else 'FAILS'}")
    lines += [f"{dtype:9}greedy   {agreed} of {GREEDY_TOKENS} tokens agree"
              for dtype, agreed in parity.agreement.items()]
    return "\n".join([*lines, *parity.notes, "parity holds" if parity.passes else "PARITY FAILS"])


def main(arguments: list[str] | None = None) -> int:
    """0 where parity holds, 1 past a bound, 2 with one line on stderr where it cannot be measured."""
    parser = argparse.ArgumentParser(prog="python -m convert.parity", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="the .pt file the folder was made from")
    parser.add_argument("folder", help="the model folder")
    parser.add_argument("--seed", type=int, default=0, help="of the random prompts")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("torch") is None:
        print("parity: needs torch, which is not installed (pip install 'mlxgen[torch]')", file=sys.stderr)
        return 2
    try:
        parity = measure_parity(options.checkpoint, options.folder, options.seed)
    except (ValueError, OSError) as error:
        print(f"parity: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(format_table(parity))
    return 0 if parity.passes else 1


if __name__ == "__main__":
    sys.exit(main())
