"""Scores: MusicXML by music21 (BSD), an optional package that is loaded when a score is first asked for."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

from mlxgen.files.atomic import write_atomically
from mlxgen.files.notation import Mark, choose_clef, engrave
from mlxgen.files.voices import on_grid, split_voices
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import TICKS_PER_QUARTER, Key, bar_ticks, detect_key

CHORDS = ("top", "split")
_CLEF_CLASSES = {"treble": "TrebleClef", "treble 8vb": "Treble8vbClef",
                 "alto": "AltoClef", "bass": "BassClef"}


def _music21() -> ModuleType:
    try:
        import music21
    except ModuleNotFoundError as error:
        raise ValueError(f"scores need the package {error.name}; install it with: "
                         "uv pip install 'mlxgen[score]'") from None
    return music21


def _make_mark(music21: ModuleType, mark: Mark, bar: int):
    if mark.spelling is None:
        written = music21.note.Rest()
        written.fullMeasure = mark.duration_ticks == bar
    else:
        step, alter, octave = mark.spelling
        written = music21.note.Note(music21.pitch.Pitch(step=step, accidental=alter or None, octave=octave))
    written.quarterLength = mark.duration_ticks / TICKS_PER_QUARTER
    return written


def _make_part(music21: ModuleType, piece: Piece, index: int, keys: Sequence[tuple[int, Key]]):
    """One voice as a music21 part of whole bars."""
    voice, name = piece.voices[index], piece.names[index]
    part = music21.stream.Part()
    instrument = music21.instrument.Instrument(name)
    instrument.partId = f"P{index + 1}"
    part.insert(0, instrument)
    bars = [music21.stream.Measure(number=number + 1) for number in range(max(1, piece.length_bars))]
    bars[0].insert(0, getattr(music21.clef, _CLEF_CLASSES[choose_clef(voice, name)])())
    by_bar = piece.keys_by_bar(keys)
    for bar, before, key in zip(bars, [None, *by_bar], by_bar, strict=False):
        if key != before:
            bar.insert(0, music21.key.Key(key.tonic.replace("b", "-"), key.mode))
    bars[0].insert(0, music21.meter.TimeSignature("{}/{}".format(*piece.meter)))
    if index == 0:
        bars[0].insert(0, music21.tempo.MetronomeMark(number=round(piece.tempo_bpm, 2)))
    before = None
    for mark in engrave(voice, piece, keys):
        written = _make_mark(music21, mark, piece.bar_ticks)
        if mark.tied:
            before.tie = music21.tie.Tie("continue" if before.tie else "start")
            written.tie = music21.tie.Tie("stop")
        bar, into_bar_ticks = divmod(mark.start_ticks, piece.bar_ticks)
        bars[bar].insert(into_bar_ticks / TICKS_PER_QUARTER, written)
        before = written
    bars[-1].rightBarline = "final"
    part.append(bars)
    part.makeBeams(inPlace=True)
    part.makeAccidentals(inPlace=True, cautionaryNotImmediateRepeat=False)
    return part


def write_musicxml(piece: Piece, path: str | Path, *, keys: Sequence[tuple[int, Key]] = ()) -> None:
    """Write a score (.musicxml): a part per voice, spelled in the key, with bars, beams, ties and rests.

    `keys` are later keys, (tick, key) rows: each gets its signature at the bar line before it.
    Times are moved to the nearest 32nd. In one voice, notes that overlap are shortened and chords are reduced
    to their highest note. Raises ValueError where music21 is not installed, OSError where `path` cannot be
    written.
    """
    music21 = _music21()
    from music21.musicxml.m21ToXml import GeneralObjectExporter

    score = music21.stream.Score()
    score.metadata = music21.metadata.Metadata(title=piece.title or "Untitled", composer="mlxgen")
    for index in range(len(piece.voices)):
        score.insert(0, _make_part(music21, piece, index, keys))
    exporter = GeneralObjectExporter(score)
    exporter.makeNotation = False
    write_atomically(path, exporter.parse(score))


def _check(path: Path) -> None:
    """Raise ValueError, saying what is wrong, unless `path` holds a MusicXML score."""
    data = path.read_bytes()
    if data[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist()
                         if name.endswith((".xml", ".musicxml")) and not name.startswith("META-INF")]
                data = archive.read(names[0]) if names else b""
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path}: broken .mxl archive ({error})") from None
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not MusicXML ({error})") from None
    if root.tag != "score-partwise":
        raise ValueError(f"{path}: its root is <{root.tag}>; expected a MusicXML <score-partwise>")


def _part_notes(part) -> list[Note]:
    """A part's sounding notes on the grid: ties joined, grace notes and unpitched ones left out."""
    for written in part.recurse().notes:
        for pitch in written.pitches:
            # To music21 a G with a natural sign and a plain G differ, and a tie between them would not join.
            if pitch.accidental is not None and pitch.accidental.alter == 0:
                pitch.accidental = None
    notes = []
    for written in part.stripTies().flatten().notes:
        if written.duration.isGrace:
            continue
        start = float(written.offset) * TICKS_PER_QUARTER
        end = start + float(written.quarterLength) * TICKS_PER_QUARTER
        notes += [on_grid(start, end, round(pitch.ps)) for pitch in written.pitches]
    return notes


def _top_line(notes: list[Note]) -> list[Note]:
    """The highest notes of a part as one voice: the top of a chord, nothing that begins under a held note."""
    line: list[Note] = []
    for note in sorted(notes, key=lambda note: (note.start_ticks, -note.pitch)):
        if line and line[-1].end_ticks > note.start_ticks:
            held = line[-1]
            if held.pitch >= note.pitch or held.start_ticks == note.start_ticks:
                continue
            line[-1] = held._replace(duration_ticks=note.start_ticks - held.start_ticks)
        line.append(note)
    return line


def _key(music21: ModuleType, part, voices: list[list[Note]]) -> Key:
    """The first signature with its mode; a signature without one, or none at all, leaves it to the notes."""
    weights = [0.0] * 12
    for voice in voices:
        for note in voice:
            weights[note.pitch % 12] += note.duration_ticks
    signatures = part.recurse().getElementsByClass(music21.key.KeySignature)
    if not signatures:
        return detect_key(weights)
    signature = signatures[0]
    tonic = signature.sharps * 7 % 12
    mode = getattr(signature, "mode", None)
    if mode in ("major", "minor"):
        return Key(tonic if mode == "major" else (tonic + 9) % 12, mode)
    return detect_key(weights, signature.sharps)


def _meter(music21: ModuleType, part) -> tuple[tuple[int, int], int]:
    """The first meter, and the ticks by which a first short bar (a pickup) falls short of a whole one."""
    meters = part.recurse().getElementsByClass(music21.meter.TimeSignature)
    meter = (meters[0].numerator, meters[0].denominator) if meters else (4, 4)
    bars = part.getElementsByClass(music21.stream.Measure)
    first_ticks = round(float(bars[0].duration.quarterLength) * TICKS_PER_QUARTER) if bars else 0
    is_pickup = len(bars) > 1 and 0 < first_ticks < bar_ticks(meter)
    return meter, bar_ticks(meter) - first_ticks if is_pickup else 0


def _parse(music21: ModuleType, path: Path):
    try:
        with warnings.catch_warnings():
            # About hairpins and dashes that music21 cannot place; no note depends on them.
            warnings.simplefilter("ignore", music21.musicxml.xmlObjects.MusicXMLWarning)
            score = music21.converter.parse(path, format="musicxml", forceSource=True)
    except (music21.exceptions21.Music21Exception, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: music21 cannot read it ({type(error).__name__}: {error})") from None
    return score.toSoundingPitch()


def read_musicxml(path: str | Path, *, chords: str | None = None) -> Piece:
    """A MusicXML score (.musicxml, .xml, .mxl) as a Piece.

    `chords="top"`: one voice per part, the highest note of each chord. `chords="split"`: as many voices per
    staff as sound at once (`files.voices.split_voices`). Unsaid, a score of several parts is read by the top
    notes, and a single part or a keyboard's two staves are split. Ties are joined, grace notes left out,
    repeats not played, transposing instruments read as they sound, times moved to the nearest 32nd; key,
    meter and tempo are the first ones. A pickup lies at the end of the first bar. Raises ValueError for a
    file that is no MusicXML or has no notes, and where music21 is not installed.
    """
    if chords not in (None, *CHORDS):
        raise ValueError(f"chords {chords!r}: expected one of {', '.join(CHORDS)}")
    path = Path(path)
    _check(path)
    music21 = _music21()
    score = _parse(music21, path)
    parts = list(score.parts)
    keyboard = any(isinstance(part, music21.stream.PartStaff) for part in parts)
    chords = chords or ("split" if keyboard or len(parts) == 1 else "top")
    rows: list[tuple[str, list[Note]]] = []
    for part in parts:
        notes = _part_notes(part)
        voices = split_voices(notes) if chords == "split" else [_top_line(notes)] if notes else []
        rows += [((part.partName or "").strip(), voice) for voice in voices]
    if not rows:
        raise ValueError(f"{path}: no notes")
    meter, pickup_ticks = _meter(music21, parts[0])
    voices = [[note._replace(start_ticks=note.start_ticks + pickup_ticks) for note in voice]
              for _, voice in rows]
    tempos = score.recurse().getElementsByClass(music21.tempo.MetronomeMark)
    names = tuple(name for name, _ in rows)
    return Piece(voices, _key(music21, parts[0], voices), meter,
                 tempo_bpm=float(tempos[0].getQuarterBPM() or 120.0) if tempos else 120.0,
                 title=score.metadata.title or score.metadata.movementName or "" if score.metadata else "",
                 voice_names=names if all(names) else ())
