"""The files a finished piece becomes: MIDI, a piano roll, a report. Nothing half-written is left behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlxgen.compose.chain import stitched
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.steps import Chunk
from mlxgen.files.atomic import write_atomically
from mlxgen.files.midi import write_midi
from mlxgen.files.read import read_score
from mlxgen.music.piece import Piece
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

CHURCH_ORGAN, HARPSICHORD, VIOLIN, VIOLA, CELLO = 19, 6, 40, 41, 42
PROGRAMS = {"quartet": (VIOLIN, VIOLIN, VIOLA, CELLO), "trio_sonata": (VIOLIN, VIOLIN, CELLO),
            "sonata": (HARPSICHORD,), "invention": (HARPSICHORD,), "sinfonia": (HARPSICHORD,),
            "2-part": (HARPSICHORD,)}


class Outline(NamedTuple):
    """A piece and the places in it that a listener may want to find, in ticks."""

    piece: Piece
    seams: list[int]
    sections: list[tuple[int, str]]
    keys: list[tuple[int, Key]]


def outline(settings: ChainSettings, chunks: Sequence[Chunk], vocab: Vocab) -> Outline:
    """The piece so far with its seams (where a chunk begins), sections and key changes."""
    piece, starts = stitched(settings, chunks, vocab)
    sections, keys = [], []
    for before, chunk, start in zip([None, *chunks], chunks, starts, strict=False):
        if before is None or before.section != chunk.section:
            sections.append((start, settings.plan.sections[chunk.section].name))
        if before is None or before.key != chunk.key:
            keys.append((start, chunk.key))
    return Outline(piece, starts[1:], sections, keys)


def programs_of(form: str | None, piece: Piece) -> list[int]:
    """A General MIDI program for each voice of a form."""
    programs = PROGRAMS.get(form or "", (CHURCH_ORGAN,))
    return [programs[min(voice, len(programs) - 1)] for voice in range(len(piece.voices))]


def write_piece(folder: Path, drawn: Outline, form: str | None, picture: bool = True) -> Path:
    """piece.mid, outline.json and a piano roll in `folder`; returns the MIDI file's path.

    Sections, and the seams between them, are markers in the MIDI file.
    """
    path = folder / "piece.mid"
    places = {"seams": drawn.seams, "sections": drawn.sections,
              "keys": [[tick, key.name] for tick, key in drawn.keys]}
    write_atomically(folder / "outline.json", (json.dumps(places) + "\n").encode())
    write_midi(drawn.piece, path, keys=drawn.keys[1:], programs=programs_of(form, drawn.piece),
               markers=markers_of(drawn))
    if picture:
        write_picture(drawn, folder / "piece.svg")
    return path


def markers_of(drawn: Outline) -> list[tuple[int, str]]:
    """Where a listener may want to go: sections by name, and the seams that no section begins at."""
    sections = drawn.sections if len(drawn.sections) > 1 else []
    begins = {tick for tick, _ in sections}
    seams = [(tick, f"chunk {number}") for number, tick in enumerate(drawn.seams, start=2)
             if tick not in begins]
    return sorted([*sections, *seams])


def write_picture(drawn: Outline, path: Path) -> None:
    """A piano roll with the seams marked, and the sections where there are several."""
    from mlxgen.files.pianoroll import draw_pianoroll

    draw_pianoroll(drawn.piece, path, seams=drawn.seams,
                   sections=drawn.sections if len(drawn.sections) > 1 else ())


def outline_of_file(path: Path) -> Outline:
    """A score file as an outline; seams and sections are those of the run it lies in, if it is a run's piece.

    Raises ValueError for a broken file, OSError for one that cannot be read.
    """
    piece = read_score(path)
    places_path = path.parent / "outline.json"
    if path.name != "piece.mid" or not places_path.is_file():
        return Outline(piece, [], [], [(0, piece.key)])
    try:
        places = json.loads(places_path.read_text(encoding="utf-8"))
        return Outline(piece, list(places["seams"]), [tuple(row) for row in places["sections"]],
                       [(tick, Key.parse(name)) for tick, name in places["keys"]])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{places_path}: not the outline of a run ({error})") from None
