"""Names appended to the vocabulary: sections, triplets, weights that go on with them, two arms compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_music import SHAPE, VOCAB, make_chorale, make_entry

from mlxgen.files.midi import write_midi
from mlxgen.music.decode import decode
from mlxgen.music.encode import encode
from mlxgen.music.piece import Note, Piece
from mlxgen.music.vocab import Vocab
from weights.recipe.compare import Arm, charge, compare
from weights.recipe.corpus import make_row, read_vocab, write_corpus
from weights.recipe.data import IGNORED, CropSampler, load_pieces
from weights.recipe.sources import OFF_GRID_SHARE, off_grid_share
from weights.recipe.vocabulary import TOKENIZER, extended, grid_ticks, with_own_durations
from weights.recipe.windows import Window, make_windows

BASE = json.loads(TOKENIZER.read_text(encoding="utf-8"))
SECTIONS = Vocab(extended(BASE, sections=True, triplets=False))
TRIPLETS = Vocab(extended(BASE, sections=False, triplets=True))


def test_names_are_appended_and_the_old_ids_stay():
    both = Vocab(extended(BASE, sections=True, triplets=True))
    assert both.names[: len(VOCAB)] == VOCAB.names
    assert both.names[len(VOCAB) :] == [*SECTIONS.names[len(VOCAB) :], *TRIPLETS.names[len(VOCAB) :]]
    assert (grid_ticks(VOCAB), grid_ticks(SECTIONS), grid_ticks(TRIPLETS)) == (60, 60, 20)


@pytest.fixture(scope="module")
def sectioned(tmp_path_factory):
    work = tmp_path_factory.mktemp("sections")
    rows = [
        make_row(make_entry(f"made/{bars}", make_chorale(1, bars)), "train", None, SECTIONS)
        for bars in (8, 13, 40)
    ]
    write_corpus(work, rows, SECTIONS)
    vocab = read_vocab(work)
    return vocab, load_pieces(work, vocab)


def test_sections_are_a_quarter_a_half_and_a_quarter_and_else_nothing_changes(sectioned):
    vocab, pieces = sectioned
    for piece in pieces:
        names = [vocab.name(token) for token in piece.events]
        bars = [sum(name == "BAR" for name in names[:at]) for at in piece.section_marks]
        total = len(piece.bar_starts)
        assert [names[at] for at in piece.section_marks] == [
            "SECTION_OPENING",
            "SECTION_MIDDLE",
            "SECTION_CLOSING",
        ]
        assert bars == [0, round(total / 4), round(3 * total / 4)]
        assert all(names[at + 1] == "BAR" for at in piece.section_marks)
        music = [name for name in names if not name.startswith("SECTION_")]
        plain = encode(make_chorale(1, total), VOCAB)
        assert music == [VOCAB.name(token) for token in plain][-len(music) :]


@given(step=st.integers(0, 1000), length=st.sampled_from((64, 256, 1024)))
def test_a_crop_says_which_section_it_begins_in_and_charges_no_such_name(sectioned, step, length):
    vocab, pieces = sectioned
    inputs, targets = CropSampler(pieces, vocab, seed=1).batch(step, 2, length, 0.5)
    for row, charged in zip(inputs.tolist(), targets.tolist(), strict=True):
        names = [vocab.name(token) for token in row]
        key = next(at for at, name in enumerate(names) if name.startswith("KEY_"))
        assert names[key + 1].startswith("SECTION_") and names[key + 2] == "BAR"
        for at in range(key + 1, length - 1):
            following = names[at + 1]
            assert charged[at] == (
                IGNORED if following.startswith("SECTION_") or following == "PAD" else row[at + 1]
            ) or (charged[at] == vocab["EOS"] and following == "PAD")


@given(length=st.integers(60, 600))
def test_windows_charge_all_music_once_and_name_the_section(sectioned, length):
    vocab, pieces = sectioned
    piece = pieces[-1]
    windows = make_windows(piece, length)
    charged = [token for window in windows for token in window.targets.tolist() if token != IGNORED]
    assert charged == np.delete(piece.events, piece.section_marks).tolist()
    for window in windows:
        assert len(window.inputs) <= length
        assert any(
            vocab.name(token).startswith("SECTION_") for token in window.inputs[: len(piece.prefix) + 1]
        )


def triplets_and_sixteenths() -> Piece:
    upper = [Note(start, 160, 72 + start // 160 % 5) for start in range(0, 1920, 160)]
    lower = [Note(start, 120, 55 + start // 120 % 3) for start in range(0, 1920, 120)]
    return Piece([upper, lower])


def test_triplets_against_sixteenths_come_back_as_they_were():
    piece = triplets_and_sixteenths()
    assert decode(encode(piece, TRIPLETS), TRIPLETS).voices == piece.voices
    assert decode(encode(piece, VOCAB), VOCAB).voices != piece.voices


def test_a_tied_binary_note_does_not_become_a_triplet():
    piece = Piece([[Note(0, 300, 72), Note(480, 160, 72)], [Note(0, 480, 60)]])
    kept = [note.duration_ticks for note in with_own_durations(piece, TRIPLETS).voices[0]]
    assert kept == [240, 160]
    chorale = make_chorale(2)
    assert encode(with_own_durations(chorale, TRIPLETS), TRIPLETS) == encode(chorale, VOCAB)


def test_midi_with_triplets_is_told_from_midi_without(tmp_path):
    write_midi(triplets_and_sixteenths(), tmp_path / "triplets.mid")
    write_midi(make_chorale(1), tmp_path / "binary.mid")
    assert off_grid_share(tmp_path / "triplets.mid") > OFF_GRID_SHARE
    assert off_grid_share(tmp_path / "binary.mid") == 0


def test_trained_weights_go_on_under_the_longer_vocabulary():
    torch = pytest.importorskip("torch")
    from convert.reference import ReferenceModel
    from mlxgen.model.config import ModelConfig
    from weights.recipe.checkpoints import with_new_names

    old = ReferenceModel(ModelConfig(vocab_size=len(VOCAB), **SHAPE)).eval()
    new = ReferenceModel(ModelConfig(vocab_size=len(TRIPLETS), **SHAPE)).eval()
    new.load_state_dict(with_new_names(old.state_dict(), len(TRIPLETS)))
    ids = torch.randint(len(VOCAB), (2, 30))
    with torch.no_grad():
        torch.testing.assert_close(new(ids)[..., : len(VOCAB)], old(ids))
        usual = old(ids).mean(-1, keepdim=True)
        torch.testing.assert_close(new(ids)[..., len(VOCAB) :], usual.expand(-1, -1, 8))


def test_a_worse_arm_is_found_worse_and_an_equal_one_is_not():
    rng = np.random.default_rng(0)
    nats = {f"piece {n}": [float(100 * rng.lognormal()), 100] for n in range(60)}
    worse = {name: [total + 10 + float(rng.normal()), tokens] for name, (total, tokens) in nats.items()}
    same = {name: [total + float(rng.normal()), tokens] for name, (total, tokens) in nats.items()}
    forms = {name: "fugue" if int(name[6:]) % 2 else "chorale" for name in nats}
    found = compare(Arm(forms, nats, nats), Arm(forms, worse, same))
    assert found["all"]["pieces"] == 60 and found["fugue"]["pieces"] == 30
    assert found["all"]["difference"] == pytest.approx(0.1, abs=0.01)
    low, high = found["all"]["interval"]
    assert 0.09 < low < found["all"]["difference"] < high < 0.11
    low, high = found["EOS"]["interval"]
    assert low < 0 < high


def test_the_end_is_charged_apart_from_the_music():
    window = Window("fugue", "one", np.array([1, 5, 6, 7]), np.array([IGNORED, 6, 7, 2]))
    assert charge(window, 2, wanted=False).targets.tolist() == [IGNORED, 6, 7, IGNORED]
    assert charge(window, 2, wanted=True).targets.tolist() == [IGNORED, IGNORED, IGNORED, 2]
