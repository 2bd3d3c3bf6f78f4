"""The pieces that the scorer's bench judges: JSB frames, and held-out quartets, motets and polyphony where
they are."""

from __future__ import annotations

import json
from collections import Counter
from functools import cached_property
from pathlib import Path

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key
from mlxgen.scoring.completeness import home_key
from mlxgen.scoring.music import make_music
from mlxgen.scoring.report import COPY_SHARE
from mlxgen.scoring.statistics import originality

FRAME_TICKS = 120
LONGEST_NOTES = 1500    # of the other corpora: a whole quartet movement takes as long as twenty chorales
MOST_PIECES = 40        # of each of them


def piece_of_frames(frames: list[list[int]]) -> Piece:
    """Pitches per sixteenth (T, 4) -> Piece; equal neighbours are one note. Its key is the one heard longest.
    """
    voices = []
    for line in zip(*frames, strict=True):
        voice: list[Note] = []
        for at, pitch in enumerate(line):
            if pitch <= 0:
                continue
            if voice and voice[-1].pitch == pitch and voice[-1].end_ticks == at * FRAME_TICKS:
                voice[-1] = voice[-1]._replace(duration_ticks=voice[-1].duration_ticks + FRAME_TICKS)
            else:
                voice.append(Note(at * FRAME_TICKS, FRAME_TICKS, pitch))
        voices.append(voice)
    piece = Piece(voices)
    key = home_key(make_music(piece))
    return Piece(voices, Key(key % 12, "minor" if key >= 12 else "major"))


def read_chorales(path: Path) -> dict[str, list[Piece]]:
    """The literature's splits: train, valid, test."""
    return {split: [piece_of_frames(frames) for frames in pieces]
            for split, pieces in json.loads(path.read_text(encoding="utf-8")).items()}


class Corpus:
    """Pieces below `folder`, read when they are first asked for: chorales by split, and unless `quick` the
    held-out pieces of the recipe's other families by name. Those need the folder's scores, and music21's
    corpus where that package is installed. A movement in both may be held out in one and for training in the
    other: what the scorer knows for a copy is left out."""

    def __init__(self, folder: Path, quick: bool = False):
        self.folder = folder
        self.families = () if quick else ("quartet", "motet", "polyphony")

    @cached_property
    def chorales(self) -> dict[str, list[Piece]]:
        return read_chorales(self.folder / "Jsb16thSeparated.json")

    @cached_property
    def others(self) -> dict[str, list[Piece]]:
        from weights.recipe.event_corpus import FAMILIES, entries, held_out, split_corpus

        pieces: dict[str, list[Piece]] = {name: [] for name in self.families}
        for sample in split_corpus(list(entries(self.folder, held_out))):
            if sample.split == "test" and sample.family and 40 <= sample.piece.note_count <= LONGEST_NOTES:
                pieces[FAMILIES[sample.family]].append(sample.piece)
        return {name: thinned([piece for piece in every if not stands_in_training(piece)])
                for name, every in pieces.items()}


def stands_in_training(piece: Piece) -> bool:
    """Whether most long spans of a piece stand in training pieces; see mlxgen.scoring.fingerprint."""
    return originality(make_music(piece)).value >= COPY_SHARE


def thinned(pieces: list[Piece]) -> list[Piece]:
    """At most MOST_PIECES, evenly spaced; of those the ones that another can lend voices to."""
    kept = pieces[:: -(-len(pieces) // MOST_PIECES) or 1]
    count = Counter(len(piece.voices) for piece in kept)
    return [piece for piece in kept if count[len(piece.voices)] > 1]
