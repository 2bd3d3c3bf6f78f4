"""The recipe's corpus: what it reads, what it keeps apart, what a crop and a window charge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_music import VOCAB, build_made_corpus, make_chorale, make_entry

from mlxgen.music.encode import encode, encode_events
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning, make_prefix
from mlxgen.music.theory import Key
from weights.recipe.content import ContentIndex, shingles
from weights.recipe.controls import answered_entries
from weights.recipe.corpus import choose_held_out, select
from weights.recipe.data import IGNORED, CropSampler, Transposer, load_pieces
from weights.recipe.labels import imitation, measure_labels
from weights.recipe.readers import read_kern, read_musicxml
from weights.recipe.sections import estimate_key, rescaled, split_score
from weights.recipe.sources import folded, voices_of_frames
from weights.recipe.windows import make_windows

# ---------------------------------------------------------------- readers and sections


def note_xml(step: str, duration: int, *, octave: int = 4, extra: str = "") -> str:
    return (
        f"<note>{extra}<pitch><step>{step}</step><octave>{octave}</octave></pitch>"
        f"<duration>{duration}</duration><voice>1</voice></note>"
    )


def score_xml(parts: list[list[str]]) -> str:
    attributes = (
        "<attributes><divisions>2</divisions><key><fifths>0</fifths></key>"
        "<time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    )
    heads = "".join(
        f'<score-part id="P{index}"><part-name>V</part-name></score-part>' for index in range(len(parts))
    )
    bodies = ""
    for index, measures in enumerate(parts):
        content = "".join(
            f"<measure>{attributes if number == 0 else ''}{measure}</measure>"
            for number, measure in enumerate(measures)
        )
        bodies += f'<part id="P{index}">{content}</part>'
    return f"<score-partwise><part-list>{heads}</part-list>{bodies}</score-partwise>"


def test_an_upbeat_ends_its_bar_and_ties_are_one_note(tmp_path):
    tie_start, tie_stop = '<tie type="start"/>', '<tie type="stop"/>'
    whole = note_xml("E", 8)
    upper = [
        note_xml("G", 2),
        note_xml("C", 4, octave=5) + note_xml("D", 4, octave=5, extra=tie_start),
        note_xml("D", 4, octave=5, extra=tie_stop) + note_xml("C", 4, octave=5),
        *[whole] * 8,
    ]
    lower = [note_xml("G", 2, octave=3), *[note_xml("C", 8, octave=3)] * 10]
    path = tmp_path / "piece.xml"
    path.write_text(score_xml([upper, lower]))
    (piece,) = split_score(read_musicxml(path), "piece")
    assert piece.voices[0][:4] == [
        Note(1440, 480, 67),
        Note(1920, 960, 72),
        Note(2880, 1920, 74),
        Note(4800, 960, 72),
    ]
    assert piece.voices[1][1] == Note(1920, 1920, 48)


def test_a_chord_gives_its_outer_note_and_grace_notes_are_left_out(tmp_path):
    chord = note_xml("C", 8) + note_xml("E", 8, extra="<chord/>")
    grace = note_xml("B", 0, extra="<grace/>")
    path = tmp_path / "piece.xml"
    path.write_text(score_xml([[grace + chord] * 8, [chord] * 8]))
    (piece,) = split_score(read_musicxml(path), "piece")
    assert {note.pitch for note in piece.voices[0]} == {64}
    assert {note.pitch for note in piece.voices[1]} == {60}


def test_triplets_are_cut_out_and_both_sides_stay(tmp_path):
    triplets = "".join(note_xml("C", 1).replace("<duration>1<", "<duration>2<") for _ in range(3)) + note_xml(
        "C", 2
    )
    divisions = "<attributes><divisions>3</divisions></attributes>"
    plain, back = note_xml("C", 8), "<attributes><divisions>2</divisions></attributes>"
    upper = [plain] * 9 + [divisions + triplets, back + plain] + [plain] * 8
    lower = [plain.replace("<octave>4", "<octave>3")] * 19
    path = tmp_path / "piece.xml"
    path.write_text(score_xml([upper, lower]))
    assert [piece.length_bars for piece in split_score(read_musicxml(path), "piece")] == [9, 9]


KERN = """**kern\t**kern
*k[b-]\t*k[b-]
*d:dor\t*d:dor
*M4/2\t*M4/2
{bars}
*-\t*-
"""


def test_kern_has_the_highest_spine_first_and_long_notes_are_halved(tmp_path):
    bars = "\n".join(
        f"={number}\t={number}\n1D\t2.f\n.\t4g\n[1A\t1a\n={number}b\t={number}b\n1A]\t1cc#\n1D\t1dd"
        for number in range(1, 7)
    )
    path = tmp_path / "piece.krn"
    path.write_text(KERN.format(bars=bars))
    (piece,) = split_score(read_kern(path), "piece")
    assert piece.meter == (4, 4)
    assert piece.key == Key(2, "minor")
    assert piece.voices[0][:5] == [
        Note(0, 720, 65),
        Note(720, 240, 67),
        Note(960, 960, 69),
        Note(1920, 960, 73),
        Note(2880, 960, 74),
    ]
    assert piece.voices[1][:2] == [Note(0, 960, 50), Note(960, 1920, 57)]


def test_a_spine_split_is_refused_by_name(tmp_path):
    path = tmp_path / "split.krn"
    path.write_text(KERN.format(bars="*^\t*\n1D\t1E\t1f"))
    with pytest.raises(ValueError, match=r"split\.krn"):
        read_kern(path)


def test_meters_outside_the_vocabulary_are_written_in_one_that_is():
    piece = Piece([[Note(0, 90, 60)], [Note(0, 30, 48)]], meter=(9, 16))
    assert rescaled(piece).meter == (3, 8)
    assert rescaled(piece).voices[0] == [Note(0, 180, 60)]
    assert rescaled(Piece([[Note(0, 480, 60)], []], meter=(5, 4))) is None


@pytest.mark.parametrize("root", range(12))
def test_the_key_of_a_cadencing_piece_is_found_without_a_signature(root):
    assert estimate_key(make_chorale(1, key=Key(root, "major")).voices) == Key(root, "major")


def test_frames_become_notes_and_equal_neighbours_one_note():
    voices = voices_of_frames([[72, 60], [72, 60], [74, 60], [74, -1]])
    assert voices == [[Note(0, 240, 72), Note(240, 240, 74)], [Note(0, 360, 60)]]


def test_notes_outside_the_range_are_folded_and_pieces_mostly_outside_left_out():
    inside = [Note(index * 480, 480, 60) for index in range(20)]
    high = make_entry("a", Piece([[*inside, Note(9600, 480, 86)], inside]))
    assert folded(high, 36, 84).piece.voices[0][-1].pitch == 74
    outside = make_entry("b", Piece([[note._replace(pitch=86) for note in inside], inside]))
    assert folded(outside, 36, 84) is None


# ---------------------------------------------------------------- content, split, labels


def test_the_same_music_is_found_in_another_key_at_another_bar_and_with_notes_repeated():
    piece = make_chorale(3)
    moved = piece.transposed(5)
    late = Piece(
        [[note._replace(start_ticks=note.start_ticks + 960) for note in voice] for voice in moved.voices],
        moved.key,
    )
    split = Piece(
        [
            [
                half
                for note in voice
                for half in (
                    note._replace(duration_ticks=note.duration_ticks // 2),
                    Note(note.start_ticks + note.duration_ticks // 2, note.duration_ticks // 2, note.pitch),
                )
            ]
            for voice in late.voices
        ],
        late.key,
    )
    index = ContentIndex()
    index.add("there", shingles(piece))
    assert index.find(shingles(split)) == ("there", 1.0)
    assert index.find(shingles(make_chorale(4))) is None


def test_held_out_chorales_are_recognised_by_content_and_doubles_dropped():
    test, valid, train = make_chorale(10), make_chorale(11), make_chorale(12)
    jsb = [
        ("test", make_entry("jsb/test/0", test)),
        ("valid", make_entry("jsb/valid/0", valid)),
        ("train", make_entry("jsb/train/0", train)),
    ]
    entries = [
        make_entry("one", test.transposed(3)),
        make_entry("two", train),
        make_entry("three", train.transposed(-2)),
        make_entry("four", make_chorale(13)),
    ]
    chosen = {entry.name: split for entry, split, _ in select(entries, jsb)}
    assert chosen == {"one": "jsb_test", "two": "train", "four": "train", "jsb/valid/0": "jsb_valid"}


def test_all_sections_of_a_file_share_a_split():
    entries = [
        make_entry(f"file{number // 3}#{number % 3}", make_chorale(number), "quartet") for number in range(60)
    ]
    held = choose_held_out(entries)
    splits = {entry.name: split for entry, split, _ in select(entries, [])}
    assert len(held) == 3
    assert {name.split("#")[0] for name, split in splits.items() if split == "valid"} == held
    assert not any(split == "train" for name, split in splits.items() if name.split("#")[0] in held)


def canon(offset_ticks: int) -> Piece:
    rng = np.random.default_rng(5)
    line = [Note(index * 240, 240, int(60 + step)) for index, step in enumerate(rng.integers(0, 12, 64))]
    return Piece([line, [Note(note.start_ticks + offset_ticks, 240, note.pitch - 12) for note in line]])


def test_labels_move_with_what_they_name():
    chorale, _ = measure_labels(make_chorale(1))
    assert (chorale["texture"], chorale["imitation"], chorale["chromaticism"]) == (
        "homophonic",
        "none",
        "low",
    )
    assert measure_labels(canon(960))[0]["imitation"] == "high"
    assert measure_labels(canon(0))[1]["imitation"] < measure_labels(canon(960))[1]["imitation"]
    pulse = Piece([[Note(i * 480, 480, pitch) for i in range(16)] for pitch in (64, 60)])
    assert imitation(pulse) > 1 and imitation(pulse, least_moves=3) == 0
    assert imitation(canon(960), least_moves=3) == imitation(canon(960))
    assert answered_entries(canon(960)) == 1
    leader, other = canon(960).voices[0], make_chorale(1).voices[0]
    assert answered_entries(Piece([leader, other])) < 0.5 and answered_entries(Piece([leader, []])) == 0
    seconds = Piece([[Note(i * 480, 480, 61) for i in range(8)], [Note(i * 480, 480, 60) for i in range(8)]])
    thirds = Piece([[Note(i * 480, 480, 64) for i in range(8)], [Note(i * 480, 480, 60) for i in range(8)]])
    assert measure_labels(seconds)[0]["harmonic_tension"] == "high"
    assert measure_labels(seconds)[0]["chromaticism"] == "high"
    assert measure_labels(thirds)[1]["harmonic_tension"] == 0.0
    changing = [Note(i * 480, 480, 60 + i % 5) for i in range(16)]
    assert measure_labels(Piece([changing, changing]))[0]["harmonic_rhythm"] == "fast"
    assert measure_labels(Piece([[Note(0, 7680, 64)], [Note(0, 7680, 60)]]))[0]["harmonic_rhythm"] == "slow"


# ---------------------------------------------------------------- crops and windows


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    return build_made_corpus(tmp_path_factory.mktemp("work"))


@given(root=st.integers(0, 11), mode=st.sampled_from(("major", "minor")), semitones=st.integers(-11, 11))
def test_moving_ids_to_a_key_is_encoding_the_moved_piece(root, mode, semitones):
    key = Key(root, mode)
    piece = Piece([[Note(i * 480, 480, 60 + i) for i in range(12)], [Note(0, 480, 55)]], key)
    said = Conditioning(form="invention", style="bach")
    prefix, events = make_prefix(said, key, VOCAB), encode_events(piece, VOCAB)
    moved = piece.transposed(semitones)
    moved_prefix, moved_events = Transposer(VOCAB).apply(np.array(prefix), np.array(events), key, semitones)
    assert moved_prefix.tolist() == make_prefix(said, moved.key, VOCAB)
    assert moved_events.tolist() == encode_events(moved, VOCAB)


def test_a_built_corpus_reads_back_as_it_was_encoded(work):
    piece = load_pieces(work, VOCAB)[3]
    music = make_chorale(3, bars=9)
    words, _ = measure_labels(music)
    said = Conditioning(form="chorale", style="bach", length_bars=music.length_bars, **words)
    assert [*piece.prefix, *piece.events] == encode(music, VOCAB, said)
    assert VOCAB.name(piece.prefix[-1]) == "KEY_C_major"
    assert len(piece.bar_starts) == 9


@given(step=st.integers(0, 1000), length=st.sampled_from((64, 256, 1024)))
def test_a_crop_is_a_prefix_and_a_stretch_of_the_piece_and_charges_no_prefix(work, step, length):
    pieces = [piece for piece in load_pieces(work, VOCAB) if piece.split == "train"]
    inputs, targets = CropSampler(pieces, VOCAB, seed=1).batch(step, 2, length, 0.5)
    again, _ = CropSampler(pieces, VOCAB, seed=1).batch(step, 2, length, 0.5)
    assert np.array_equal(inputs, again)
    for row, charged in zip(inputs.tolist(), targets.tolist(), strict=True):
        key = next(at for at, token in enumerate(row) if VOCAB.name(token).startswith("KEY_"))
        assert row[0] == VOCAB["BOS"]
        assert all(target == IGNORED for target in charged[:key])
        assert VOCAB.name(charged[key]) == "BAR"
        real = [target for target in charged[key:] if target != IGNORED]
        assert row[key + 1 : key + len(real)] == real[:-1]
        assert len(real) == length - key or real[-1] == VOCAB["EOS"]


@given(length=st.integers(40, 600))
def test_windows_charge_every_event_once_in_order(work, length):
    piece = load_pieces(work, VOCAB)[5]
    charged = [
        token
        for window in make_windows(piece, length)
        for token in window.targets.tolist()
        if token != IGNORED
    ]
    assert charged == piece.events.tolist()
    for window in make_windows(piece, length):
        assert len(window.inputs) <= length
        first = next(at for at, token in enumerate(window.targets) if token != IGNORED)
        assert window.targets[first:-1].tolist() == window.inputs[first + 1 :].tolist()


