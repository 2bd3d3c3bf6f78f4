"""Score files -> bars of monophonic parts. MusicXML and Humdrum **kern, nothing but the standard library.

music21 opens the same files in seconds each; these readers take milliseconds, and they keep what a training
corpus needs to know and a player does not: where the notated bar lines are, and which notes are off the
grid. Grace notes are left out, repeats are not unfolded, chords inside a part give their outer note.
"""

from __future__ import annotations

import itertools
import re
import zipfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

from mlxgen.music.theory import STEP_PITCH_CLASS


@dataclass
class RawNote:
    """A note inside its measure.

    Offset and duration in quarters, and whether a tie joins it to a neighbour.
    """

    offset: Fraction
    duration: Fraction
    pitch: int
    tied_from: bool = False
    tied_to: bool = False


@dataclass
class Measure:
    """One notated measure of all parts; `length` is what it holds in quarters, whatever its meter."""

    meter: tuple[int, int]
    fifths: int | None
    mode: str | None
    length: Fraction
    parts: list[list[RawNote]]
    ends_section: bool = False


@dataclass
class RawScore:
    """Measures of one file, parts in score order."""

    measures: list[Measure]
    part_names: list[str] = field(default_factory=list)


# ---------------------------------------------------------------- MusicXML


def _xml_root(path: Path) -> ElementTree.Element:
    if path.suffix != ".mxl":
        return ElementTree.fromstring(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        rootfile = next(element for element in container.iter() if element.tag.endswith("rootfile"))
        return ElementTree.fromstring(archive.read(rootfile.get("full-path")))


def _xml_pitch(note: ElementTree.Element) -> int | None:
    pitch = note.find("pitch")
    if pitch is None:
        return None
    alter = int(float(pitch.findtext("alter") or 0))
    return STEP_PITCH_CLASS[pitch.findtext("step")] + alter + 12 * (int(pitch.findtext("octave")) + 1)


class _PartReader:
    """Walks the measures of one <part>, keeping divisions, meter and key as they change."""

    def __init__(self, take_top: bool):
        self.divisions = 1
        self.meter = (4, 4)
        self.fifths: int | None = None
        self.mode: str | None = None
        self.take_top = take_top
        self.transposition = 0

    def _attributes(self, element: ElementTree.Element) -> None:
        if element.findtext("divisions"):
            self.divisions = int(element.findtext("divisions"))
        time = element.find("time")
        if time is not None and time.findtext("beats"):
            beats = sum(int(part) for part in time.findtext("beats").split("+"))
            self.meter = (beats, int(time.findtext("beat-type")))
        key = element.find("key")
        if key is not None and key.findtext("fifths"):
            self.fifths, self.mode = int(key.findtext("fifths")), key.findtext("mode")
        chromatic = element.findtext("transpose/chromatic")
        if chromatic:
            self.transposition = int(chromatic)

    def measure(self, element: ElementTree.Element) -> tuple[list[RawNote], Fraction, bool]:
        """-> (monophonic notes, length in quarters, whether a final bar line closes it)."""
        by_voice: dict[str, list[RawNote]] = {}
        clock = furthest = Fraction(0)
        previous_offset = Fraction(0)
        closes = False
        for child in element:
            if child.tag == "attributes":
                self._attributes(child)
            elif child.tag in ("backup", "forward"):
                step = Fraction(int(child.findtext("duration")), self.divisions)
                clock += step if child.tag == "forward" else -step
            elif child.tag == "barline":
                closes |= child.findtext("bar-style") == "light-heavy" and child.get("location") != "left"
            elif child.tag == "note" and child.find("grace") is None and child.find("cue") is None:
                duration = Fraction(int(child.findtext("duration") or 0), self.divisions)
                if child.find("chord") is None:
                    previous_offset = clock
                    clock += duration
                pitch = _xml_pitch(child)
                if pitch is not None and duration > 0:
                    ties = {tie.get("type") for tie in child.findall("tie")}
                    note = RawNote(
                        previous_offset, duration, pitch + self.transposition, "stop" in ties, "start" in ties
                    )
                    by_voice.setdefault(child.findtext("voice") or "1", []).append(note)
            furthest = max(furthest, clock)
        voices = [by_voice[name] for name in sorted(by_voice)]
        return (make_monophonic(voices[0], self.take_top) if voices else []), furthest, closes


def make_monophonic(notes: list[RawNote], take_top: bool) -> list[RawNote]:
    """One note an onset (the outer one of a chord), each cut where the next begins."""
    by_offset: dict[Fraction, RawNote] = {}
    for note in notes:
        held = by_offset.get(note.offset)
        if held is None or (note.pitch > held.pitch) == take_top:
            by_offset[note.offset] = note
    line = [by_offset[offset] for offset in sorted(by_offset)]
    for note, following in itertools.pairwise(line):
        note.duration = min(note.duration, following.offset - note.offset)
    return line


def read_musicxml(path: Path) -> RawScore:
    """.xml, .musicxml or .mxl (partwise) -> RawScore."""
    root = _xml_root(path)
    names = {part.get("id"): part.findtext("part-name") or "" for part in root.iter("score-part")}
    parts = root.findall("part")
    readers = [_PartReader(take_top=index + 1 < len(parts) or index == 0) for index in range(len(parts))]
    measures = []
    for row in zip(*(part.findall("measure") for part in parts), strict=False):
        read = [reader.measure(element) for reader, element in zip(readers, row, strict=True)]
        measures.append(
            Measure(
                readers[0].meter,
                readers[0].fifths,
                readers[0].mode,
                max(length for _, length, _ in read),
                [notes for notes, _, _ in read],
                any(closes for _, _, closes in read),
            )
        )
    return RawScore(measures, [names.get(part.get("id"), "") for part in parts])


# ---------------------------------------------------------------- Humdrum

_KERN_NOTE = re.compile(r"([\[_\]]?)(\d+)(%\d+)?(\.*)([a-gA-G]+|r)([#\-n]*)")


def _kern_duration(digits: str, ratio: str | None, dots: str) -> Fraction:
    length = Fraction(8 * 2 ** (len(digits) - 1)) if set(digits) == {"0"} else Fraction(4, int(digits))
    if ratio:
        length *= int(ratio[1:])
    return length * (2 - Fraction(1, 2 ** len(dots)))


def _kern_pitch(letters: str, accidentals: str) -> int:
    octave = 3 + len(letters) if letters.islower() else 4 - len(letters)
    alter = accidentals.count("#") - accidentals.count("-")
    return STEP_PITCH_CLASS[letters[0].upper()] + alter + 12 * (octave + 1)


_KERN_MODE = re.compile(r"^\*([A-Ga-g][#-]?):(\w*)$")
_CHURCH_IS_MINOR = {"dor": True, "phr": True, "aeo": True, "lyd": False, "mix": False, "ion": False}


def read_kern(path: Path) -> RawScore:
    """A **kern file -> RawScore with the highest spine first. Raises ValueError on spine splits."""
    measures: list[Measure] = []
    meter, fifths, mode = (4, 4), None, None
    spines: list[int] | None = None
    parts: list[list[RawNote]] = []
    clocks: list[Fraction] = []

    def close() -> None:
        if any(clock > 0 for clock in clocks):
            lines = [
                make_monophonic(notes, take_top=index < len(parts) - 1)
                for index, notes in enumerate(reversed(parts))
            ]
            measures.append(Measure(meter, fifths, mode, max(clocks), lines))

    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line or line.startswith("!"):
            continue
        cells = line.split("\t")
        if spines is None:
            spines = [index for index, cell in enumerate(cells) if cell == "**kern"]
            parts, clocks = [[] for _ in spines], [Fraction(0) for _ in spines]
            continue
        if any(cell in ("*^", "*v", "*x", "*+") for cell in cells):
            raise ValueError(f"{path.name}: spine splits are not read")
        if cells[0].startswith("="):
            close()
            parts, clocks = [[] for _ in spines], [Fraction(0) for _ in spines]
            if measures and cells[0].startswith("=="):
                measures[-1].ends_section = True
        elif cells[0].startswith("*"):
            for cell in (cells[index] for index in spines):
                if re.match(r"^\*M\d+/\d+$", cell):
                    numerator, denominator = cell[2:].split("/")
                    meter = (int(numerator), int(denominator) or 1)
                elif cell.startswith("*k["):
                    fifths = cell.count("#") - cell.count("-")
                elif match := _KERN_MODE.match(cell):
                    church = _CHURCH_IS_MINOR.get(match.group(2))
                    mode = None if church is None else ("minor" if church else "major")
        else:
            _kern_row([cells[index] for index in spines], parts, clocks)
    close()
    return RawScore(measures)


def _kern_row(cells: list[str], parts: list[list[RawNote]], clocks: list[Fraction]) -> None:
    """Advance every spine that has a token in this row. All spines share the clock of the row."""
    for index, cell in enumerate(cells):
        if cell == ".":
            continue
        length = None
        for token in cell.split(" "):
            match = _KERN_NOTE.search(token)
            if match is None or "q" in token.lower():
                continue
            _, digits, ratio, dots, letters, accidentals = match.groups()
            duration = _kern_duration(digits, ratio, dots)
            length = duration if length is None else max(length, duration)
            if letters != "r":
                parts[index].append(
                    RawNote(
                        clocks[index],
                        duration,
                        _kern_pitch(letters, accidentals),
                        "]" in token or "_" in token,
                        "[" in token or "_" in token,
                    )
                )
        if length is not None:
            clocks[index] += length
