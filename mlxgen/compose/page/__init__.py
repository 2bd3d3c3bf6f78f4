"""The parts of the HTML pages, and how a page is put together: one file, nothing fetched from anywhere."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from mlxgen.music.piece import Piece

_HERE = Path(__file__).parent


def make_page(template: str, **parts: str) -> str:
    """A template of this folder with its {{name}} places filled. `css` and `player` are put in by themselves.

    Raises ValueError for a place that nothing fills.
    """
    text = (_HERE / template).read_text(encoding="utf-8")
    parts = {"css": (_HERE / "page.css").read_text(encoding="utf-8"),
             "player": (_HERE / "player.js").read_text(encoding="utf-8"), **parts}

    def fill(match: re.Match) -> str:
        name = match.group(1)
        if name not in parts:
            raise ValueError(f"{template}: nothing fills {{{{{name}}}}}")
        return parts[name]

    return re.sub(r"\{\{(\w+)\}\}", fill, text)


def as_script(value) -> str:
    """JSON that may stand inside a <script>: nothing in it can end the script."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def escape(text) -> str:
    """Text as HTML."""
    return html.escape(str(text))


def piece_data(piece: Piece) -> dict:
    """What player.js needs of a piece."""
    return {"voices": [[list(note) for note in voice] for voice in piece.voices],
            "tempo_bpm": piece.tempo_bpm, "bar_ticks": piece.bar_ticks}


def duration_s(piece: Piece) -> float:
    """How long the piece sounds at its tempo."""
    return piece.length_ticks / 480 * 60 / piece.tempo_bpm


def minutes(seconds: float) -> str:
    """75.2 -> "1:15"."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
