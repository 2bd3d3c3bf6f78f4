"""Every rule on two bars that break it and on their nearest legal twin, which differs in a note or two."""

from __future__ import annotations

import pytest

from mlxgen.music.piece import Note, Piece
from mlxgen.scoring.metrics import METRICS
from mlxgen.scoring.music import make_music
from mlxgen.scoring.score import score

BAR = 1920
_PITCH = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def pitch(name: str) -> int:
    """ "F#4" -> 66."""
    return _PITCH[name[0]] + name.count("#") - name.count("b") + 12 * (int(name[-1]) + 1)


def line(text: str) -> list[Note]:
    """ "C4 D4/2 r E4" -> notes of a quarter, or of so many quarters; r rests."""
    notes, clock = [], 0
    for word in text.split():
        name, _, length = word.partition("/")
        ticks = int(480 * float(length or 1))
        if name != "r":
            notes.append(Note(clock, ticks, pitch(name)))
        clock += ticks
    return notes


def piece(*voices: str) -> Piece:
    return Piece([line(voice) for voice in voices])


def found(rule: str, *voices: str):
    return METRICS[rule].function(make_music(piece(*voices)))


# rule, the violation, its nearest legal twin, where it is found: (bar, voices)
RULES = [
    (
        "parallel fifths",
        ("E4 D4 G4 A4 G4/4", "C4 B3 C4 D4 B3/4"),
        ("E4 D4 G4 A4 G4/4", "C4 B3 C4 F4 B3/4"),
        (1, (1, 2)),
    ),
    (
        "parallel octaves",
        ("C5 D5 E5/2 D5/4", "C4 D4 G4/2 B3/4"),
        ("C5 D5 E5/2 D5/4", "C4 B3 G4/2 B3/4"),
        (1, (1, 2)),
    ),
    (
        "parallels by beat",
        ("G4/0.5 F4/0.5 A4/0.5 B4/0.5 C5/3 B4/4", "C4 D4/0.5 E4/0.5 F4/2 E4 D4/4"),
        ("G4/0.5 F4/0.5 A4/0.5 B4/0.5 C5/3 B4/4", "C4 C4/0.5 D4/0.5 E4/2 E4 D4/4"),
        (1, (1, 2)),
    ),
    (
        "direct perfects",
        ("D4 G4 A4/2 B4/4", "A3 C4 C4/2 G3/4"),
        ("F4 G4 A4/2 B4/4", "A3 C4 C4/2 G3/4"),
        (1, (1, 2)),
    ),
    (
        "crossings",
        ("C5 B4 C5/2 B4/4", "G4 C5 G4/2 G4/4"),
        ("C5 B4 C5/2 B4/4", "G4 B4 G4/2 G4/4"),
        (1, (1, 2)),
    ),
    ("overlaps", ("C5 F5 E5/2 D5/4", "G4 D5 C5/2 B4/4"), ("C5 F5 E5/2 D5/4", "G4 C5 C5/2 B4/4"), (1, (1, 2))),
    ("wide leaps", ("C4 B4 A4/2 G4/4", "A3/4 E3/4"), ("C4 A4 A4/2 G4/4", "A3/4 E3/4"), (1, (1,))),
    ("tritone leaps", ("F4 B4 C5/2 C5/4", "D4/4 E4/4"), ("F4 Bb4 C5/2 C5/4", "D4/4 E4/4"), (1, (1,))),
    ("unrecovered leaps", ("C4 A4 D5/2 C5/4", "F3/4 A3/4"), ("C4 A4 G4/2 C5/4", "F3/4 A3/4"), (1, (1,))),
    (
        "joint leaps",
        ("C5 G5 E5/2 E5/4", "G4 D5 C5/2 C5/4", "E4 B4 G4/2 G4/4", "C4/4 C4/4"),
        ("C5 G5 E5/2 E5/4", "G4 D5 C5/2 C5/4", "E4 F4 G4/2 G4/4", "C4/4 C4/4"),
        (1, ()),
    ),
    (
        "spacing",
        ("C5 E5 D5/2 C5/4", "G4 D4 G4/2 G4/4", "C4/4 C4/4"),
        ("C5 D5 D5/2 C5/4", "G4 D4 G4/2 G4/4", "C4/4 C4/4"),
        (1, (1, 2)),
    ),
    ("range", ("C6 F6 E6/2 C6/4", "C4 C4 G3/2 C4/4"), ("C5 F5 E5/2 C5/4", "C4 C4 G3/2 C4/4"), None),
    (
        "bare sonorities",
        ("C5/4 D5 C5 G5/2", "G4/4 G4 G4 D5/2", "C4/4 B3 E4 G4/2"),
        ("C5/4 D5 C5 G5/2", "E4/4 G4 G4 B4/2", "C4/4 B3 E4 G4/2"),
        (1, ()),
    ),
    (
        "holes",
        ("C5 D5 r E5 D5/4", "G4 G4 G4 G4 G4/4", "E4 B3 C4 C4 B3/4"),
        ("C5 D5 r E5 D5/4", "G4 G4 r G4 G4/4", "E4 B3 r C4 B3/4"),
        (1, (1,)),
    ),
    (
        "flat leading notes",
        ("C5 Bb4 C5/2 C5/4", "G4 D4 G4/2 G4/4", "E4 D4 E4/2 E4/4", "C4 G3 C3/2 C3/4"),
        ("C5 B4 C5/2 C5/4", "G4 D4 G4/2 G4/4", "E4 D4 E4/2 E4/4", "C4 G3 C3/2 C3/4"),
        (1, ()),
    ),
    ("dissonance", ("E4 B4 G4/2 E4/4", "C4/4 C4/4"), ("G4 A4 B4 C5 E4/4", "C4/4 C4/4"), (1, (1,))),
]


@pytest.mark.parametrize(("rule", "violation", "twin", "where"), RULES, ids=[row[0] for row in RULES])
def test_rule_tells_a_violation_from_its_twin(rule, violation, twin, where):
    assert found(rule, *violation).total > 0
    assert found(rule, *twin).total == 0
    if where is not None:
        places = {
            (finding.bar, finding.voices)
            for finding in score(piece(*violation)).findings
            if finding.rule == rule
        }
        assert where in places
    assert not [finding for finding in score(piece(*twin)).findings if finding.rule == rule]


def test_two_notes_at_once_in_a_voice_are_illegal_and_touching_ones_are_not():
    legal = piece("C5 D5 E5/2 C5/4", "C4/4 C4/4")
    voice = list(legal.voices[0])
    voice[0] = voice[0]._replace(duration_ticks=voice[0].duration_ticks + 120)
    illegal = Piece([voice, legal.voices[1]])
    assert METRICS["legality"].function(make_music(legal)).total == 0
    assert METRICS["legality"].function(make_music(illegal)).total == 1
    assert [finding.bar for finding in score(illegal).findings if finding.rule == "legality"] == [1]


def test_a_repeated_bar_is_found_and_a_varied_one_is_not():
    assert found("repetition", "C5 D5 E5/2 C5 D5 E5/2", "C4/4 C4/4").total == 1
    assert found("repetition", "C5 D5 E5/2 C5 D5 F5/2", "C4/4 C4/4").total == 0
    assert found("repetition", "C5/4 C5/4", "C4/4 C4/4").total == 0  # held notes repeat nothing


def test_a_cadence_needs_the_leading_note_and_rest():
    opening = "C5 D5 E5 F5 G5 F5 E5 D5 "
    bass = "C4 B3 C4 A3 E3 F3 G3 G3 "
    assert found("cadences", opening + "C5 B4 C5/2", bass + "A3 G3 C3/2").total == 1
    assert found("cadences", opening + "C5 D5 C5/2", bass + "A3 G3 C3/2").total == 0
    assert found("cadences", opening + "C5 B4 C5/2", bass + "A3 G3 A3/2").total == 0


def test_the_final_chord_is_the_tonic_of_the_piece():
    body = ("C5 D5 E5 F5 G5 F5 E5 D5 ", "E4 G4 G4 A4 B4 A4 G4 F4 ", "C4 B3 C4 A3 E3 F3 C4 G3 ")

    def ended(*chord):
        return found("final chord", *(voice + end for voice, end in zip(body, chord, strict=True))).value

    closed = ended("C5/4", "E4/4", "C3/4")
    half, strange, dissonant = (
        ended(*chord)
        for chord in (("B4/4", "D4/4", "G3/4"), ("C#5/4", "E4/4", "A3/4"), ("C5/4", "F#4/4", "C3/4"))
    )
    assert closed < 1 < min(half, dissonant) and half < strange
    assert not [finding for finding in score(piece(*body)).findings if finding.bar > 2]


def test_a_last_chord_in_another_key_is_told_where_it_stands():
    body = (
        "C5 D5 E5 F5 G5 F5 E5 D5 C5 B4 ",
        "E4 G4 G4 A4 B4 A4 G4 F4 G4 G4 ",
        "C4 B3 C4 A3 E3 F3 C4 G3 E3 G3 ",
    )
    closed = tuple(voice + end for voice, end in zip(body, ("C5/2", "E4/2", "C3/2"), strict=True))
    astray = tuple(voice + end for voice, end in zip(body, ("C#5/2", "F4/2", "C#3/2"), strict=True))
    found_there = [finding.bar for finding in score(piece(*astray)).findings if finding.rule == "final chord"]
    assert found_there == [3]
    assert not [finding for finding in score(piece(*closed)).findings if finding.rule == "final chord"]


def test_music_that_stays_in_another_key_is_not_one_and_a_visit_is():
    there = ("C5 D5 E5 F5 G5 F5 E5 D5", "E4 G4 G4 A4 B4 A4 G4 F4", "C4 B3 C4 A3 E3 F3 C4 G3")
    away = ("D5 E5 F#5 G5 A5 G5 F#5 E5", "F#4 A4 A4 B4 C#5 B4 A4 G4", "D4 C#4 D4 B3 F#3 G3 D4 A3")
    split = [f"{home} {home} {out} {out}" for home, out in zip(there, away, strict=True)]
    visit = [f"{home} {home} {out} {home}" for home, out in zip(there, away, strict=True)]
    unity = found("key unity", *split)
    assert unity.value > 1.5 * found("key unity", *visit).value > found("key unity", *there).value == 0
    assert unity.ticks.tolist() == [4 * BAR]


def test_a_voice_that_stops_early_does_not_close_with_the_others():
    assert found("close together", "C5/4 C5/4", "E4/4 E4/4").total == 0
    assert found("close together", "C5/4 C5/4", "E4/4 E4/2").total == 1


def test_motion_variety_counts_similar_motion_of_both_voices():
    assert found("motion variety", "C5 D5 E5 F5", "E4 F4 G4 A4").value == 1
    assert found("motion variety", "C5 D5 E5 F5", "A4 G4 F4 E4").value == 0
    assert found("motion variety", "C5 D5 E5 F5", "A4/4").exposure == 0


def test_independence_is_one_for_chords_only():
    assert found("independence", "C5 D5 E5 F5", "E4 F4 G4 A4").value == 1
    assert found("independence", "C5 D5 E5 F5", "E4/2 G4/2").value == pytest.approx(0.75)


def test_voices_that_stay_crossed_count_more_than_those_that_cross_once():
    lower = "A4 A4 A4 A4 A4/4"
    once = found("crossings", "C5 G4 C5 C5 C5/4", lower)
    staying = found("crossings", "C5 G4 G4 G4 G4/4", lower)
    assert (once.total, staying.total) == (1, 4)
    assert once.ticks.tolist() == staying.ticks.tolist() == [480]  # found where it begins


def test_lines_that_return_and_lines_that_drift_are_told_apart():
    arch = " ".join(["C5 D5 E5 F5 E5 D5"] * 5)
    drift = " ".join(f"{name}{octave}" for octave in (2, 3, 4, 5) for name in "CDEFGAB")
    assert found("wandering", arch, arch).value < 0.1 < 0.3 < found("wandering", drift, drift).value
    assert found("wandering", "C5 D5 E5", "C4 D4 E4").exposure == 0


def test_a_duration_that_no_piece_has_at_its_place_is_rare():
    plain = "C5 D5 E5 F5 G5 F5 E5/2"
    limping = "C5/0.375 D5/1.625 E5 F5 G5 F5 E5/2"
    assert found("rare rhythms", limping, "C4/8").total > found("rare rhythms", plain, "C4/8").total == 0
