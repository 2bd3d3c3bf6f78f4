"""Piece -> ids: upstream's own ids, round trips, markers, and histories written again in another key."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import jsb_chorales, keys, pieces
from vocabs import BINS, NAMES, make_vocab

from mlxgen.music.decode import decode
from mlxgen.music.encode import (
    Markers,
    encode,
    encode_events,
    nearest_duration,
    pitch_ids,
    reencode,
    time_shift_ids,
)
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import SCALES, Key
from mlxgen.music.vocab import Vocab

SEQUENTIAL = Conditioning(encoding="sequential")
BOTH_KINDS = ["scale_degree_125", "absolute_159"]


def words(ids, which="scale_degree_125", extra=()):
    return " ".join(make_vocab(which, extra).name(token) for token in ids)


@pytest.mark.parametrize("kind, which", [("scale_degree", "scale_degree_125"), ("absolute", "absolute_159")])
def test_ids_are_upstreams_ids(shared, kind, which):
    vocab = Vocab.load(shared / "golden" / f"tokenizer_{which}.json")
    for row in json.loads((shared / "golden" / "tokenization.json").read_text()):
        piece = Piece(row["voices"], Key(row["key_root"], row["key_mode"]), tuple(row["time_signature"]))
        assert encode(piece, vocab, Conditioning(**row["args"])) == row[kind]["tokens"], row["source"]


def test_the_oldest_vocabulary_writes_the_same_music_with_other_ids(shared):
    old = Vocab.load(shared / "golden" / "tokenizer_scale_degree_102.json")
    new = Vocab.load(shared / "golden" / "tokenizer_scale_degree_125.json")
    for row in json.loads((shared / "golden" / "tokenization.json").read_text()):
        piece = Piece(row["voices"], Key(row["key_root"], row["key_mode"]), tuple(row["time_signature"]))
        said = Conditioning(**row["args"])
        expected = [new.name(token) for token in encode(piece, new, said) if new.name(token) in old]
        assert [old.name(token) for token in encode(piece, old, said)] == expected


@pytest.mark.parametrize("which", NAMES)
@given(piece=pieces())
@settings(max_examples=60, deadline=None)
def test_any_piece_comes_back(which, piece):
    assert decode(encode(piece, make_vocab(which)), make_vocab(which)) == with_token_meter(piece, which)


@pytest.mark.parametrize("which", BOTH_KINDS)
@given(piece=pieces())
@settings(max_examples=60, deadline=None)
def test_any_piece_comes_back_from_voice_by_voice_writing(which, piece):
    ids = encode(piece, make_vocab(which), SEQUENTIAL)
    assert words(ids, which).count("VOICE_SEP") == len(piece.voices) - 1
    assert decode(ids, make_vocab(which)) == with_token_meter(piece, which)


def with_token_meter(piece, which):
    """A meter that the vocabulary has no token for cannot come back: the decoder's 4/4 stands."""
    known = piece.meter == (2, 2) or f"METER_{piece.meter[0]}_{piece.meter[1]}" in make_vocab(which)
    return piece if known else replace(piece, meter=(4, 4))


@pytest.mark.parametrize("which", NAMES)
def test_every_pitch_in_every_key_is_written_and_read(which):
    vocab = make_vocab(which)
    for mode in SCALES:
        for root in range(12):
            voice = [Note(480 * step, 480, pitch) for step, pitch in enumerate(range(36, 85))]
            piece = Piece([voice, []], Key(root, mode))
            assert decode(encode(piece, vocab), vocab) == piece


@pytest.mark.parametrize("which", NAMES)
def test_pitches_outside_the_range_move_to_its_ends(which):
    vocab = make_vocab(which)
    for root in range(12):
        key = Key(root, "minor")
        assert pitch_ids(20, key, vocab) == pitch_ids(36, key, vocab)
        assert pitch_ids(100, key, vocab) == pitch_ids(84, key, vocab)


def test_chromatic_notes_are_raised_degrees_in_minor_too():
    vocab = make_vocab()
    assert words(pitch_ids(71, Key(0, "minor"), vocab)) == "OCT_5 SHARP DEG_7"
    assert words(pitch_ids(61, Key(0, "minor"), vocab)) == "OCT_5 SHARP DEG_1"
    assert words(pitch_ids(69, Key(9, "minor"), vocab)) == "OCT_5 DEG_1"


def test_a_short_piece_by_hand():
    piece = Piece([[(0, 960, 69)], [(720, 500, 45)]], Key(9, "minor"), (2, 4))
    assert words(encode(piece, make_vocab(), Conditioning(form="invention"))) == (
        "BOS FORM_INVENTION MODE_2PART METER_2_4 ENCODE_INTERLEAVED KEY_A_minor "
        "BAR BEAT_1 VOICE_1 OCT_5 DEG_1 Dur_960 TimeShift_480 BEAT_2 "
        "TimeShift_240 VOICE_2 OCT_3 DEG_1 Dur_480 EOS"
    )


def test_events_can_begin_later_on_the_same_bar_lines():
    piece = Piece([[(0, 480, 60), (1440, 480, 62), (1920, 480, 64)], []])
    assert words(encode_events(piece, make_vocab(), start_ticks=1440)) == (
        "BEAT_4 VOICE_1 OCT_5 DEG_2 Dur_480 TimeShift_480 BAR BEAT_1 VOICE_1 OCT_5 DEG_3 Dur_480"
    )
    assert words(encode_events(piece, make_vocab(), start_ticks=1500)) == (
        "TimeShift_360 TimeShift_60 BAR BEAT_1 VOICE_1 OCT_5 DEG_3 Dur_480"
    )


def test_compound_bars_have_two_beats():
    piece = Piece([[(0, 720, 60), (720, 720, 60), (1440, 720, 60)], []], meter=(6, 8))
    assert words(encode_events(piece, make_vocab())).split(" VOICE_1 OCT_5 DEG_1 Dur_720") == [
        "BAR BEAT_1",
        " TimeShift_720 BEAT_2",
        " TimeShift_720 BAR BEAT_1",
        "",
    ]


def test_cadences_sections_and_subjects_stand_in_their_places():
    extra = ("SECTION_A", "SECTION_B")
    piece = Piece([[(0, 960, 60), (960, 960, 62)], [(0, 1920, 48), (1920, 480, 48)]])
    markers = Markers(
        cadences={1920: "HC", 0: "PAC"}, sections={0: "A", 1920: "B"}, subjects=frozenset({(1, 0, 1)})
    )
    vocab = make_vocab("scale_degree_125", extra)
    assert words(encode(piece, vocab, markers=markers), extra=extra) == (
        "BOS METER_4_4 ENCODE_INTERLEAVED KEY_C_major SECTION_A BAR BEAT_1 "
        "SUBJECT_START VOICE_1 OCT_5 DEG_1 Dur_960 "
        "VOICE_2 OCT_4 DEG_1 Dur_1920 TimeShift_480 BEAT_2 TimeShift_480 BEAT_3 VOICE_1 OCT_5 DEG_2 Dur_960 "
        "SUBJECT_END TimeShift_480 BEAT_4 TimeShift_480 CAD_HC SECTION_B "
        "BAR BEAT_1 VOICE_2 OCT_4 DEG_1 Dur_480 EOS"
    )
    assert decode(encode(piece, vocab, markers=markers), vocab) == piece
    assert encode(
        piece, make_vocab("scale_degree_102"), markers=replace(markers, subjects=frozenset())
    ) == encode(piece, make_vocab("scale_degree_102"))


def test_voice_by_voice_only_the_first_voice_tells_cadences():
    piece = Piece([[(0, 1920, 60), (1920, 480, 62)], [(0, 1920, 48), (1920, 480, 48)]])
    ids = encode(piece, make_vocab(), SEQUENTIAL, markers=Markers(cadences={1920: "PAC"}))
    first, second = words(ids).split("VOICE_SEP")
    assert "CAD_PAC BAR" in first and "CAD_PAC" not in second


@pytest.mark.parametrize(
    "ticks, nearest", [(60, 60), (90, 60), (91, 120), (600, 480), (10_000, 2880), (1, 60)]
)
def test_durations_fall_to_the_nearest_bin(ticks, nearest):
    assert nearest_duration(ticks, make_vocab()) == nearest


@given(st.integers(1, 400))
def test_time_shifts_on_the_grid_sum_up(steps):
    vocab = make_vocab()
    ids = time_shift_ids(60 * steps, vocab)
    assert sum(int(vocab.name(token).removeprefix("TimeShift_")) for token in ids) == 60 * steps


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda vocab: encode(Piece([[]] * 5), vocab), "5 voices"),
        (
            lambda vocab: encode(Piece([[], []]), vocab, Conditioning(meter=(3, 4))),
            "meter (3, 4), the piece is in (4, 4)",
        ),
        (lambda vocab: encode(Piece([[], []]), vocab, Conditioning(style="jazz")), "style 'jazz'"),
        (lambda vocab: encode_events(Piece([[], []]), vocab, encoding="stacked"), "'stacked'"),
    ],
)
def test_what_cannot_be_written_is_refused(call, says):
    with pytest.raises(ValueError) as refusal:
        call(make_vocab())
    assert says in str(refusal.value)


def test_the_oldest_vocabulary_refuses_voice_by_voice_writing():
    with pytest.raises(ValueError, match="no VOICE_SEP"):
        encode(Piece([[], []]), make_vocab("scale_degree_102"), SEQUENTIAL)


@pytest.mark.parametrize("which", BOTH_KINDS)
@given(piece=pieces(), new_key=keys)
@settings(max_examples=60, deadline=None)
def test_a_history_in_another_key_sounds_the_same(which, piece, new_key):
    vocab = make_vocab(which)
    ids = encode(piece, vocab)
    again = reencode(ids, vocab, new_key)
    assert decode(again, vocab) == replace(decode(ids, vocab), key=new_key)
    assert reencode(again, vocab, piece.key) == ids


def test_a_history_with_two_keys_becomes_one():
    vocab = make_vocab()
    first = Piece([[(0, 480, 66)], []], Key(2, "major"))
    second = encode_events(Piece([[(0, 480, 66)], []], Key(4, "minor")), vocab)
    history = [*encode(first, vocab)[:-1], vocab["KEY_E_minor"], *second]
    again = reencode(history, vocab, Key(9, "major"))
    assert [name for name in words(again).split() if name.startswith("KEY")] == ["KEY_A_major"]
    assert [note.pitch for note in decode(again, vocab).voices[0]] == [66, 66]


def test_a_history_without_its_key_must_say_it():
    vocab = make_vocab()
    events = encode_events(Piece([[(0, 480, 66)], []], Key(2, "major")), vocab)
    with pytest.raises(ValueError, match="say the old key"):
        reencode(events, vocab, Key(9, "major"))
    again = reencode([*events, vocab["OCT_4"]], vocab, Key(7, "major"), old_key=Key(2, "major"))
    assert words(again) == "BAR BEAT_1 VOICE_1 OCT_4 DEG_7 Dur_480"


@pytest.mark.parametrize("which", NAMES)
def test_every_jsb_training_chorale_comes_back(shared, which):
    vocab = make_vocab(which)
    moved = Counter()
    for number, piece in enumerate(jsb_chorales(shared, "train")):
        piece = replace(piece, key=Key(number % 12, ("major", "minor")[number % 2]))
        again = decode(encode(piece, vocab), vocab)
        for voice, voice_again in zip(piece.voices, again.voices, strict=True):
            assert [(note.start_ticks, note.pitch) for note in voice] == [
                (note.start_ticks, note.pitch) for note in voice_again
            ]
            for note, note_again in zip(voice, voice_again, strict=True):
                moved["notes"] += 1
                if note.duration_ticks in BINS:
                    assert note_again.duration_ticks == note.duration_ticks
                else:
                    moved["not in a bin"] += 1
                    gap = abs(note_again.duration_ticks - note.duration_ticks)
                    assert gap == min(abs(bin_ticks - note.duration_ticks) for bin_ticks in BINS)
    print(f"{which}: {moved['not in a bin']} of {moved['notes']} durations are not in a bin")
    assert moved["notes"] > 40_000 and moved["not in a bin"] < moved["notes"] / 20
