"""A picture as a list of shapes, and its two forms: SVG text, and PNG by Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape

MAX_PIXELS = 60_000_000
_FONT = "Helvetica Neue, Helvetica, Arial, sans-serif"
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # SVG's word: Pillow's (on the base line)


class Box(NamedTuple):
    """A filled rectangle; coordinates in pixels from the top left."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    radius: float = 0.0


class Rule(NamedTuple):
    """A straight line; `dash` is the length of dashes and gaps, 0 for none."""

    x1: float
    y1: float
    x2: float
    y2: float
    stroke: str
    width: float = 1.0
    dash: float = 0.0


class Label(NamedTuple):
    """Text on the base line y; `anchor` is the side of the text that stands at x."""

    x: float
    y: float
    text: str
    size: float
    fill: str
    anchor: str = "start"


Shape = Box | Rule | Label


@dataclass(frozen=True)
class Picture:
    """Shapes from back to front on a white ground of width x height pixels."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


def _svg_shape(shape: Shape) -> str:
    if isinstance(shape, Box):
        corner = f' rx="{shape.radius:g}"' if shape.radius else ""
        return (f'<rect x="{shape.x:.2f}" y="{shape.y:.2f}" width="{shape.width:.2f}" '
                f'height="{shape.height:.2f}"{corner} fill="{shape.fill}"/>')
    if isinstance(shape, Rule):
        dash = f' stroke-dasharray="{shape.dash:g}"' if shape.dash else ""
        return (f'<line x1="{shape.x1:.2f}" y1="{shape.y1:.2f}" x2="{shape.x2:.2f}" y2="{shape.y2:.2f}" '
                f'stroke="{shape.stroke}" stroke-width="{shape.width:g}"{dash}/>')
    return (f'<text x="{shape.x:.2f}" y="{shape.y:.2f}" font-size="{shape.size:g}" fill="{shape.fill}" '
            f'text-anchor="{shape.anchor}">{escape(shape.text)}</text>')


def to_svg(picture: Picture) -> bytes:
    """The picture as an SVG document."""
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{picture.width:g}" height="{picture.height:g}" '
            f'viewBox="0 0 {picture.width:g} {picture.height:g}" font-family="{_FONT}">')
    ground = f'<rect width="{picture.width:g}" height="{picture.height:g}" fill="#ffffff"/>'
    lines = [head, ground, *(_svg_shape(shape) for shape in picture.shapes), "</svg>", ""]
    return "\n".join(lines).encode("utf-8")


def _dashes(rule: Rule) -> Iterable[tuple[float, float, float, float]]:
    """The strokes of a rule: itself, or its dashes."""
    length = abs(rule.x2 - rule.x1) + abs(rule.y2 - rule.y1)
    if not rule.dash or not length:
        yield rule[:4]
        return
    for index in range(int(length / rule.dash / 2) + 1):
        begin = min(2 * index * rule.dash / length, 1)
        end = min((2 * index + 1) * rule.dash / length, 1)
        yield (rule.x1 + begin * (rule.x2 - rule.x1), rule.y1 + begin * (rule.y2 - rule.y1),
               rule.x1 + end * (rule.x2 - rule.x1), rule.y1 + end * (rule.y2 - rule.y1))


def to_png(picture: Picture) -> bytes:
    """The picture as a PNG of twice its size in pixels (once where that would pass MAX_PIXELS)."""
    from PIL import Image, ImageDraw, ImageFont

    scale = 2 if 4 * picture.width * picture.height <= MAX_PIXELS else 1
    image = Image.new("RGB", (round(picture.width * scale), round(picture.height * scale)), "#ffffff")
    pen = ImageDraw.Draw(image)
    fonts = {}
    for shape in picture.shapes:
        if isinstance(shape, Box):
            left, top = round(shape.x * scale), round(shape.y * scale)
            right = max(left, round((shape.x + shape.width) * scale) - 1)
            bottom = max(top, round((shape.y + shape.height) * scale) - 1)
            pen.rounded_rectangle((left, top, right, bottom), shape.radius * scale, fill=shape.fill)
        elif isinstance(shape, Rule):
            for stroke in _dashes(shape):
                pen.line([value * scale for value in stroke], fill=shape.stroke,
                         width=max(1, round(shape.width * scale)))
        else:
            if shape.size not in fonts:
                fonts[shape.size] = ImageFont.load_default(shape.size * scale)
            pen.text((shape.x * scale, shape.y * scale), shape.text, fill=shape.fill, font=fonts[shape.size],
                     anchor=_ANCHORS[shape.anchor])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


WRITERS = {".svg": to_svg, ".png": to_png}
