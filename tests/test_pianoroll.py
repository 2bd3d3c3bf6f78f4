"""Piano rolls: where the bars of colour lie, and both kinds of file."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from pieces import pieces
from PIL import Image

from mlxgen.files.canvas import MAX_PIXELS, Box, Label, Picture, Rule, to_png, to_svg
from mlxgen.files.pianoroll import COLOURS, SEAM, SEMITONE, draw_pianoroll, make_pianoroll
from mlxgen.music.piece import Piece
from mlxgen.music.theory import Key

PIECE = Piece(
    [[(0, 480, 72), (480, 1440, 74)], [(0, 1920, 60), (1920, 480, 55)]],
    Key(2, "minor"),
    title="A < B & C",
    voice_names=("Ober", "Unter"),
)
LONG = Piece([[(480 * step, 480, 60 + step % 12) for step in range(4 * 100)], []])


def notes_drawn(picture, voice):
    """The boxes of one voice, without its swatch in the legend."""
    return [shape for shape in picture.shapes if isinstance(shape, Box) and shape.fill == COLOURS[voice]][1:]


def texts(picture):
    return [shape.text for shape in picture.shapes if isinstance(shape, Label)]


def test_higher_is_higher_and_later_is_further_right():
    picture = make_pianoroll(PIECE)
    first, second = notes_drawn(picture, 0)
    assert second.x > first.x and first.y - second.y == pytest.approx(2 * SEMITONE)
    assert second.width == pytest.approx(3 * first.width, rel=0.05)
    low = notes_drawn(picture, 1)[0]
    assert low.y - first.y == pytest.approx(12 * SEMITONE) and low.x == first.x


def test_the_page_says_what_the_piece_is():
    said = texts(make_pianoroll(PIECE))
    assert "A < B & C" in said and {"Ober", "Unter"} <= set(said)
    assert any("D minor" in text and "4/4" in text and "2 bars" in text for text in said)


def test_every_bar_has_its_number_and_rows_fill_up():
    picture = make_pianoroll(LONG)
    assert {str(bar) for bar in range(1, 101)} <= set(texts(picture))
    assert len(notes_drawn(picture, 0)) == LONG.note_count
    rows = {round(shape.y1) for shape in picture.shapes if isinstance(shape, Rule) and shape.x1 == shape.x2}
    assert len(rows) == 7


def test_a_note_over_the_end_of_a_row_goes_on_in_the_next():
    piece = Piece([[(0, 480, 60), (15 * 1920, 3840, 62), (39 * 1920, 1920, 64)], []])
    assert len(notes_drawn(make_pianoroll(piece), 0)) == 4


def test_seams_and_sections_are_marked_where_they_are():
    picture = make_pianoroll(PIECE, seams=[1920], sections=[(0, "Exposition")])
    seam = next(shape for shape in picture.shapes if isinstance(shape, Rule) and shape.stroke == SEAM)
    assert seam.x1 == seam.x2 == pytest.approx(notes_drawn(picture, 1)[1].x, abs=1)
    assert seam.dash > 0 and {"seam", "Exposition"} <= set(texts(picture))
    assert "seam" not in texts(make_pianoroll(PIECE, seams=[99_999]))


@given(piece=pieces())
@settings(max_examples=40, deadline=None)
def test_everything_lies_on_the_page(piece):
    picture = make_pianoroll(piece, seams=[piece.bar_ticks], sections=[(0, "A long name of a section")])
    for shape in picture.shapes:
        x, y = shape[:2]
        right = x + (shape.width if isinstance(shape, Box) else 0)
        assert x >= 0 and right <= picture.width and 0 <= y <= picture.height


def test_svg_is_well_formed_and_png_shows_the_colours(tmp_path):
    draw_pianoroll(PIECE, tmp_path / "roll.svg", seams=[1920])
    root = ElementTree.fromstring((tmp_path / "roll.svg").read_bytes())
    assert "A < B & C" in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    draw_pianoroll(PIECE, tmp_path / "roll.png")
    image = Image.open(tmp_path / "roll.png")
    seen = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {tuple(bytes.fromhex(colour[1:])) for colour in COLOURS[:2]} <= seen
    assert image.width == 2 * 1480
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["roll.png", "roll.svg"]


def test_both_forms_put_a_box_in_the_same_place():
    picture = Picture(20, 10, (Box(5, 2, 10, 4, "#ff0000"), Rule(0, 9, 20, 9, "#0000ff", 1, 2)))
    image = Image.open(io.BytesIO(to_png(picture)))
    assert image.size == (40, 20)
    assert [image.getpixel((x, 8)) == (255, 0, 0) for x in (9, 10, 29, 30)] == [False, True, True, False]
    assert b'<rect x="5.00" y="2.00" width="10.00" height="4.00" fill="#ff0000"/>' in to_svg(picture)
    blue = [image.getpixel((x, 18)) == (0, 0, 255) for x in range(40)]
    assert any(blue) and not all(blue)


def test_a_huge_picture_is_drawn_at_single_size():
    side = int(MAX_PIXELS**0.5)
    assert Image.open(io.BytesIO(to_png(Picture(side, 100, ())))).width == 2 * side
    assert Image.open(io.BytesIO(to_png(Picture(100, MAX_PIXELS // 200, ())))).width == 100


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown kind of picture '\.gif'; expected one of \.svg, \.png"):
        draw_pianoroll(PIECE, tmp_path / "roll.gif")
    with pytest.raises(ValueError, match="no notes"):
        draw_pianoroll(Piece([[], []]), tmp_path / "roll.svg")
    assert list(tmp_path.iterdir()) == []
