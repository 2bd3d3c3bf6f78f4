"""Training crops: a conditioning prefix, then the music from some bar line on.

Every crop keeps its piece's whole prefix, as a streamed window does, and where the vocabulary names
sections, the name of the one that it begins in, as a chunk does; such names are given, never charged. Two
augmentations cost nothing in a scale-degree language: another key is another KEY token and, past the octave,
another OCT number; and labels are left out now and then, so that a prompt may leave them unsaid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

from .corpus import read_rows

IGNORED = -100
FORMS = ("chorale", "quartet", "motet", "fugue", "sinfonia", "invention", "trio_sonata", "none")

# Shares of the crops by form at the beginning (broad) and at the end (style) of training; drawn linearly
# between.
BROAD = (0.18, 0.28, 0.20, 0.12, 0.08, 0.04, 0.05, 0.05)
STYLE = (0.30, 0.19, 0.12, 0.16, 0.09, 0.08, 0.03, 0.03)

OPENING_SHARE = 0.3
LABEL_DROP = 0.1
MAX_SHIFT = 5
DROPPABLE = ("LENGTH_", "TEXTURE_", "IMITATION_", "HARMONIC_RHYTHM_", "HARMONIC_TENSION_", "CHROMATICISM_")


@dataclass(frozen=True)
class EncodedPiece:
    """One piece as ids.

    Prefix and events (EOS last), where its bars begin, where sections are named, and how far it may be
    transposed.
    """

    name: str
    form: str
    style: str
    split: str
    prefix: np.ndarray
    events: np.ndarray
    bar_starts: np.ndarray
    section_marks: np.ndarray
    key: Key
    shifts: tuple[int, int]

    def prefix_at(self, start: int) -> np.ndarray:
        """The prefix of the events from `start` on: with the section that goes on there, if one does."""
        named = self.section_marks[self.section_marks < start][-1:]
        return np.concatenate([self.prefix, self.events[named]])

    def charged(self, start: int, end: int) -> np.ndarray:
        """Of the events from `start` to `end`, which are music: (end - start) of bool."""
        return ~np.isin(np.arange(start, end), self.section_marks)


def load_pieces(work: Path, vocab: Vocab) -> list[EncodedPiece]:
    """The pieces of a built corpus."""
    with np.load(work / "corpus.npz") as arrays:
        tokens, offsets, prefix = arrays["tokens"], arrays["offsets"], arrays["prefix"]
    sections = list(vocab.family("SECTION_").values())
    pieces = []
    for row, start, end, split in zip(read_rows(work), offsets, offsets[1:], prefix, strict=False):
        ids = tokens[start:end].astype(np.int64)
        events = ids[split:]
        pitches = [note[2] for voice in row["voices"] for note in voice]
        shifts = (
            max(-MAX_SHIFT, vocab.min_pitch - min(pitches)),
            min(MAX_SHIFT, vocab.max_pitch - max(pitches)),
        )
        pieces.append(
            EncodedPiece(
                row["name"],
                row["form"] or "none",
                row["style"],
                row["split"],
                ids[:split],
                events,
                np.flatnonzero(events == vocab["BAR"]),
                np.flatnonzero(np.isin(events, sections)),
                Key(*row["key"]),
                (min(shifts[0], 0), max(shifts[1], 0)),
            )
        )
    return pieces


class Transposer:
    """Moves ids to another key: the KEY token, and OCT tokens where the new tonic lies past the octave."""

    def __init__(self, vocab: Vocab):
        self._keys = {
            Key(root, mode): vocab[f"KEY_{Key(root, mode).token_name}"]
            for root in range(12)
            for mode in ("major", "minor")
        }
        self._octaves = np.array(sorted(vocab.family("OCT_").values()))

    def apply(
        self, prefix: np.ndarray, events: np.ndarray, key: Key, semitones: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(prefix, events) in `key` -> the same music `semitones` higher."""
        octaves, root = divmod(key.root + semitones, 12)
        moved = prefix.copy()
        moved[moved == self._keys[key]] = self._keys[Key(root, key.mode)]
        if octaves == 0:
            return moved, events
        inside = np.isin(events, self._octaves)
        shifted = np.clip(events + octaves, self._octaves[0], self._octaves[-1])
        return moved, np.where(inside, shifted, events)


class CropSampler:
    """Draws batches.

    Form by share, piece by size, bar by lot. One generator, seeded by (seed, step): resumable.
    """

    def __init__(self, pieces: list[EncodedPiece], vocab: Vocab, seed: int = 0):
        self._vocab, self._seed = vocab, seed
        self._transposer = Transposer(vocab)
        self._groups = {form: [piece for piece in pieces if piece.form == form] for form in FORMS}
        self._drawn_from: dict[tuple[str, int], tuple[list[EncodedPiece], np.ndarray | None]] = {}
        self._droppable = np.array([token for family in DROPPABLE for token in vocab.family(family).values()])
        if not any(self._groups.values()):
            raise ValueError("no training pieces; expected at least one of a known form")

    def batch(self, step: int, rows: int, length: int, progress: float) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets (rows, length) of one step; progress 0..1 moves from BROAD to STYLE."""
        rng = np.random.default_rng((self._seed, step))
        shares = np.array(
            [(1 - progress) * broad + progress * style for broad, style in zip(BROAD, STYLE, strict=True)]
        )
        shares *= [bool(self._groups[form]) for form in FORMS]
        crops = []
        for form in rng.choice(FORMS, size=rows, p=shares / shares.sum()):
            group, sizes = self._choices(str(form), length)
            crops.append(self.crop(group[rng.choice(len(group), p=sizes)], length, rng))
        return np.stack([ids for ids, _ in crops]), np.stack([targets for _, targets in crops])

    def _choices(self, form: str, length: int) -> tuple[list[EncodedPiece], np.ndarray | None]:
        """Pieces that fill at least half a crop (all of a form when none does) and their shares by size."""
        if (form, length) not in self._drawn_from:
            every = self._groups[form]
            group = [piece for piece in every if len(piece.events) >= length // 2] or every
            sizes = np.array([len(piece.events) for piece in group], dtype=float)
            self._drawn_from[form, length] = group, sizes / sizes.sum() if group else None
        return self._drawn_from[form, length]

    def crop(
        self, piece: EncodedPiece, length: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """One (inputs, targets) pair of `length`; the prefix and the padding are not charged."""
        low, high = piece.shifts
        semitones = int(np.clip(round(rng.triangular(-MAX_SHIFT - 1, 0, MAX_SHIFT + 1)), low, high))
        dropped = np.isin(piece.prefix, self._droppable) & (rng.random(len(piece.prefix)) < LABEL_DROP)
        start = self._start(piece, length + 1 - len(piece.prefix) + dropped.sum(), rng)
        prefix = piece.prefix_at(start)
        prefix = np.delete(prefix, np.flatnonzero(dropped))
        end = min(start + length + 1 - len(prefix), len(piece.events))
        prefix, events = self._transposer.apply(prefix, piece.events[start:end], piece.key, semitones)
        ids = np.concatenate([prefix, events])
        inputs = np.full(length, self._vocab["PAD"], dtype=np.int64)
        targets = np.full(length, IGNORED, dtype=np.int64)
        inputs[: len(ids) - 1] = ids[:-1]
        targets[len(prefix) - 1 : len(ids) - 1] = np.where(piece.charged(start, end), events, IGNORED)
        return inputs, targets

    @staticmethod
    def _start(piece: EncodedPiece, room: int, rng: np.random.Generator) -> int:
        """The beginning, or a bar line after which at least half of the room is filled."""
        late_enough = piece.bar_starts[piece.bar_starts <= len(piece.events) - room // 2]
        if len(late_enough) == 0 or rng.random() < OPENING_SHARE:
            return 0
        return int(rng.choice(late_enough))
