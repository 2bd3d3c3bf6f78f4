"""A piece as a picture: a piano roll in rows of bars, a colour per voice, seams and sections marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mlxgen.files.atomic import write_atomically
from mlxgen.files.canvas import WRITERS, Box, Label, Picture, Rule, Shape
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import beat_ticks

# Told apart by most colour-blind readers; the first four after Okabe and Ito (2008), darkened for thin bars.
COLOURS = ("#0068a8", "#e08214", "#12876b", "#b4468f", "#6a5acd", "#8c6239", "#4d4d4d", "#a6341b")
INK, GREY, FAINT, STRIPE, SEAM = "#22262b", "#747b84", "#dfe2e6", "#f5f6f8", "#c92a2a"

PAGE_WIDTH, MARGIN, AXIS_WIDTH = 1480, 36, 34
HEADER_HEIGHT, ROW_TOP, ROW_GAP = 84, 42, 24  # of the page; of a row above its notes; and below them
SEMITONE = 6.0
MAX_BAR_WIDTH = 190
ROW_TICKS = 16 * 1920  # a row holds sixteen bars of 4/4, or as long a stretch in another meter
MAX_BARS_A_ROW = 24
_BLACK = (1, 3, 6, 8, 10)


class _Layout(NamedTuple):
    """Where things lie: pixels for ticks and pitches."""

    bar_ticks: int
    bars: int
    bars_a_row: int
    lowest: int
    highest: int

    @property
    def row_ticks(self) -> int:
        return self.bars_a_row * self.bar_ticks

    @property
    def rows(self) -> int:
        return -(-self.bars // self.bars_a_row)

    @property
    def pixels_a_tick(self) -> float:
        room = PAGE_WIDTH - 2 * MARGIN - AXIS_WIDTH
        return min(room / self.row_ticks, MAX_BAR_WIDTH / self.bar_ticks)

    @property
    def roll_height(self) -> float:
        return (self.highest - self.lowest + 1) * SEMITONE

    def row_top(self, row: int) -> float:
        return HEADER_HEIGHT + ROW_TOP + row * (ROW_TOP + self.roll_height + ROW_GAP)

    def row_bars(self, row: int) -> int:
        return min(self.bars_a_row, self.bars - row * self.bars_a_row)

    def x(self, ticks_into_row: float) -> float:
        return MARGIN + AXIS_WIDTH + ticks_into_row * self.pixels_a_tick

    def y(self, row: int, pitch: int) -> float:
        return self.row_top(row) + (self.highest - pitch) * SEMITONE


def _make_layout(piece: Piece) -> _Layout:
    pitches = [note.pitch for voice in piece.voices for note in voice]
    if not pitches:
        raise ValueError("the piece has no notes to draw")
    most = min(MAX_BARS_A_ROW, max(1, ROW_TICKS // piece.bar_ticks))
    rows = -(-piece.length_bars // most)
    bars_a_row = min(most, -(-piece.length_bars // rows) if rows < 3 else most)
    return _Layout(piece.bar_ticks, piece.length_bars, bars_a_row, min(pitches) - 2, max(pitches) + 2)


def _header(piece: Piece) -> Iterator[Shape]:
    yield Label(MARGIN, 44, piece.title or "Untitled", 22, INK)
    bars = f"{piece.length_bars} bar{'s' if piece.length_bars != 1 else ''}"
    facts = (piece.key.name, "{}/{}".format(*piece.meter), f"{piece.tempo_bpm:g} bpm", bars)
    yield Label(MARGIN, 68, "   ·   ".join(facts), 13, GREY)
    x = PAGE_WIDTH - MARGIN
    for number in range(len(piece.voices) - 1, -1, -1):
        x -= 26 + 7.2 * len(piece.names[number])
        yield Box(x, 34, 14, 10, _colour(number), 2)
        yield Label(x + 20, 43.5, piece.names[number], 13, INK)
        x -= 12


def _colour(voice: int) -> str:
    return COLOURS[voice % len(COLOURS)]


def _row_ground(layout: _Layout, row: int, beat: int) -> Iterator[Shape]:
    """Stripes of the black keys, lines of the octaves, beats and bars, and the bars' numbers."""
    bars, top = layout.row_bars(row), layout.row_top(row)
    left, right, bottom = layout.x(0), layout.x(bars * layout.bar_ticks), top + layout.roll_height
    for pitch in range(layout.lowest, layout.highest + 1):
        if pitch % 12 in _BLACK:
            yield Box(left, layout.y(row, pitch), right - left, SEMITONE, STRIPE)
    if beat * layout.pixels_a_tick >= 14:
        for ticks in range(0, bars * layout.bar_ticks, beat):
            yield Rule(layout.x(ticks), top, layout.x(ticks), bottom, "#eceef1", 1)
    for pitch in range(layout.lowest, layout.highest + 1):
        if pitch % 12 == 0:
            line = layout.y(row, pitch) + SEMITONE
            yield Rule(left, line, right, line, FAINT, 1)
            yield Label(left - 8, line - 0.5, f"C{pitch // 12 - 1}", 10.5, GREY, "end")
    every = max(1, round(30 / (layout.bar_ticks * layout.pixels_a_tick)))
    for bar in range(bars + 1):
        x = layout.x(bar * layout.bar_ticks)
        yield Rule(x, top, x, bottom, "#b9bec5", 1)
        number = row * layout.bars_a_row + bar + 1
        if bar < bars and bar % every == 0:
            yield Label(x + 3, top - 6, str(number), 10.5, GREY)


def _note_boxes(layout: _Layout, voice: int, notes: Sequence[Note]) -> Iterator[Shape]:
    """A bar per note, cut where the row ends; a hair of white keeps repeated notes apart."""
    for note in notes:
        start, end = note.start_ticks, min(note.end_ticks, layout.rows * layout.row_ticks)
        while start < end:
            row, into_row = divmod(start, layout.row_ticks)
            stop = min(end, (row + 1) * layout.row_ticks)
            x, width = layout.x(into_row), (stop - start) * layout.pixels_a_tick
            yield Box(x + 0.5, layout.y(row, note.pitch) + 0.25, max(1.5, width - 1.25), SEMITONE - 0.5,
                      _colour(voice), min(2.0, width / 3))
            start = stop


def _marks(layout: _Layout, seams: Sequence[int], sections: Sequence[tuple[int, str]]) -> Iterator[Shape]:
    """Seams as dashed lines through the row, sections by name over their first bar."""
    for ticks in seams:
        if 0 <= ticks < layout.bars * layout.bar_ticks:
            row, into_row = divmod(ticks, layout.row_ticks)
            x, top = layout.x(into_row), layout.row_top(row)
            yield Rule(x, top - 18, x, top + layout.roll_height + 4, SEAM, 1.5, 4)
            yield Label(x + 3, top + layout.roll_height + 13, "seam", 10, SEAM)
    for ticks, name in sections:
        if 0 <= ticks < layout.bars * layout.bar_ticks:
            row, into_row = divmod(ticks, layout.row_ticks)
            x, top = layout.x(into_row), layout.row_top(row)
            width = 12 + 6.8 * len(name)
            x = min(x, PAGE_WIDTH - MARGIN - width)
            yield Box(x, top - 37, width, 16, INK, 3)
            yield Label(x + 6, top - 25.5, name, 11, "#ffffff")


def make_pianoroll(piece: Piece, *, seams: Sequence[int] = (),
                   sections: Sequence[tuple[int, str]] = ()) -> Picture:
    """The piece as a Picture; `seams` are ticks, `sections` (tick, name). ValueError without notes."""
    layout = _make_layout(piece)
    shapes: list[Shape] = list(_header(piece))
    for row in range(layout.rows):
        shapes += _row_ground(layout, row, beat_ticks(piece.meter))
    for voice in range(len(piece.voices) - 1, -1, -1):
        shapes += _note_boxes(layout, voice, piece.voices[voice])
    shapes += _marks(layout, seams, sections)
    height = layout.row_top(layout.rows - 1) + layout.roll_height + ROW_GAP + 12
    return Picture(PAGE_WIDTH, height, tuple(shapes))


def draw_pianoroll(piece: Piece, path: str | Path, *, seams: Sequence[int] = (),
                   sections: Sequence[tuple[int, str]] = ()) -> None:
    """Draw the piece to `path`, an .svg or a .png, with `seams` (ticks) and `sections` (tick, name) marked.

    Raises ValueError for another suffix or a piece without notes, OSError where `path` cannot be written.
    """
    path = Path(path)
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        known = ", ".join(WRITERS)
        raise ValueError(f"{path}: unknown kind of picture {path.suffix!r}; expected one of {known}")
    write_atomically(path, writer(make_pianoroll(piece, seams=seams, sections=sections)))
