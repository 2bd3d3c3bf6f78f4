"""Keys, degrees, spelling, meters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxgen.music.theory import (
    SCALES,
    STEP_PITCH_CLASS,
    Key,
    bar_ticks,
    beat_count,
    beat_ticks,
    degree_to_pitch,
    detect_key,
    pitch_to_degree,
    spell,
    spell_line,
)

KEYS = [Key(root, mode) for mode in SCALES for root in range(12)]


@pytest.mark.parametrize(
    "text, root, mode, name",
    [
        ("C major", 0, "major", "C major"),
        ("C# minor", 1, "minor", "C# minor"),
        ("Eb_major", 3, "major", "Eb major"),
        ("Cs_minor", 1, "minor", "C# minor"),
        ("F#m", 6, "minor", "F# minor"),
        ("d", 2, "minor", "D minor"),
        ("D", 2, "major", "D major"),
        ("Bb", 10, "major", "Bb major"),
        ("bb", 10, "minor", "Bb minor"),
        ("b minor", 11, "minor", "B minor"),
        ("B flat major", 10, "major", "Bb major"),
        ("C sharp minor", 1, "minor", "C# minor"),
        ("AM", 9, "major", "A major"),
        ("g moll", 7, "minor", "G minor"),
        ("Gb major", 6, "major", "F# major"),
        ("Cb major", 11, "major", "B major"),
        (" e♭ Minor ", 3, "minor", "Eb minor"),
    ],
)
def test_keys_are_read_as_musicians_write_them(text, root, mode, name):
    assert Key.parse(text) == (root, mode)
    assert Key.parse(text).name == name


@pytest.mark.parametrize("text", ["", "H major", "C dorian", "C# # minor", "minor", "C major minor"])
def test_what_is_not_a_key_is_refused_by_name(text):
    with pytest.raises(ValueError, match="expected a note name and a mode") as refusal:
        Key.parse(text)
    assert repr(text) in str(refusal.value)


def test_every_key_survives_its_names():
    for key in KEYS:
        assert Key.parse(key.name) == Key.parse(key.token_name) == key


def test_key_signatures():
    fifths = {
        Key.parse(text): count
        for text, count in [
            ("C major", 0),
            ("A minor", 0),
            ("F# major", 6),
            ("Db major", -5),
            ("B minor", 2),
            ("Eb minor", -6),
            ("G# minor", 5),
            ("F minor", -4),
            ("C# minor", 4),
        ]
    }
    assert {key: key.fifths for key in fifths} == fifths
    assert all(-6 <= key.fifths <= 6 for key in KEYS)


@pytest.mark.parametrize(
    "pitch, key, degree",
    [
        (60, "C major", (5, 1, 0)),
        (59, "C major", (4, 7, 0)),
        (61, "C major", (5, 1, 1)),
        (62, "D major", (5, 1, 0)),
        (60, "D major", (4, 6, 1)),
        (73, "D major", (5, 7, 0)),
        (71, "C minor", (5, 7, 1)),
        (70, "C minor", (5, 7, 0)),
        (69, "C minor", (5, 6, 1)),
        (36, "B major", (2, 1, 1)),
    ],
)
def test_degrees_count_from_the_tonic(pitch, key, degree):
    assert pitch_to_degree(pitch, Key.parse(key)) == degree


def test_every_pitch_in_every_key_comes_back():
    for key in KEYS:
        for pitch in range(128):
            octave, degree, alteration = pitch_to_degree(pitch, key)
            assert alteration in (0, 1)
            assert degree_to_pitch(octave, degree, alteration, key) == pitch


@pytest.mark.parametrize(
    "pitch, key, name",
    [
        (61, "D minor", "C#4"),
        (60, "D minor", "C4"),
        (71, "D minor", "B4"),
        (70, "D minor", "Bb4"),
        (66, "C major", "F#4"),
        (70, "C major", "Bb4"),
        (68, "C major", "G#4"),
        (61, "C major", "C#4"),
        (61, "C minor", "Db4"),
        (66, "F minor", "Gb4"),
        (67, "G# minor", "F##4"),
        (60, "F# major", "B#3"),
        (65, "F# major", "E#4"),
        (59, "Db major", "Cb4"),
        (71, "Eb minor", "Cb5"),
        (60, "C# minor", "B#3"),
    ],
)
def test_chromatic_notes_are_spelled_as_musicians_do(pitch, key, name):
    assert spell(pitch, Key.parse(key)).name == name


def test_a_chromatic_note_leans_the_way_it_moves():
    c_major, c_minor = Key.parse("C major"), Key.parse("C minor")
    assert spell(63, c_major, 64).name == "D#4"
    assert spell(63, c_major, 62).name == "Eb4"
    assert spell(68, c_major, 67).name == "Ab4"
    assert spell(68, c_major, 69).name == "G#4"
    assert spell(66, c_minor, 65).name == "Gb4"
    assert spell(61, c_minor, 62).name == "C#4"


def test_a_line_looks_past_repeated_notes():
    names = [spelling.name for spelling in spell_line([60, 63, 63, 64, 68, 68, 67], Key(0, "major"))]
    assert names == ["C4", "D#4", "D#4", "E4", "Ab4", "Ab4", "G4"]


@given(st.integers(0, 127), st.sampled_from(KEYS), st.none() | st.integers(0, 127))
def test_a_spelling_sounds_as_its_pitch(pitch, key, following):
    spelling = spell(pitch, key, following)
    assert 12 * (spelling.octave + 1) + STEP_PITCH_CLASS[spelling.step] + spelling.alter == pitch
    assert abs(spelling.alter) <= 2


@pytest.mark.parametrize("key", KEYS)
def test_scale_notes_take_seven_letters_and_the_signature(key):
    spellings = [spell(60 + pitch_class, key) for pitch_class in key.scale]
    assert len({spelling.step for spelling in spellings}) == 7
    assert sum(spelling.alter for spelling in spellings) == key.fifths


@pytest.mark.parametrize("key", KEYS)
def test_a_plain_cadence_is_heard_in_its_key(key):
    tonic, dominant, subdominant = (
        (0, 4, 7) if key.mode == "major" else (0, 3, 7),
        (7, 11, 2),
        (5, 9, 0) if key.mode == "major" else (5, 8, 0),
    )
    weights = [0.0] * 12
    for chord, weight in ((tonic, 3), (dominant, 2), (subdominant, 1)):
        for interval in chord:
            weights[(key.root + interval) % 12] += weight
    assert detect_key(weights) == key
    assert detect_key(weights, fifths=key.fifths) == key


def test_a_signature_leaves_two_keys_to_choose_from():
    a_minor_scale_heavy_on_a = [1, 0, 1, 0, 2, 0, 0, 0, 1, 4, 0, 1]
    assert detect_key(a_minor_scale_heavy_on_a, fifths=0) == Key(9, "minor")
    assert detect_key(a_minor_scale_heavy_on_a, fifths=1) in (Key(7, "major"), Key(4, "minor"))
    with pytest.raises(ValueError, match="expected 12"):
        detect_key([1.0] * 11)


@pytest.mark.parametrize(
    "meter, bar, beats, beat",
    [
        ((4, 4), 1920, 4, 480),
        ((3, 4), 1440, 3, 480),
        ((6, 8), 1440, 2, 720),
        ((3, 8), 720, 3, 240),
        ((2, 2), 1920, 2, 960),
        ((12, 8), 2880, 4, 720),
        ((9, 16), 1080, 9, 120),
    ],
)
def test_bars_and_beats(meter, bar, beats, beat):
    assert (bar_ticks(meter), beat_count(meter), beat_ticks(meter)) == (bar, beats, beat)
