"""Where the corpus comes from: a table of sources, each a generator of (file name, form, style, Piece).

Forms follow the number of voices, because a prompt does: a three-voice fugue is asked for as a sinfonia, a
canon or fugue of two voices as an invention. Pieces that are none of the named forms carry no form.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key

from .readers import read_kern, read_musicxml
from .sections import estimate_key, is_clean, rescaled, split_score, trim_bars

SIXTEENTH_TICKS = 120
MIDI_GRID_TICKS = 60
OFF_GRID_SHARE = 0.02


@dataclass(frozen=True)
class Entry:
    """One piece of the corpus with what is known about it before any label is computed."""

    name: str  # source/file[section]
    source: str
    licence: str
    form: str | None
    style: str
    piece: Piece


# folder of music21's corpus -> (form, style); the licence is the collection's own.
MUSIC21_FOLDERS = {
    "bach": ("chorale", "bach"),
    "palestrina": ("motet", "renaissance"),
    "monteverdi": ("motet", "renaissance"),
    "luca": ("motet", "renaissance"),
    "lusitano": ("motet", "renaissance"),
    "opus3no1": ("trio_sonata", "baroque"),
    "beethoven": ("quartet", "classical"),
    "opus18no1": ("quartet", "classical"),
    "opus59no1": ("quartet", "classical"),
    "opus59no2": ("quartet", "classical"),
    "opus59no3": ("quartet", "classical"),
    "opus74no1": ("quartet", "classical"),
    "k155": ("quartet", "classical"),
    "k156": ("quartet", "classical"),
    "k458": ("quartet", "classical"),
    "k80": ("quartet", "classical"),
    "opus1no1": ("quartet", "classical"),
    "opus41no1": ("quartet", "classical"),
}
VOICES = {"chorale": (4,), "quartet": (4,), "motet": (4,), "trio_sonata": (3,)}
MUSIC21_LICENCE = "as distributed with music21 (see its corpus licence)"


def music21_files() -> list[Path]:
    """Files of the folders above in music21's packaged corpus; needs the music21 package."""
    from music21 import corpus

    paths = sorted(Path(path) for path in corpus.getCorePaths())
    kept = [
        path
        for path in paths
        if path.parent.name in MUSIC21_FOLDERS and path.suffix in (".mxl", ".xml", ".krn")
    ]
    # The same movement in two notations: the MusicXML one is read.
    xml = {(path.parent.name, path.stem) for path in kept if path.suffix != ".krn"}
    return [path for path in kept if path.suffix != ".krn" or (path.parent.name, path.stem) not in xml]


def read_music21(path: Path, grid_ticks: int) -> Iterator[Entry]:
    form, style = MUSIC21_FOLDERS[path.parent.name]
    score = read_kern(path) if path.suffix == ".krn" else read_musicxml(path)
    min_bars = 4 if form == "chorale" else 8
    for number, piece in enumerate(
        split_score(score, path.stem, grid_ticks=grid_ticks, voices=VOICES[form], min_bars=min_bars), start=1
    ):
        yield Entry(
            f"music21/{path.parent.name}/{path.stem}#{number}",
            f"music21 {path.parent.name}",
            MUSIC21_LICENCE,
            form,
            style,
            piece,
        )


def read_openscore(path: Path, grid_ticks: int) -> Iterator[Entry]:
    pieces = split_score(read_musicxml(path), path.stem, grid_ticks=grid_ticks, voices=(4,))
    for number, piece in enumerate(pieces, start=1):
        yield Entry(
            f"openscore/{path.parent.name}/{path.stem}#{number}",
            "OpenScore String Quartets",
            "CC0",
            "quartet",
            "classical",
            piece,
        )


_COUNTERPOINT_FORMS = {
    ("fugue", 2): "invention",
    ("fugue", 3): "sinfonia",
    ("fugue", 4): "fugue",
    ("invention", 2): "invention",
    ("sinfonia", 3): "sinfonia",
    ("trio_sonata", 3): "trio_sonata",
    ("canon", 2): "invention",
    ("canon", 3): "sinfonia",
    ("chorale_prelude", 3): "trio_sonata",
}


def read_counterpoint(folder: Path, _grid_ticks: int) -> Iterator[Entry]:
    """The pieces of a folder of .mid files and a manifest.tsv (file, form, voices, key, meter, licence).

    MIDI is read on a grid of 60 ticks whatever the vocabulary has: files with triplets are left out.
    """
    with (folder / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        count = int(row["voices"])
        if not 2 <= count <= 4 or ";" in row["meter"]:  # a meter that changes on the way
            continue
        if off_grid_share(folder / row["file"]) > OFF_GRID_SHARE:
            continue
        numerator, denominator = (int(part) for part in row["meter"].split("/"))
        key = Key.parse(f"{row['key']} {'major' if row['mode'] == 'major' else 'minor'}")
        piece = Piece(_midi_voices(folder / row["file"]), key, (numerator, denominator), title=row["title"])
        piece = rescaled(piece)
        if piece is None or len(piece.voices) != count or not is_clean(piece, MIDI_GRID_TICKS):
            continue
        style = "bach" if "Bach" in row["composer"] else "baroque"
        if "Titelouze" in row["composer"] or "Banchieri" in row["composer"]:
            style = "renaissance"
        yield Entry(
            f"counterpoint/{Path(row['file']).stem}",
            "counterpoint",
            row["licence"],
            _COUNTERPOINT_FORMS.get((row["form"], count)),
            style,
            trim_bars(piece),
        )


def off_grid_share(path: Path) -> float:
    """How many of a MIDI file's attacks lie more than a tick of 480 a quarter off the grid of 32nds."""
    from mlxgen.files.midi import attack_ticks

    into = [ticks % MIDI_GRID_TICKS for ticks in attack_ticks(path)]
    return sum(1 < ticks < MIDI_GRID_TICKS - 1 for ticks in into) / max(len(into), 1)


def _midi_voices(path: Path) -> list[list[Note]]:
    from mlxgen.files.midi import read_midi

    return read_midi(path).voices


def voices_of_frames(frames: Iterable[Iterable[int]]) -> list[list[Note]]:
    """Pitches per sixteenth and voice -> voices; equal neighbours are one note (-1 and 0 are rests)."""
    voices = []
    for line in zip(*frames, strict=True):
        voice, at = [], 0
        for pitch, run in groupby(line):
            length = len(list(run))
            if pitch > 0:
                voice.append(Note(at * SIXTEENTH_TICKS, length * SIXTEENTH_TICKS, int(pitch)))
            at += length
        voices.append(voice)
    return voices


def read_jsb(path: Path) -> Iterator[tuple[str, Entry]]:
    """(split, Entry) of the JSB chorales as frames: "train", "valid" and "test" of the literature."""
    for split, pieces in json.loads(path.read_text(encoding="utf-8")).items():
        for number, frames in enumerate(pieces):
            voices = voices_of_frames(frames)
            piece = Piece(voices, estimate_key(voices), (4, 4), title=f"JSB {split} {number}")
            yield (
                split,
                Entry(f"jsb/{split}/{number}", "JSB frames", "public domain music", "chorale", "bach", piece),
            )


def folded(entry: Entry, lowest: int, highest: int) -> Entry | None:
    """Notes outside the vocabulary's range octaves inward; None where they are more than one in ten."""
    outside = sum(not lowest <= note.pitch <= highest for voice in entry.piece.voices for note in voice)
    if outside > 0.1 * entry.piece.note_count:
        return None

    def fold(note: Note) -> Note:
        pitch = note.pitch
        while pitch > highest:
            pitch -= 12
        while pitch < lowest:
            pitch += 12
        return note._replace(pitch=pitch)

    voices = [[fold(note) for note in voice] for voice in entry.piece.voices]
    return replace(entry, piece=replace(entry.piece, voices=voices))
