"""Note and Piece."""

from __future__ import annotations

import pytest

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key

PIECE = Piece([[(480, 480, 72), (0, 480, 71)], [(0, 960, 55), (2400, 60, 57)]], Key(7, "major"), (3, 4))


def test_voices_become_notes_in_time_order():
    assert PIECE.voices[0] == [Note(0, 480, 71), Note(480, 480, 72)]
    assert PIECE.voices[0][0].end_ticks == 480


def test_length_counts_the_last_bar_whole():
    assert (PIECE.length_ticks, PIECE.length_bars, PIECE.note_count) == (2460, 2, 4)
    assert Piece([[(0, 1440, 60)], []], meter=(3, 4)).length_bars == 1
    assert Piece([[], []]).length_bars == 0


def test_events_run_by_time_then_from_the_top_voice():
    assert [(start, voice) for start, voice, _ in PIECE.events()] == [(0, 1), (0, 2), (480, 1), (2400, 2)]


def test_a_cut_begins_at_zero_and_keeps_the_voices():
    cut = PIECE.between(480, 2400)
    assert cut.voices == [[Note(0, 480, 72)], []]
    assert (cut.key, cut.meter) == (PIECE.key, PIECE.meter)


def test_transposing_moves_the_key_along():
    higher = PIECE.transposed(7)
    assert higher.key == Key(2, "major")
    assert [note.pitch for note in higher.voices[0]] == [78, 79]


def test_keys_change_from_the_bar_in_which_they_lie():
    c_major, a_minor, f_major = Key(0, "major"), Key(9, "minor"), Key(5, "major")
    piece = Piece([[(0, 4 * 1920, 60)]])
    assert piece.keys_by_bar() == [c_major] * 4
    assert piece.keys_by_bar([(5760, f_major), (1921, a_minor)]) == [c_major, a_minor, a_minor, f_major]
    assert Piece([[]]).keys_by_bar([(0, a_minor), (9999, f_major)]) == [a_minor]


def test_names_fill_up_with_the_usual_ones():
    assert Piece([[], [], [], []]).names == ("Soprano", "Alto", "Tenor", "Bass")
    assert Piece([[], [], [], []], voice_names=("Violin I",)).names == ("Violin I", "Alto", "Tenor", "Bass")
    assert Piece([[]] * 5).names[4] == "Voice 5"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(voices=[[(-1, 480, 60)]]), "start_ticks"),
        (dict(voices=[[(0, 0, 60)]]), "duration_ticks"),
        (dict(voices=[[], [(0, 480, 128)]]), "voice 2"),
        (dict(voices=[[]], key=(12, "major")), "root from 0 to 11"),
        (dict(voices=[[]], key=(0, "dorian")), "dorian"),
        (dict(voices=[[]], meter=(0, 4)), "meter"),
    ],
)
def test_impossible_music_is_refused(arguments, says):
    with pytest.raises(ValueError) as refusal:
        Piece(**arguments)
    assert says in str(refusal.value)
