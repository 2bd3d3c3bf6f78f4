"""A piece as an engraved score: SVG pages, and which written note sounds when. Needs verovio and music21."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mlxgen.files.musicxml import write_musicxml
from mlxgen.music.piece import Piece
from mlxgen.music.theory import Key

_OPTIONS = {"pageWidth": 2400, "pageHeight": 60000, "adjustPageHeight": True, "scale": 40, "footer": "none",
            "header": "none", "breaks": "auto", "svgViewBox": True, "svgRemoveXlink": True, "xmlIdSeed": 1}


class Engraving(NamedTuple):
    """SVG pages, and (element id, from quarter, to quarter) of every written note."""

    pages: list[str]
    sounding: list[tuple[str, float, float]]


def can_engrave() -> bool:
    """Whether the optional packages are installed."""
    return all(find_spec(name) is not None for name in ("verovio", "music21"))


def engrave(piece: Piece, keys: Sequence[tuple[int, Key]] = ()) -> Engraving:
    """The whole score; `keys` are later keys as (tick, key).

    Raises ValueError where verovio or music21 is not installed.
    """
    if not can_engrave():
        raise ValueError("an engraved score needs verovio and music21: install mlxgen with the extra 'score'")
    import verovio

    toolkit = verovio.toolkit()
    toolkit.setOptions(_OPTIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piece.musicxml"
        write_musicxml(piece, path, keys=keys)
        toolkit.loadData(path.read_text(encoding="utf-8"))
    pages = [_anonymous(toolkit.renderToSVG(number)) for number in range(1, toolkit.getPageCount() + 1)]
    return Engraving(pages, _sounding(toolkit.renderToTimemap({"includeRests": False})))


def _anonymous(svg: str) -> str:
    """Without the description that names the engraver and the time."""
    return re.sub(r"<desc>.*?</desc>", "", svg, flags=re.DOTALL)


def _sounding(timemap: list[dict]) -> list[tuple[str, float, float]]:
    began: dict[str, float] = {}
    found = []
    for entry in timemap:
        for name in entry.get("off", ()):
            if name in began:
                found.append((name, began.pop(name), entry["qstamp"]))
        for name in entry.get("on", ()):
            began[name] = entry["qstamp"]
    return sorted(found, key=lambda row: (row[1], row[0]))
