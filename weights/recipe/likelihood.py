"""Held-out likelihood of a checkpoint: by form and style, on JSB test in three units, at longer contexts."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from mlxgen.music.prompt import Conditioning, make_prefix
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

from .corpus import read_rows, read_vocab
from .data import EncodedPiece, load_pieces
from .windows import Window, make_windows, measure_windows

SIXTEENTH_TICKS = 120
HELD_OUT = ("valid", "jsb_valid")


def load_torch(path: Path):
    """A checkpoint of this recipe or of upstream's trainer as the reference model."""
    from convert.reference import ReferenceModel

    from . import checkpoints

    content = checkpoints.load(path)
    model = ReferenceModel(checkpoints.from_upstream(content["config"]))
    model.load_state_dict(content["model_state_dict"])
    return model


def neutral_prefix(row: dict, vocab: Vocab) -> np.ndarray:
    """A prefix that says nothing that must be read off the notes: style, form, meter, key."""
    said = Conditioning(
        form=row["form"], style=row["style"], meter=tuple(row["meter"]), encoding="interleaved"
    )
    return np.array(make_prefix(said, Key(*row["key"]), vocab), dtype=np.int64)


def frame_count(row: dict) -> int:
    """Sixteenths from the first attack to the last release."""
    starts = [note[0] for voice in row["voices"] for note in voice]
    ends = [note[0] + note[1] for voice in row["voices"] for note in voice]
    return round((max(ends) - min(starts)) / SIXTEENTH_TICKS)


def measure_nll(model, work: Path, length: int, limit: int) -> dict:
    """Nats per token by form and by style of the held-out pieces; JSB test whole, under two prefixes.

    limit: windows a piece (of the held-out pieces; JSB test is always charged whole).
    """
    vocab = read_vocab(work)
    rows, pieces = read_rows(work), load_pieces(work, vocab)
    held = [(row, piece) for row, piece in zip(rows, pieces, strict=True) if row["split"] in HELD_OUT]
    totals = measure_windows(
        model, [window for _, piece in held for window in make_windows(piece, length, limit)]
    )
    groups: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for row, piece in held:
        for group in (f"form {piece.form}", f"style {row['style']}"):
            groups[group][0] += totals[piece.name][0]
            groups[group][1] += totals[piece.name][1]
    result = {group: round(nats / tokens, 4) for group, (nats, tokens) in sorted(groups.items())}
    forms = [value for group, value in result.items() if group.startswith("form ")]
    test = [(row, piece) for row, piece in zip(rows, pieces, strict=True) if row["split"] == "jsb_test"]
    return {
        "length": length,
        "limit": limit,
        **result,
        "mean of forms": round(sum(forms) / len(forms), 4),
        "jsb_test": measure_jsb(
            model, test, [(piece, neutral_prefix(row, vocab)) for row, piece in test], length
        ),
        "jsb_test with labels": measure_jsb(model, test, [(piece, None) for _, piece in test], length),
    }


def measure_jsb(
    model,
    chosen: list[tuple[dict, EncodedPiece]],
    prefixed: list[tuple[EncodedPiece, np.ndarray | None]],
    length: int,
) -> dict:
    """Nats per token, per note and per sixteenth frame; every token after the prefix is charged."""
    windows = [window for piece, prefix in prefixed for window in make_windows(piece, length, prefix=prefix)]
    totals = measure_windows(model, windows)
    nats, tokens = (sum(total[index] for total in totals.values()) for index in (0, 1))
    notes, frames = sum(row["notes"] for row, _ in chosen), sum(frame_count(row) for row, _ in chosen)
    return {
        "pieces": len(chosen),
        "tokens": tokens,
        "notes": notes,
        "frames": frames,
        "nats_per_token": round(nats / max(tokens, 1), 4),
        "nats_per_note": round(nats / max(notes, 1), 4),
        "nats_per_frame": round(nats / max(frames, 1), 4),
    }


def with_scale(model, c: float, train_length: int):
    """The model with its queries times beta = 1 + c ln(context / train_length) beyond the training length.

    DroPE's scale of the logits (arXiv 2512.12167); undone by c = 0.
    """
    import torch

    for layer in model.layers:
        attend = type(layer.attn)._attend.__get__(layer.attn)

        def scaled(queries, keys, values, attend=attend):
            context = torch.arange(keys.shape[2] - queries.shape[2], keys.shape[2]) + 1
            beta = 1 + c * torch.clamp(context / train_length, min=1.0).log()
            return attend((queries * beta[:, None]).to(queries.dtype), keys, values)

        layer.attn._attend = scaled
    return model


def measure_context(model, work: Path, lengths: list[int], split: str, pieces: int) -> dict:
    """Nats per token of the same tokens in windows of several lengths.

    Taken from the `pieces` smallest pieces of the split that have at least the longest length of tokens.
    Each token is charged once: the longer the window, the more context it has.
    """
    vocab = read_vocab(work)
    splits = HELD_OUT if split == "valid" else (split,)
    chosen = [
        piece
        for piece in load_pieces(work, vocab)
        if piece.split in splits and len(piece.prefix) + len(piece.events) >= max(lengths)
    ]
    chosen = sorted(chosen, key=lambda piece: (len(piece.events), piece.name))[:pieces]
    result: dict = {"pieces": len(chosen), "tokens": sum(len(piece.events) for piece in chosen)}
    for length in lengths:
        windows: list[Window] = [window for piece in chosen for window in make_windows(piece, length)]
        totals = measure_windows(model, windows)
        result[f"{length}"] = round(
            sum(nats for nats, _ in totals.values()) / sum(tokens for _, tokens in totals.values()), 4
        )
        print(f"window {length}: {result[str(length)]}", flush=True)
    return result
