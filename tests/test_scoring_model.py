"""The scorer's parts: probabilities that are probabilities, tails that are tails, keys, themes, seams,
fingerprints."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from handmade_chorale import CHORALE, long_chorale
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import corruptions
from bench.adversaries import TypicalFakes
from bench.score_corpus import stands_in_training
from mlxgen.music.piece import Note, Piece
from mlxgen.scoring import calibration
from mlxgen.scoring.boundary import find_seams, seam_and_lines
from mlxgen.scoring.event_model import CHORDS, count_chords, harmony_of_pairs, make_dense
from mlxgen.scoring.events import make_events
from mlxgen.scoring.fingerprint import chord_changes, long_prints, short_prints
from mlxgen.scoring.keys import local_keys
from mlxgen.scoring.metrics import METRICS
from mlxgen.scoring.music import make_music
from mlxgen.scoring.reference import Reference, load_reference
from mlxgen.scoring.report import copy_note
from mlxgen.scoring.score import score
from mlxgen.scoring.texture import make_texture, tactus
from mlxgen.scoring.theme import diatonic
from mlxgen.scoring.wrong_notes import FEATURES as NOTE_FEATURES
from mlxgen.scoring.wrong_notes import SHIFTS, SPAN, alternatives, note_nats

BAR = 1920


def test_dense_tables_are_distributions():
    reference = load_reference()
    for family in range(len(reference.families)):
        for table in reference.model(family).dense.values():
            np.testing.assert_allclose(np.exp(table.log_probability).sum(axis=1), 1.0, atol=1e-6)


def test_witten_bell_by_hand():
    counts = np.array([[3.0, 1.0], [0.0, 0.0]])
    parent = np.array([[0.5, 0.5], [0.25, 0.75]])
    # The seen context: 4 events of 2 kinds, so 2 / 6 of the parent's row; the unseen one is its parent's.
    np.testing.assert_allclose(make_dense(counts, parent), [[4 / 6, 2 / 6], [0.25, 0.75]])


def test_chords_seen_often_are_likelier_and_everything_is_possible():
    chord = 0b000010010001  # tonic triad
    other = 7 * 4096 + 0b100010000100
    strange = 1 * 4096 + 0b000000000110
    before = np.array([chord, chord, chord, other])
    after = np.array([other, other, chord, chord])
    rows = count_chords(before, after)
    model = harmony_of_pairs(rows[:, 0], rows[:, 1])
    likely, less, never = model.probability(np.full(3, chord), np.array([other, chord, strange]))
    assert likely > less > never > 0
    assert model.unseen(np.array([chord, other]), np.array([other, other])).tolist() == [False, True]
    total = model.probability(np.full(CHORDS // 2, chord), np.arange(CHORDS // 2)).sum()
    assert 0.5 < total < 1.01


@pytest.mark.parametrize(("tonic", "mode"), [(0, 0), (7, 0), (3, 0), (9, 1), (2, 1)])
def test_the_key_heard_is_the_key_played(tonic, mode):
    scale = [0, 2, 4, 5, 7, 9, 11, 12] if mode == 0 else [0, 2, 3, 5, 7, 8, 11, 12]
    chords = [[0, 4 - mode, 7], [5, 9 - mode, 12], [7, 11, 14], [0, 4 - mode, 7]]
    voices = [[Note(480 * at, 480, 60 + tonic + step) for at, step in enumerate(scale)]]
    voices += [
        [Note(960 * at, 960, 48 + tonic + chord[row]) for at, chord in enumerate(chords)] for row in range(3)
    ]
    keys = local_keys(make_texture(Piece(voices)), load_reference().profiles)
    assert set(keys.tolist()) == {mode * 12 + tonic}


def test_a_modulation_is_heard():
    moved = CHORALE.transposed(6)
    both = corruptions.joined([CHORALE, moved], CHORALE.length_bars * BAR)
    keys = local_keys(make_texture(both), load_reference().profiles)
    assert (keys[-1] - keys[0]) % 12 == 6 or len(set(keys.tolist())) > 1


def test_slices_are_the_piece_on_a_grid():
    """The slices against a slow twin: every tick looked up note by note."""
    texture = make_texture(CHORALE)
    for at, tick in enumerate(texture.onset):
        for voice, notes in enumerate(CHORALE.voices):
            sounding = [note for note in notes if note.start_ticks <= tick < note.end_ticks]
            assert texture.pitch[at, voice] == (sounding[0].pitch if sounding else -1)
            assert texture.attack[at, voice] == any(note.start_ticks == tick for note in notes)


def test_events_do_not_depend_on_the_octave_or_the_transposition():
    def events(piece):
        texture = make_texture(piece)
        return make_events(texture, local_keys(texture, load_reference().profiles))

    here, there = events(CHORALE), events(CHORALE.transposed(5))
    for name in here:
        np.testing.assert_array_equal(here[name].outcome, there[name].outcome)
        np.testing.assert_array_equal(here[name].context, there[name].context)


def test_a_tactus_in_half_notes_is_heard_in_half_notes():
    slow = Piece(
        [
            [Note(2 * note.start_ticks, 2 * note.duration_ticks, note.pitch) for note in voice]
            for voice in CHORALE.voices
        ]
    )
    assert (tactus(make_texture(CHORALE).notes), tactus(make_texture(slow).notes)) == (1.0, 2.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.floats(0.001, 500), st.floats(1e-4, 0.5), st.floats(0.05, 50))
def test_count_tail_grows_with_the_count(count, exposure, rate, shape):
    here, more = (calibration.count_tail(total, exposure, rate, shape) for total in (count, count + 1))
    assert here >= 0 and math.isfinite(more)
    if not (count <= 60 < count + 1):  # there the normal tail takes over
        assert more >= here - 1e-9


def test_count_tail_by_hand():
    # Poisson in the limit of equal pieces: P(N >= 2) for a mean of 1 is 1 - 2 / e.
    assert calibration.count_tail(2, 1.0, 1.0, 1e6) == pytest.approx(-math.log(1 - 2 / math.e), rel=1e-3)
    assert calibration.count_tail(0, 1.0, 1.0, 1.0) == 0


def test_normal_tail_grows_without_end_or_jump():
    values = [calibration.normal_tail(z) for z in (0.5, 2, 7.999, 8.001, 29.99, 30.01, 1e3, 1e9)]
    assert values == sorted(values) and all(math.isfinite(value) for value in values)
    assert values[3] - values[2] < 0.05 and values[5] - values[4] < 1
    assert calibration.normal_tail(-3) == 0


def test_mean_tail_is_two_sided_where_asked():
    parameters = np.array([1.0, 0.1, 0.2, 0.0])
    assert calibration.mean_tail(1.4, 10, parameters, "high") == pytest.approx(
        -math.log(2 * 0.02275), rel=1e-3
    )
    assert calibration.mean_tail(0.8, 10, parameters, "high") == 0
    assert calibration.mean_tail(0.8, 10, parameters, "both") == calibration.mean_tail(
        1.4, 10, parameters, "both"
    )
    wide = np.array([1.0, 0.1, 0.2, 30.0])
    assert calibration.mean_tail(1.4, 10, wide, "high") < calibration.mean_tail(1.4, 1000, wide, "high")


def test_a_fit_finds_what_it_was_drawn_from():
    random = np.random.default_rng(0)
    exposures = random.integers(50, 500, 4000).astype(float)
    counts = random.poisson(0.01 * exposures * random.gamma(2.0, 0.5, 4000))
    rate, shape, *_ = calibration.fit_counts(counts, exposures)
    assert rate == pytest.approx(0.01, rel=0.1) and shape == pytest.approx(2.0, rel=0.3)
    values = random.normal(3.0, 0.5, 4000)
    median, below, above, _ = calibration.fit_means(values, exposures)
    assert median == pytest.approx(3.0, abs=0.05)
    assert below == pytest.approx(0.5, rel=0.15) and above == pytest.approx(0.5, rel=0.15)


def test_diatonic_steps_forgive_the_mode():
    assert diatonic(np.array([4, 3, -4, 12, 7, 0])).tolist() == [2, 2, -2, 7, 4, 0]


def test_a_theme_that_comes_back_is_recalled():
    random = np.random.default_rng(3)
    theme = [0, 4, 7, 5, 9, 2, 0]
    filler = random.integers(0, 12, 60).tolist()

    def voice(steps, base, start):
        return [Note(start + 480 * at, 480, base + step) for at, step in enumerate(steps)]

    imitated = Piece(
        [
            voice(theme + filler, 67, 0),
            voice(theme + filler[::-1], 60, 4 * 480),
            voice(theme + filler, 55, 9 * 480),
        ]
    )
    unrelated = Piece(
        [voice(theme + filler, 67, 0), voice(filler[::-1], 60, 4 * 480), voice(filler, 55, 9 * 480)]
    )
    recall = METRICS["theme recall"].function
    assert recall(make_music(imitated)).value > recall(make_music(unrelated)).value + 0.05


def test_planted_seams_stand_out_from_the_other_bar_lines():
    whole, ranks = long_chorale(), []
    for seam in (5, 6, 7):
        for semitones in (1, 3, 5, 6):
            joined = corruptions.continued(whole, seam * BAR, whole.transposed(semitones), 2 * BAR)
            ticks, values = find_seams(joined)
            ranks.append((values < values[ticks == seam * BAR][0]).mean())
    assert np.mean(ranks) > 0.75


def test_a_bar_in_another_key_is_the_odd_one():
    whole, odd_bar = long_chorale(), METRICS["odd bar"].function
    usual, hits = odd_bar(make_music(whole)).value, 0
    for number in range(2, 8):
        bars = corruptions.sections(whole)
        bars[number] = bars[number].transposed(1)
        found = odd_bar(make_music(corruptions.joined(bars, BAR)))
        hits += found.value > usual + 0.3 and found.ticks.tolist() == [number * BAR]
    assert hits >= 5


def test_a_seam_is_told_from_the_bar_lines_of_the_music_behind_it():
    whole, seam = long_chorale(), 5 * BAR
    head, tail = whole.between(0, seam), whole.between(seam, whole.length_ticks)
    at_seam, lines = seam_and_lines(make_music(tail, head, last=False, seam_ticks=seam))
    foreign, others = seam_and_lines(make_music(tail.transposed(6), head, last=False, seam_ticks=seam))
    assert foreign > at_seam + 0.5
    assert len(lines) == len(others) == tail.length_bars - 1
    alone, inside = seam_and_lines(make_music(tail, last=False))
    assert alone is None and len(inside) == len(lines)


def test_fingerprints_know_a_piece_in_any_key_and_no_other():
    for prints in (long_prints, short_prints):
        here, ticks = prints(chord_changes(make_texture(CHORALE)))
        there, _ = prints(chord_changes(make_texture(CHORALE.transposed(-4))))
        other, _ = prints(chord_changes(make_texture(long_chorale())))
        assert len(here) > 4 and here.tolist() == there.tolist()
        assert not set(here.tolist()) & set(other.tolist())
        assert (np.diff(ticks) > 0).all()


def altered(voice, at, step):
    """The chorale with one note moved."""
    notes = list(CHORALE.voices[voice])
    notes[at] = notes[at]._replace(pitch=notes[at].pitch + step)
    return replace(CHORALE, voices=[*CHORALE.voices[:voice], notes, *CHORALE.voices[voice + 1 :]])


def test_an_alternative_is_judged_as_if_it_stood_there():
    """Every column against a slow twin: the piece with the alternative written into it, heard in its keys."""
    whole = make_music(CHORALE)
    columns, first = alternatives(whole), 0
    for voice, notes in enumerate(CHORALE.voices):
        for at in range(0, len(notes), 5):
            for place, step in enumerate(SHIFTS):
                other = make_music(altered(voice, at, int(step)))
                other.__dict__.update(keys=whole.keys, family=whole.family)
                twin = alternatives(other)[first + at, SPAN]
                np.testing.assert_allclose(columns[first + at, place], twin, atol=1e-9)
        first += len(notes)


def test_the_notes_that_stand_there_are_the_event_models_own():
    music = make_music(CHORALE)
    columns = dict(zip(NOTE_FEATURES, alternatives(music)[:, SPAN].T, strict=True))
    np.testing.assert_allclose(columns["line"], -music.nats["line"])
    by_note = np.zeros(len(columns["into"]))
    starts, voices = music.texture.notes.start, music.texture.notes.voice
    for tick, pair, nats in zip(
        music.events["pair"].ticks, music.events["pair"].voices, music.nats["pair"], strict=True
    ):
        by_note -= nats * ((starts == tick) & np.isin(voices, pair))
    np.testing.assert_allclose(columns["into"], by_note, atol=1e-9)
    sonority = dict(zip(music.events["sonority"].ticks, music.nats["sonority"], strict=True))
    np.testing.assert_allclose(columns["sonority"], [-sonority[tick] for tick in starts])


def test_one_wrong_note_is_found_and_its_neighbours_are_not():
    here, index = note_nats(make_music(CHORALE)), len(CHORALE.voices[0]) + 9
    spoiled = note_nats(make_music(altered(1, 9, 1)))
    assert spoiled.argmax() == index and spoiled[index] > here[index] + 4
    value = METRICS["wrong notes"].function
    assert value(make_music(altered(1, 9, 1))).value > value(make_music(CHORALE)).value


def test_a_choice_is_fitted_to_what_was_chosen():
    """Newton's weights against the ones that the choices were drawn with."""
    event_usual = pytest.importorskip("weights.recipe.event_usual")
    random, weights = np.random.default_rng(0), np.array([1.5, -0.7])
    features = random.normal(size=(20_000, 4, 2))
    liked = features @ weights + random.gumbel(size=(20_000, 4))
    chosen = liked.argmax(axis=1)
    rows = np.arange(len(chosen))
    features[rows, 0], features[rows, chosen] = features[rows, chosen], features[rows, 0].copy()
    np.testing.assert_allclose(event_usual.fit_choices(features, 0), weights, atol=0.06)


def learnt(*pieces):
    """The reference as if it had been fitted on these chorales too."""
    reference = load_reference()
    changes = [chord_changes(make_texture(piece)) for piece in pieces]
    arrays = dict(reference.arrays)
    for name, prints in (("prints", long_prints), ("turns/chorale", short_prints)):
        arrays[name] = np.unique(np.concatenate([arrays[name], *(prints(change)[0] for change in changes)]))
    return Reference(arrays)


def test_a_copy_of_training_music_is_told():
    original = METRICS["originality"].function
    assert original(make_music(CHORALE)).value < 0.2
    assert original(make_music(CHORALE, reference=learnt(CHORALE))).value == 1.0


def test_a_copy_is_told_in_words_and_left_out_of_the_bench(monkeypatch):
    own = score(CHORALE)
    assert copy_note(CHORALE, own) == "" and not stands_in_training(CHORALE)
    reference = learnt(CHORALE)
    monkeypatch.setattr("mlxgen.scoring.music.load_reference", lambda: reference)
    copied = score(CHORALE)
    note = copy_note(CHORALE, copied)
    assert note.startswith("100%") and "judged as a copy" in note
    without = float(re.search(r"(\d\.\d\d) without", note)[1])
    assert copied.composite < without and without >= round(own.composite, 2)
    assert stands_in_training(CHORALE)


def test_music_put_together_from_training_pieces_is_told():
    """Two bars of one piece, two of the other: no long span is known whole, most short ones are."""
    first, second = CHORALE, long_chorale().transposed(2)
    patched = corruptions.joined(
        [span for pair in zip(corruptions.sections(first), corruptions.sections(second), strict=False)
         for span in pair], BAR
    )
    music = make_music(patched, reference=learnt(first, second))
    turns, whole = (METRICS[name].function(music).value for name in ("recombination", "originality"))
    assert turns > 0.3 > 0.1 > METRICS["recombination"].function(make_music(patched)).value
    assert whole < turns


def test_a_chain_of_known_steps_is_not_fresh():
    pieces = [CHORALE, long_chorale()]
    fresh, fakes = METRICS["freshness"].function, TypicalFakes(pieces, tries=3)
    reference, random = learnt(*pieces), np.random.default_rng(0)
    chains = [fresh(make_music(fakes(long_chorale(), random), reference=reference)).value for _ in range(4)]
    assert max(chains) < fresh(make_music(long_chorale())).value - 1


def test_a_reference_without_an_array_is_refused_by_name():
    arrays = dict(load_reference().arrays)
    del arrays["rare"]
    with pytest.raises(ValueError, match="'rare'"):
        Reference(arrays)


def test_every_metric_is_calibrated():
    reference = load_reference()
    assert set(reference.calibration) == set(METRICS)
    for name, table in reference.calibration.items():
        assert np.isfinite(table).all(), name
