"""The scorer's corpus: every piece with its family of texture, its split, and its fold if it is for training.

Chorales: the train split of the JSB frames and music21's versions of chorales, unless their content matches a
piece of the valid or test split. Other pieces: those whose file name does not hash into the held-out fifth.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlxgen.music.piece import Piece

from .content import ContentIndex, content_hash, shingles
from .sources import Entry, music21_files, read_counterpoint, read_jsb, read_music21, read_openscore

FAMILIES = ("chorale", "polyphony", "quartet", "motet")
HELD_OUT = 0.2
FOLDS = 5


@dataclass(frozen=True)
class Sample:
    """A piece of the corpus: its family, fold (-1: not for training) and split name."""

    name: str
    family: int
    fold: int
    split: str
    piece: Piece


def family_of_form(form: str | None) -> int:
    return {"chorale": 0, "quartet": 2, "motet": 3}.get(form, 1)


def _file_of(entry: Entry) -> str:
    return entry.name.split("#")[0]


def _fold(name: str) -> int:
    return zlib.crc32(name.encode()) % FOLDS


def held_out(file: str) -> bool:
    """Whether the pieces of a file ("openscore/haydn/NAME") that are no chorales are kept for testing."""
    return int(content_hash(file)[:8], 16) < HELD_OUT * 2**32


def entries(
    corpus: Path, wanted: Callable[[str], bool] = lambda file: True
) -> Iterator[tuple[str | None, Entry]]:
    """(JSB split or None, Entry) of everything there is in files that are `wanted`; music21 only where it is
    installed."""
    yield from read_jsb(corpus / "Jsb16thSeparated.json")
    yield from ((None, entry) for entry in read_counterpoint(corpus / "counterpoint"))
    for source, paths, read in (
        ("openscore", sorted((corpus / "openscore").rglob("*.mxl")), read_openscore),
        ("music21", music21_files(), read_music21),
    ):
        for path in paths:
            if wanted(f"{source}/{path.parent.name}/{path.stem}"):
                yield from ((None, entry) for entry in read(path))


def split_corpus(rows: list[tuple[str | None, Entry]]) -> list[Sample]:
    """Assign splits and folds. A chorale in two sources gets one fold; valid and test, one source. Training
    pieces that stand in valid or test too (the literature's split has two) are left out."""
    index, judged = ContentIndex(), ContentIndex()
    names = {}
    for split, entry in rows:
        if split is not None:
            (index if split == "train" else judged).add(entry.name, shingles(entry.piece))
            names[entry.name] = split
    samples = []
    for split, entry in rows:
        family, fold_name = family_of_form(entry.form), _file_of(entry)
        if family == 0 and split in (None, "train"):
            own = shingles(entry.piece)
            found = judged.find(own)
            if found is None:
                nearest = index.find(own) if split is None else None
                split, fold_name = "train", nearest[0] if nearest else fold_name
            else:
                split = f"{split or 'music21'} as {names[found[0]]}"
        elif split is None:
            split = "test" if held_out(_file_of(entry)) else "train"
        fold = _fold(fold_name) if split == "train" else -1
        samples.append(Sample(entry.name, family, fold, split, entry.piece))
    return samples
