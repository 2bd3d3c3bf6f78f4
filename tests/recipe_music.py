"""Made chorales, a built corpus of them and a tiny training run, for the tests of the recipe."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import C_MAJOR, Key
from mlxgen.music.vocab import Vocab
from weights.recipe.corpus import make_row, write_corpus
from weights.recipe.sources import Entry
from weights.recipe.vocabulary import TOKENIZER

QUARTER = 480
VOCAB = Vocab.load(TOKENIZER)
# Roman numeral -> degrees above the tonic of bass, tenor, alto, soprano, in semitones.
CHORDS = {
    "I": (0, 7, 16, 24),
    "IV": (5, 9, 17, 24),
    "V": (7, 11, 14, 26),
    "vi": (9, 12, 16, 24),
    "ii": (2, 9, 17, 26),
}


def make_chorale(seed: int, bars: int = 12, key: Key = C_MAJOR) -> Piece:
    """Four voices in quarters and eighths over a random walk through five chords, ending on the tonic."""
    rng = np.random.default_rng(seed)
    names = [*rng.choice(list(CHORDS), size=bars * 4 - 1), "I"]
    voices: list[list[Note]] = [[] for _ in range(4)]
    for beat, name in enumerate(names):
        for voice, step in enumerate(reversed(CHORDS[name])):
            pitch = 48 + key.root + step
            start = beat * QUARTER
            if rng.random() < 0.2:
                voices[voice] += [Note(start, 240, pitch), Note(start + 240, 240, pitch + 2)]
            else:
                voices[voice].append(Note(start, QUARTER, pitch))
    return Piece(voices, key, (4, 4))


def make_entry(name: str, piece: Piece, form: str | None = "chorale", style: str = "bach") -> Entry:
    return Entry(name, "test", "CC0", form, style, piece)


def build_made_corpus(folder: Path) -> Path:
    """A built corpus of 14 made chorales, two of them held out."""
    made = [
        make_row(
            make_entry(f"made/{seed}", make_chorale(seed, bars=6 + seed)),
            "jsb_valid" if seed < 2 else "train",
            None,
            VOCAB,
        )
        for seed in range(14)
    ]
    write_corpus(folder, made, VOCAB)
    return folder


SHAPE = {
    "embed_dim": 64,
    "num_heads": 4,
    "num_kv_heads": 2,
    "num_layers": 2,
    "ffn_dim": 128,
    "max_seq_len": 128,
}


def make_trainer(work: Path, out: Path, **settings):
    pytest.importorskip("torch")
    from mlxgen.model.config import ModelConfig
    from weights.recipe.schedule import Settings
    from weights.recipe.train import Trainer

    kept = {
        "lr": 2e-2,
        "tokens_per_step": 512,
        "warmup_steps": 3,
        "steps": 20,
        "valid_every_s": math.inf,
        "save_every_s": math.inf,
    }
    return Trainer(
        Settings(**{**kept, **settings}), ModelConfig(vocab_size=len(VOCAB), **SHAPE), work, out, VOCAB
    )
