"""Scores, written and read again; what an engraver decides; and the front door for all files."""

from __future__ import annotations

import sys
import zipfile
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pieces import METERS, pieces

from mlxgen.files.midi import write_midi
from mlxgen.files.musicxml import read_musicxml, write_musicxml
from mlxgen.files.notation import VALUES_TICKS, choose_clef, engrave
from mlxgen.files.read import READERS, read_score
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key, bar_ticks, beat_ticks

CHORALE = Piece(
    [
        [(0, 480, 69), (480, 720, 71), (1200, 240, 73), (1440, 960, 74)],
        [(480, 1920, 64)],
        [(0, 1440, 57), (1440, 480, 56), (2880, 480, 61)],
        [(0, 2400, 45)],
    ],
    Key(2, "minor"),
    (3, 4),
    tempo_bpm=72,
    title="Versuch",
    voice_names=("Diskant", "Alt", "Tenor", "Bass"),
)


def marks(voice, meter=(4, 4), key=None):
    """(start, duration, name or "r", tied) of what is written for one voice."""
    piece = Piece([voice], key or Key(0, "major"), meter)
    return [
        (start, duration, spelling.name if spelling else "r", tied)
        for start, duration, spelling, tied in engrave(piece.voices[0], piece)
    ]


def test_a_note_over_the_bar_line_is_tied_and_the_bar_filled_up():
    assert marks([(1440, 960, 60)]) == [
        (0, 960, "r", False),
        (960, 480, "r", False),
        (1440, 480, "C4", False),
        (1920, 480, "C4", True),
        (2400, 480, "r", False),
        (2880, 960, "r", False),
    ]


def test_values_show_the_beats():
    assert marks([(0, 600, 60)])[:2] == [(0, 480, "C4", False), (480, 120, "C4", True)]
    assert marks([(240, 480, 60)])[1] == (240, 480, "C4", False)
    assert marks([(240, 960, 60)])[1:3] == [(240, 720, "C4", False), (960, 240, "C4", True)]
    assert marks([(480, 480, 60)], (6, 8))[1:3] == [(480, 240, "C4", False), (720, 240, "C4", True)]
    assert marks([(720, 720, 60)], (6, 8)) == [(0, 720, "r", False), (720, 720, "C4", False)]


def test_silent_bars_are_one_rest():
    assert marks([(2880, 1440, 60)], (3, 4)) == [
        (0, 1440, "r", False),
        (1440, 1440, "r", False),
        (2880, 1440, "C4", False),
    ]
    assert marks([]) == [(0, 1920, "r", False)]


def test_chords_and_overlaps_in_one_voice_are_written_on_one_stem():
    assert marks([(0, 960, 60), (0, 960, 64), (480, 1440, 62)]) == [
        (0, 480, "E4", False),
        (480, 1440, "D4", False),
    ]


@given(piece=pieces())
@settings(max_examples=80, deadline=None)
def test_written_voices_fill_their_bars_and_sound_the_same(piece):
    for voice in piece.voices:
        written = engrave(voice, piece)
        assert written[0].start_ticks == 0
        assert all(
            left.start_ticks + left.duration_ticks == right.start_ticks for left, right in pairwise(written)
        )
        assert (written[-1].start_ticks + written[-1].duration_ticks) % piece.bar_ticks == 0
        sounding = []
        for mark in written:
            bar = mark.start_ticks // piece.bar_ticks
            assert mark.start_ticks + mark.duration_ticks <= (bar + 1) * piece.bar_ticks
            assert mark.duration_ticks in VALUES_TICKS
            if mark.tied:
                sounding[-1] = (sounding[-1][0], sounding[-1][1] + mark.duration_ticks)
            elif mark.spelling:
                sounding.append((mark.start_ticks, mark.duration_ticks))
        assert sounding == [(note.start_ticks, note.duration_ticks) for note in voice]


@given(start=st.integers(0, 200), length=st.integers(1, 100), meter=st.sampled_from(METERS))
@settings(deadline=None)
def test_rests_never_hide_a_beat(start, length, meter):
    piece = Piece([[(60 * (start + length), 60, 60)]], meter=meter)
    for mark in engrave(piece.voices[0], piece):
        into_bar = mark.start_ticks % bar_ticks(meter)
        if mark.spelling is None and into_bar % beat_ticks(meter):
            assert into_bar % beat_ticks(meter) + mark.duration_ticks <= beat_ticks(meter)


@pytest.mark.parametrize(
    "pitches, name, clef",
    [
        ((60, 72, 79), "", "treble"),
        ((36, 43, 57), "", "bass"),
        ((50, 57, 66), "", "treble 8vb"),
        ((55, 60, 65), "Viola", "alto"),
        ((50, 57, 66), "Violin II", "treble"),
        ((), "", "treble"),
    ],
)
def test_the_clef_spares_ledger_lines(pitches, name, clef):
    assert choose_clef([Note(0, 480, pitch) for pitch in pitches], name) == clef


def test_a_written_score_reads_back(tmp_path):
    pytest.importorskip("music21")
    write_musicxml(CHORALE, tmp_path / "out.musicxml")
    assert read_musicxml(tmp_path / "out.musicxml") == CHORALE
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.musicxml"]


@given(piece=pieces(max_voices=3))
@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate))  # shrinking takes minutes
def test_any_score_reads_back(tmp_path_factory, piece):
    pytest.importorskip("music21")
    path = tmp_path_factory.mktemp("score") / "out.musicxml"
    write_musicxml(piece, path)
    again = read_musicxml(path)
    assert (again.voices, again.key, again.meter) == (piece.voices, piece.key, piece.meter)


def test_a_score_is_spelled_tied_and_clefed(tmp_path):
    pytest.importorskip("music21")
    write_musicxml(CHORALE, tmp_path / "out.musicxml")
    text = (tmp_path / "out.musicxml").read_text()
    assert text.count("<score-part ") == 4 and text.count('id="P1"') == 2
    assert "<fifths>-1</fifths>" in text and "<beats>3</beats>" in text and "<per-minute>72" in text
    first, *_, last = text.split("<part id=")[1:]
    assert "<sign>G</sign>" in first and "<sign>F</sign>" in last
    notes = first.split("<note>")[1:]
    leading = next(note for note in notes if "<octave>5</octave>" in note and "<step>C</step>" in note)
    assert "<alter>1</alter>" in leading and "<accidental>sharp</accidental>" in leading
    assert last.count('<tie type="start" />') == last.count('<tie type="stop" />') == 1


def test_later_keys_are_signed_and_spelled(tmp_path):
    pytest.importorskip("music21")
    piece = Piece([[(0, 1920, 66), (1920, 1920, 66), (3840, 1920, 66)]], Key(2, "major"))
    keys = [(1920, Key(1, "major"))]
    assert [mark.spelling.name for mark in engrave(piece.voices[0], piece, keys)] == ["F#4", "Gb4", "Gb4"]
    write_musicxml(piece, tmp_path / "out.musicxml", keys=keys)
    first, second, third = (tmp_path / "out.musicxml").read_text().split("<measure ")[1:]
    assert "<fifths>2</fifths>" in first and "<fifths>-5</fifths>" in second and "<fifths>" not in third


def test_chords_are_read_by_their_top_or_split(tmp_path):
    music21 = pytest.importorskip("music21")
    score = music21.stream.Score()
    for pitches in (["C5", "E4"], ["C3", "G3"]):
        part = music21.stream.Part(
            [music21.chord.Chord(pitches, quarterLength=2), music21.note.Note(pitches[0])]
        )
        score.insert(0, part)
    path = tmp_path / "chords.musicxml"
    score.write("musicxml", path)
    assert [[note.pitch for note in voice] for voice in read_musicxml(path).voices] == [[72, 72], [55, 48]]
    split = read_musicxml(path, chords="split")
    assert [[note.pitch for note in voice] for voice in split.voices] == [[72, 72], [64], [55], [48, 48]]
    with pytest.raises(ValueError, match="chords 'both'"):
        read_musicxml(path, chords="both")


def test_a_pickup_lies_at_the_end_of_the_first_bar(tmp_path):
    music21 = pytest.importorskip("music21")
    part = music21.stream.Part()
    pickup = music21.stream.Measure([music21.meter.TimeSignature("3/4"), music21.note.Note("G4")], number=0)
    pickup.paddingLeft = 2.0
    part.append([pickup, music21.stream.Measure([music21.note.Note("C5", quarterLength=3)], number=1)])
    part.write("musicxml", tmp_path / "pickup.musicxml")
    assert read_musicxml(tmp_path / "pickup.musicxml").voices == [[(960, 480, 67), (1440, 1440, 72)]]


def broken_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("a.musicxml", b"not xml", "not MusicXML"),
        ("a.xml", b"<html></html>", "its root is <html>"),
        ("a.mxl", b"PK but no archive", "broken .mxl"),
        ("a.mxl", broken_archive, "not MusicXML"),
        ("a.musicxml", b"<score-partwise></score-partwise>", "a.musicxml"),
        ("a.pdf", b"%PDF", "unknown kind of file '.pdf'; expected one of .mid, .midi, .musicxml"),
        ("a.mid", b"RIFF", "not a MIDI file"),
    ],
)
def test_what_is_no_score_is_refused_with_the_reason(tmp_path, name, content, says):
    if name == "a.musicxml" and content.startswith(b"<score"):
        pytest.importorskip("music21")
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError) as refusal:
        read_score(path)
    assert says in str(refusal.value) and str(path) in str(refusal.value)


def test_without_music21_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "music21", None)
    with pytest.raises(ValueError, match=r"uv pip install 'mlxgen\[score\]'"):
        write_musicxml(CHORALE, tmp_path / "out.musicxml")
    assert list(tmp_path.iterdir()) == []


def test_every_suffix_finds_its_reader(tmp_path):
    assert set(READERS) == {".mid", ".midi", ".musicxml", ".xml", ".mxl"}
    write_midi(CHORALE, tmp_path / "out.MID")
    assert read_score(tmp_path / "out.MID") == CHORALE


def test_openscore_quartets_read_as_four_voices(shared):
    pytest.importorskip("music21")
    files = sorted((shared / "corpus" / "openscore").glob("*/*.mxl"), key=lambda path: path.stat().st_size)
    piece = read_score(files[0])
    assert len(piece.voices) == 4 and piece.note_count > 300
    assert all(
        left.end_ticks <= right.start_ticks for voice in piece.voices for left, right in pairwise(voice)
    )
