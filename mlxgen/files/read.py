"""Read a piece from any kind of file that the project knows, by the file's suffix."""

from __future__ import annotations

from pathlib import Path

from mlxgen.files.midi import read_midi
from mlxgen.files.musicxml import read_musicxml
from mlxgen.music.piece import Piece

READERS = {".mid": read_midi, ".midi": read_midi,
           ".musicxml": read_musicxml, ".xml": read_musicxml, ".mxl": read_musicxml}


def read_score(path: str | Path) -> Piece:
    """A MIDI or MusicXML file as a Piece: see `read_midi` and `read_musicxml`.

    Raises ValueError for a suffix that is not among READERS and for a broken file, OSError for one that
    cannot be read.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(READERS)
        raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; expected one of {known}")
    return reader(path)
