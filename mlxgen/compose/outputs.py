"""The files a finished piece becomes: MIDI, a piano roll, a report. Nothing half-written is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mlxgen.compose.chain import stitched
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.steps import Chunk
from mlxgen.files.midi import write_midi
from mlxgen.music.piece import Piece
from mlxgen.music.vocab import Vocab


class Outline(NamedTuple):
    """A piece and the places in it that a listener may want to find, in ticks."""

    piece: Piece
    seams: list[int]
    sections: list[tuple[int, str]]
    keys: list[tuple[int, object]]


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


def write_piece(folder: Path, drawn: Outline, picture: bool = True) -> Path:
    """piece.mid (seams and sections as markers) and piece.svg in `folder`; returns the MIDI file's path."""
    path = folder / "piece.mid"
    names = dict(drawn.sections) if len(drawn.sections) > 1 else {}
    markers = [(tick, names.get(tick) or f"seam {number}") for number, tick in
               enumerate(drawn.seams, start=1)]
    if 0 in names:
        markers.insert(0, (0, names[0]))
    write_midi(drawn.piece, path)
    if picture:
        from mlxgen.files.pianoroll import draw_pianoroll

        draw_pianoroll(drawn.piece, folder / "piece.svg", seams=drawn.seams,
                       sections=drawn.sections if names else ())
    return path
