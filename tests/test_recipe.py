"""The recipe: what the corpus reads and keeps apart, what a crop charges, the first minute of training."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxgen.music.encode import encode, encode_events
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning, make_prefix
from mlxgen.music.theory import C_MAJOR, Key
from mlxgen.music.vocab import Vocab
from weights.recipe.content import ContentIndex, shingles
from weights.recipe.corpus import TOKENIZER, choose_held_out, make_row, select, write_corpus
from weights.recipe.data import IGNORED, CropSampler, Transposer, load_pieces
from weights.recipe.labels import measure_labels
from weights.recipe.readers import read_kern, read_musicxml
from weights.recipe.sections import estimate_key, rescaled, split_score
from weights.recipe.sources import Entry, folded, voices_of_frames
from weights.recipe.windows import make_windows

QUARTER = 480
VOCAB = Vocab.load(TOKENIZER)
# Roman numeral -> degrees above the tonic of bass, tenor, alto, soprano, in semitones.
CHORDS = {
    "I": (0, 7, 16, 24),
    "IV": (5, 9, 17, 24),
    "V": (7, 11, 14, 26),
    "vi": (9, 12, 16, 24),
    "ii": (2, 9, 17, 26),
}


def make_chorale(seed: int, bars: int = 12, key: Key = C_MAJOR) -> Piece:
    """Four voices in quarters and eighths over a random walk through five chords, ending on the tonic."""
    rng = np.random.default_rng(seed)
    names = [*rng.choice(list(CHORDS), size=bars * 4 - 1), "I"]
    voices: list[list[Note]] = [[] for _ in range(4)]
    for beat, name in enumerate(names):
        for voice, step in enumerate(reversed(CHORDS[name])):
            pitch = 48 + key.root + step
            start = beat * QUARTER
            if rng.random() < 0.2:
                voices[voice] += [Note(start, 240, pitch), Note(start + 240, 240, pitch + 2)]
            else:
                voices[voice].append(Note(start, QUARTER, pitch))
    return Piece(voices, key, (4, 4))


def make_entry(name: str, piece: Piece, form: str | None = "chorale", style: str = "bach") -> Entry:
    return Entry(name, "test", "CC0", form, style, piece)


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
    seconds = Piece([[Note(i * 480, 480, 61) for i in range(8)], [Note(i * 480, 480, 60) for i in range(8)]])
    thirds = Piece([[Note(i * 480, 480, 64) for i in range(8)], [Note(i * 480, 480, 60) for i in range(8)]])
    assert measure_labels(seconds)[0]["harmonic_tension"] == "high"
    assert measure_labels(seconds)[0]["chromaticism"] == "high"
    assert measure_labels(thirds)[1]["harmonic_tension"] == 0.0
    changing = [Note(i * 480, 480, 60 + i % 5) for i in range(16)]
    assert measure_labels(Piece([changing, changing]))[0]["harmonic_rhythm"] == "fast"
    assert measure_labels(Piece([[Note(0, 7680, 64)], [Note(0, 7680, 60)]]))[0]["harmonic_rhythm"] == "slow"


# ---------------------------------------------------------------- crops and windows


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


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A built corpus of 14 made chorales, two of them held out."""
    folder = tmp_path_factory.mktemp("work")
    made = [
        make_row(
            make_entry(f"made/{seed}", make_chorale(seed, bars=6 + seed)),
            "jsb_valid" if seed < 2 else "train",
            None,
            VOCAB,
        )
        for seed in range(14)
    ]
    write_corpus(folder, made, VOCAB)
    return folder


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


# ---------------------------------------------------------------- figures


def test_the_longest_run_shared_with_the_corpus_is_found_and_counted_in_notes():
    from weights.recipe.figures import copied_notes, longest_matches

    rng = np.random.default_rng(0)
    corpus = rng.integers(0, 125, 5000)
    ids = rng.integers(0, 125, 400)
    ids[100:160] = corpus[3000:3060]
    nothing = np.full(50, 200)
    assert longest_matches([ids, nothing, corpus[10:30]], corpus) == [(60, 100), (0, 0), (20, 0)]
    events = np.array(encode_events(make_chorale(1), VOCAB))
    other = np.array(encode_events(make_chorale(1), VOCAB)[:200])
    notes = sum(VOCAB.name(token).startswith("Dur") for token in other)
    assert copied_notes([other.tolist()], events, VOCAB) == [notes]


def spoiled(ids: list[int], how: str) -> list[int]:
    """Ids of a piece with one fault."""
    last_note = max(at for at, token in enumerate(ids[:-20]) if VOCAB.name(token).startswith("VOICE_"))
    faults = {
        "a note without its voice": (last_note, last_note + 1, []),
        "a note without its length": (last_note, last_note + 4, ids[last_note : last_note + 3]),
        "a note twice": (last_note, last_note, ids[last_note : last_note + 4]),
        "time that does not add up": (last_note, last_note, [VOCAB["TimeShift_120"]]),
        "a bar too early": (last_note, last_note, [VOCAB["BAR"], VOCAB["BEAT_1"]]),
        "a length nobody can sing": (last_note + 3, last_note + 4, [VOCAB["Dur_2880"]]),
    }
    begin, end, instead = faults[how]
    return [*ids[:begin], *instead, *ids[end:]]


def test_what_the_encoder_would_write_is_no_grammar_error_and_cut_pieces_are_none():
    from weights.recipe.figures import grammar_error

    ids = encode(make_chorale(1), VOCAB, Conditioning(form="chorale", style="bach"))
    for end in (len(ids), len(ids) - 1, *range(60, 90)):
        assert not grammar_error(ids[:end], VOCAB)


@pytest.mark.parametrize(
    "how",
    [
        "a note without its voice",
        "a note without its length",
        "a note twice",
        "time that does not add up",
        "a bar too early",
        "a length nobody can sing",
    ],
)
def test_a_planted_fault_is_a_grammar_error(how):
    from weights.recipe.figures import grammar_error

    ids = encode(make_chorale(1), VOCAB, Conditioning(form="chorale", style="bach"))
    assert grammar_error(spoiled(ids, how), VOCAB)


def test_a_close_is_a_dominant_and_a_tonic_at_the_end():
    from weights.recipe.figures import closes

    def chords(*names: str) -> Piece:
        columns = [sorted(CHORDS[name]) for name in names]
        lines = zip(*columns, strict=True)
        voices = [[Note(at * QUARTER, QUARTER, 48 + step) for at, step in enumerate(line)] for line in lines]
        return Piece(voices[::-1])

    assert closes(chords("I", "IV", "V", "I"))
    assert not closes(chords("V", "I", "IV", "IV"))
    assert not closes(chords("V", "I", "V", "vi"))


def test_the_unselected_judge_prefers_more_of_the_same_and_hears_a_spoiled_voice():
    from weights.recipe.distances import RealMusic, wasserstein

    real, like = [make_chorale(seed) for seed in range(6)], [make_chorale(seed) for seed in range(20, 26)]
    rng = np.random.default_rng(1)
    spoiled = [
        Piece(
            [
                [note._replace(pitch=int(note.pitch + rng.integers(-6, 7))) for note in voice]
                for voice in piece.voices
            ],
            piece.key,
        )
        for piece in like
    ]
    judge = RealMusic(real)
    assert judge.distance(like) < 0.5 * judge.distance(spoiled)
    assert wasserstein([0.0, 0.0], [3.0, 3.0]) == pytest.approx(3.0)


def test_cells_are_ranked_by_both_judges_and_the_winners_become_the_folder_s_defaults(tmp_path):
    from weights.recipe.generation import order_for
    from weights.recipe.sweep import apply_defaults, ranked

    cells = [
        {"temperature": 0.8, "min_p": 0.1, "score": 0.9, "distance": 0.3},
        {"temperature": 0.9, "min_p": 0.1, "score": 0.8, "distance": 0.1},
        {"temperature": 1.0, "min_p": 0.1, "score": 0.1, "distance": 0.2},
    ]
    best = ranked(cells)[0]
    assert (best["temperature"], best["rank"]) == (0.9, 1)
    (tmp_path / "config.json").write_text(json.dumps({"generation": {"temperature": 1.1}, "dtype": "x"}))
    apply_defaults(tmp_path, {"fugue": best})
    data = json.loads((tmp_path / "config.json").read_text())
    assert data["dtype"] == "x"
    assert order_for("fugue", data["generation"]).temperature == 0.9
    assert order_for("chorale", data["generation"]).temperature == 1.1


# ---------------------------------------------------------------- controls


def test_the_two_levels_of_a_control_differ_in_the_word_it_names_and_in_no_other():
    from mlxgen.music.prompt import make_prompt
    from weights.recipe.controls import CONTROLS, make_order

    for name, control in CONTROLS.items():
        names = [
            {VOCAB.name(token) for token in make_prompt(order.conditioning(), C_MAJOR, VOCAB)}
            for order in (make_order(level, control, {}) for level in (control.low, control.high))
        ]
        family = name.split(",")[0].upper().replace(" ", "_")
        differing = {word.rsplit("_", 1)[0] for word in names[0] ^ names[1]} - {"MODE"}
        expected = {"METER": {"METER_4", "METER_3"}, "TENSION": {"HARMONIC_TENSION"}}.get(family, {family})
        assert differing == expected, name


def test_the_pulse_of_three_is_told_from_the_pulse_of_four():
    from weights.recipe.controls import triple_pulse

    def marching(beats: int) -> Piece:
        long = [Note(at * beats * QUARTER, 2 * QUARTER, 60) for at in range(8)]
        short = [Note(at * QUARTER, 240, 48) for at in range(8 * beats)]
        return Piece([long, short])

    assert triple_pulse(marching(3)) > 0.5
    assert triple_pulse(marching(4)) < -0.5
    assert triple_pulse(Piece([[Note(0, 480, 60)], []])) == 0.0


def test_the_effect_of_a_shift_is_its_size_in_spreads_with_an_interval_around_it():
    from weights.recipe.controls import effect

    rng = np.random.default_rng(0)
    low = rng.normal(0, 2, 400)
    found = effect(low.tolist(), (low + 3).tolist())
    assert found["d"] == pytest.approx(1.5, abs=0.15)
    assert found["interval"][0] < 1.5 < found["interval"][1]


def test_pieces_made_for_another_order_are_not_taken_for_these(tmp_path):
    from weights.recipe.generation import Order, generate_to

    row = {"order": {"form": "fugue"}, "ids": [1]}
    (tmp_path / "made.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="fugue"):
        generate_to(tmp_path / "made.jsonl", None, VOCAB, Order("chorale"), 1)


# ---------------------------------------------------------------- contexts beyond the training length


def test_the_scale_of_longer_contexts_is_the_one_that_the_port_applies(work, tmp_path):
    torch = pytest.importorskip("torch")
    mx = pytest.importorskip("mlx.core")
    from convert.export import export
    from mlxgen.model.config import ModelConfig
    from mlxgen.model.load import load
    from weights.recipe.likelihood import load_torch, with_scale
    from weights.recipe.schedule import Settings
    from weights.recipe.train import Trainer

    config = ModelConfig(vocab_size=len(VOCAB), drope=True, train_seq_len=16, **SHAPE)
    trainer = Trainer(Settings(steps=2, tokens_per_step=256), config, work, tmp_path / "run", VOCAB)
    trainer.run()
    folder = export(tmp_path / "run" / "final.pt", TOKENIZER, tmp_path / "folder")
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data | {"drope_scale_c": 0.4}))
    ids = np.random.default_rng(0).integers(0, len(VOCAB), (1, 90))
    with torch.no_grad():
        plain = load_torch(tmp_path / "run" / "final.pt").eval()
        expected = with_scale(plain, 0.4, 16)(torch.from_numpy(ids)).numpy()
        unscaled = load_torch(tmp_path / "run" / "final.pt").eval()(torch.from_numpy(ids)).numpy()
    found = np.array(load(folder, dtype="float32")[0](mx.array(ids.astype(np.int32))))
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(unscaled - expected).max() > 1e-3


# ---------------------------------------------------------------- the first minute

SHAPE = {
    "embed_dim": 64,
    "num_heads": 4,
    "num_kv_heads": 2,
    "num_layers": 2,
    "ffn_dim": 128,
    "max_seq_len": 128,
}


def make_trainer(work: Path, out: Path, **settings):
    pytest.importorskip("torch")
    from mlxgen.model.config import ModelConfig
    from weights.recipe.schedule import Settings
    from weights.recipe.train import Trainer

    kept = {
        "lr": 2e-2,
        "tokens_per_step": 512,
        "warmup_steps": 3,
        "steps": 20,
        "valid_every_s": math.inf,
        "save_every_s": math.inf,
    }
    return Trainer(
        Settings(**{**kept, **settings}), ModelConfig(vocab_size=len(VOCAB), **SHAPE), work, out, VOCAB
    )


def test_twenty_steps_lower_the_loss_and_the_checkpoint_converts_and_agrees(work, tmp_path):
    torch = pytest.importorskip("torch")
    mx = pytest.importorskip("mlx.core")
    from convert.export import export
    from mlxgen.model.load import load

    trainer = make_trainer(work, tmp_path / "run")
    before = trainer.validate()
    trainer.run()
    assert trainer.state["val_loss"] < 0.75 * before
    folder = export(tmp_path / "run" / "final.pt", TOKENIZER, tmp_path / "folder")
    model, _ = load(folder, dtype="float32")
    ids = np.random.default_rng(0).integers(0, len(VOCAB), (2, 60))
    with torch.no_grad():
        expected = trainer.model.eval()(torch.from_numpy(ids)).numpy()
    assert np.abs(np.array(model(mx.array(ids.astype(np.int32)))) - expected).max() < 1e-4


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_that_was_terminated_goes_on_as_if_it_had_not_been(work, tmp_path, optimizer):
    torch = pytest.importorskip("torch")
    whole = make_trainer(work, tmp_path / "whole", steps=6, optimizer=optimizer)
    whole.run()
    first = make_trainer(work, tmp_path / "cut", steps=6, optimizer=optimizer)
    take = first.step

    def step_then_terminate(progress):
        loss = take(progress)
        if first.state["step"] == 3:
            signal.raise_signal(signal.SIGTERM)
        return loss

    first.step = step_then_terminate
    first.run()
    assert first.state["step"] == 3
    second = make_trainer(work, tmp_path / "cut", steps=6, optimizer=optimizer)
    second.run()
    for name, weight in whole.model.state_dict().items():
        assert torch.allclose(weight, second.model.state_dict()[name], atol=1e-6), name
    lines = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6


def test_positions_are_dropped_from_a_trained_model_and_the_folder_says_so(work, tmp_path):
    pytest.importorskip("torch")
    from convert.export import export
    from mlxgen.model.config import ModelConfig
    from weights.recipe.schedule import Settings
    from weights.recipe.train import Trainer

    make_trainer(work, tmp_path / "with", steps=2).run()
    config = ModelConfig(vocab_size=len(VOCAB), drope=True, train_seq_len=96, **SHAPE)
    settings = Settings(steps=2, tokens_per_step=512)
    recalibrated = Trainer(
        settings, config, work, tmp_path / "without", VOCAB, tmp_path / "with" / "final.pt"
    )
    assert recalibrated.state["step"] == 0
    recalibrated.run()
    folder = export(tmp_path / "without" / "final.pt", TOKENIZER, tmp_path / "folder")
    data = json.loads((folder / "config.json").read_text())
    assert (data["drope"], data["train_seq_len"]) == (True, 96)


def test_the_schedule_warms_stays_and_falls_and_the_crops_grow():
    from weights.recipe.schedule import DECAY_FROM, Settings, crop_length, learning_rate

    settings = Settings(lr=1.0)
    assert learning_rate(settings, 0, 0.0) < 0.02
    assert learning_rate(settings, 1000, DECAY_FROM) == 1.0
    assert 0 < learning_rate(settings, 1000, 1.0) < 0.05
    lengths = [crop_length(step, step / 100, 256, 4096) for step in range(101)]
    assert lengths[0] == 256
    assert max(lengths) == 2048
    assert crop_length(0, 0.0, 512, 4096) == 512
    assert crop_length(99, 0.99, 256, 128) == 128


def test_orthogonalised_matrices_have_singular_values_near_one():
    torch = pytest.importorskip("torch")
    from weights.recipe.optim import orthogonalised

    for shape in ((32, 128), (128, 32)):
        torch.manual_seed(0)
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)).float())
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_checkpoints_are_averaged_by_name_and_mismatches_refused():
    torch = pytest.importorskip("torch")
    from weights.recipe.average import average

    first, second = {"a": torch.tensor([0.0, 2.0])}, {"a": torch.tensor([4.0, 2.0])}
    assert average(first, second, 0.25)["a"].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="shapes"):
        average(first, {"a": torch.zeros(3)}, 0.5)
    with pytest.raises(ValueError, match="b is in one"):
        average(first, {**second, "b": torch.zeros(1)}, 0.5)
    with pytest.raises(ValueError, match="share 2"):
        average(first, second, 2)


def test_an_unknown_optimizer_is_named():
    torch = pytest.importorskip("torch")
    from weights.recipe.optim import make_optimizers

    with pytest.raises(ValueError, match="sgd"):
        make_optimizers(torch.nn.Linear(2, 2), "sgd", 0.1, 0.0)


# ---------------------------------------------------------------- the shipped weights


def test_the_shipped_model_reads_held_out_chorales_and_hears_a_wrong_voice(shared, default_model_folder):
    """Nats per token of three chorales of JSB's test split, and of the same with the tenor a semitone up."""
    mx = pytest.importorskip("mlx.core")
    from mlxgen.model.load import load
    from weights.recipe.sources import read_jsb

    model, vocab = load(default_model_folder, dtype="float32")
    frames = read_jsb(shared / "corpus" / "Jsb16thSeparated.json")
    test = [entry.piece for split, entry in frames if split == "test"]

    def nats(piece: Piece) -> float:
        ids = encode(piece, vocab, Conditioning(form="chorale", style="bach"))[:600]
        first = 1 + next(at for at, token in enumerate(ids) if vocab.name(token).startswith("KEY_"))
        logits = np.array(model(mx.array([ids[:-1]])))[0].astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return float(np.mean([-logprobs[at - 1, ids[at]] for at in range(first, len(ids))]))

    def tenor_raised(piece: Piece) -> Piece:
        soprano, alto, tenor, bass = piece.voices
        return Piece(
            [soprano, alto, [note._replace(pitch=note.pitch + 1) for note in tenor], bass], piece.key
        )

    found = [nats(piece) for piece in test[:3]]
    assert np.mean(found) < 0.62
    for piece, own in zip(test, found, strict=False):
        assert nats(tenor_raised(piece)) > own + 0.1
