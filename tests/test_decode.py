"""ids -> notes: one id at a time, rewindable, and equal to what upstream reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import pieces
from vocabs import NAMES, make_vocab

from mlxgen.music.decode import Decoder, decode
from mlxgen.music.encode import encode
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab


def ids_of(text, which="scale_degree_125", extra=()):
    return [make_vocab(which, extra)[word] for word in text.split()]


def fed(text, **options):
    decoder = Decoder(make_vocab(), **options)
    return decoder, [item for token in ids_of(text) for item in decoder.feed(token)]


@pytest.mark.parametrize("kind, which", [("scale_degree", "scale_degree_125"), ("absolute", "absolute_159")])
def test_decoded_is_what_upstream_reads(shared, kind, which):
    vocab = Vocab.load(shared / "golden" / f"tokenizer_{which}.json")
    for row in json.loads((shared / "golden" / "tokenization.json").read_text()):
        piece = decode(row[kind]["tokens"], vocab)
        expected = row[kind]["decoded"]
        assert [[list(note) for note in voice] for voice in piece.voices] == expected["voices"], row["source"]
        assert piece.key == (expected["key_root"], expected["key_mode"])
        assert piece.meter == tuple(row["time_signature"])


def test_a_note_is_told_by_the_id_that_completes_it():
    decoder = Decoder(make_vocab())
    told = [
        decoder.feed(token) for token in ids_of("KEY_D_major BAR BEAT_1 VOICE_2 OCT_4 SHARP DEG_6 Dur_240")
    ]
    assert told == [[]] * 7 + [[(2, Note(0, 240, 60))]]


def test_the_clock_the_bar_and_the_beat_are_kept():
    decoder, _ = fed("KEY_Cs_minor METER_3_4")
    assert (decoder.bar, decoder.key, decoder.meter) == (0, Key(1, "minor"), (3, 4))
    decoder, _ = fed(
        "METER_ALLA_BREVE BAR BEAT_1 TimeShift_960 BEAT_2 TimeShift_960 BAR BEAT_1 TimeShift_120"
    )
    assert (decoder.bar, decoder.beat, decoder.now_ticks, decoder.bar_start_ticks) == (2, 1, 2040, 1920)
    assert decoder.meter == (2, 2)


def test_key_and_meter_can_be_given_and_then_told_otherwise():
    _, notes = fed("OCT_5 DEG_1 Dur_60 KEY_E_minor OCT_5 DEG_1 Dur_60", key=Key(2, "major"))
    assert [note.pitch for _, note in notes] == [62, 64]
    assert Decoder(make_vocab(), meter=(6, 8)).meter == (6, 8)


@pytest.mark.parametrize(
    "text, pitches",
    [
        ("OCT_5 Dur_60", []),
        ("DEG_1 Dur_60", []),
        ("OCT_5 DEG_1 Dur_60 Dur_60", [60]),
        ("OCT_5 DEG_1 VOICE_2 Dur_60", []),
        ("OCT_5 DEG_1 TimeShift_60 Dur_60", []),
        ("OCT_5 DEG_1 BAR Dur_60", [60]),
        ("OCT_5 FLAT DEG_7 Dur_60", [70]),
        ("OCT_5 DEG_4 SHARP Dur_60", [66]),
        ("OCT_5 SHARP OCT_5 DEG_1 Dur_60", [60]),
        ("OCT_7 DEG_7 Dur_60", [84]),
        ("OCT_2 DEG_1 Dur_60", [36]),
        ("OCT_5 DEG_1 Dur_60 DEG_2 Dur_60", [60]),
    ],
)
def test_broken_orders_are_read_as_upstream_reads_them(text, pitches):
    _, notes = fed(text)
    assert [note.pitch for _, note in notes] == pitches


def test_the_absolute_tokenizer_forgets_a_pitch_when_time_or_voice_changes():
    vocab = make_vocab("absolute_159")
    text = "VOICE_1 Pitch_60 Dur_60 Pitch_61 TimeShift_60 Dur_60 Pitch_62 VOICE_2 Dur_60 Pitch_63 Dur_120"
    assert decode(ids_of(text, "absolute_159"), vocab).voices == [[(0, 60, 60)], [(60, 120, 63)]]


def test_ids_that_say_nothing_about_notes_are_passed_over():
    extra = ("SECTION_RECAP", "VOICE_OVER", "BEAT_GENERATION")
    vocab = make_vocab("scale_degree_125", extra)
    ids = ids_of(
        "BOS CAD_PAC SECTION_RECAP SUBJECT_START VOICE_2 VOICE_OVER OCT_5 BEAT_GENERATION DEG_1 PAD Dur_60 "
        "SUBJECT_END EOS",
        extra=extra,
    )
    assert decode(ids, vocab).voices == [[], [(0, 60, 60)]]


def test_an_empty_voice_keeps_its_place_under_a_sounding_one():
    piece = decode(ids_of("VOICE_4 OCT_4 DEG_1 Dur_480"), make_vocab())
    assert piece.voices == [[], [], [], [(0, 480, 48)]]
    assert decode([], make_vocab()).voices == [[], []]


def test_each_voice_has_its_own_clock_in_voice_by_voice_writing():
    piece = decode(
        ids_of(
            "VOICE_1 BAR BEAT_1 OCT_5 DEG_1 Dur_480 TimeShift_480 BEAT_2 OCT_5 DEG_2 Dur_480 VOICE_SEP "
            "VOICE_2 BAR BEAT_1 OCT_4 DEG_1 Dur_960"
        ),
        make_vocab(),
    )
    assert piece.voices == [[(0, 480, 60), (480, 480, 62)], [(0, 960, 48)]]


@pytest.mark.parametrize("token", [-1, 125])
def test_an_id_outside_the_vocabulary_is_refused(token):
    with pytest.raises(ValueError, match=f"id {token}: expected 0 to 124"):
        Decoder(make_vocab()).feed(token)


@pytest.mark.parametrize("which", NAMES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_going_back_and_feeding_again_is_as_if_nothing_had_happened(which, data):
    vocab = make_vocab(which)
    anything = st.lists(st.integers(0, len(vocab) - 1), max_size=60)
    before, astray, after = data.draw(anything), data.draw(anything), data.draw(anything)
    plain, rewound = Decoder(vocab), Decoder(vocab)
    for token in before:
        plain.feed(token)
        rewound.feed(token)
    place = rewound.snapshot()
    for token in astray:
        rewound.feed(token)
    rewound.restore(place)
    assert [plain.feed(token) for token in after] == [rewound.feed(token) for token in after]
    assert plain.snapshot() == rewound.snapshot()
    assert plain.piece() == rewound.piece() == decode([*before, *after], vocab)


@given(piece=pieces())
@settings(max_examples=40, deadline=None)
def test_the_notes_told_on_the_way_are_the_piece(piece):
    decoder = Decoder(make_vocab())
    voices = [[] for _ in piece.voices]
    for token in encode(piece, make_vocab()):
        for voice, note in decoder.feed(token):
            voices[voice - 1].append(note)
    assert voices == piece.voices == decoder.piece().voices


def test_a_fork_goes_its_own_way():
    decoder, _ = fed("KEY_D_major VOICE_2 OCT_5")
    twin = decoder.fork()
    for token in ids_of("DEG_1 Dur_60 TimeShift_60"):
        twin.feed(token)
    assert (decoder.now_ticks, decoder.piece().note_count) == (0, 0)
    assert (twin.now_ticks, twin.piece().voices[1]) == (60, [(0, 60, 62)])


def test_an_endless_stream_keeps_no_notes():
    decoder, notes = fed("VOICE_1 OCT_5 DEG_1 Dur_60 TimeShift_60 OCT_5 DEG_2 Dur_60", keep_notes=False)
    place = decoder.snapshot()
    assert len(notes) == 2
    decoder.feed(make_vocab()["TimeShift_480"])
    decoder.restore(place)
    assert decoder.now_ticks == 60
    with pytest.raises(ValueError, match="keeps no notes"):
        decoder.piece()


def test_equal_pieces_are_equal():
    assert Piece([[(0, 60, 60)], []]) == decode(ids_of("VOICE_1 OCT_5 DEG_1 Dur_60"), make_vocab())
