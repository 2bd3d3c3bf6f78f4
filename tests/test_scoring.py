"""score(): its range, its masks, and that it orders music as ears do. The music is written here; no corpus
is needed."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from handmade_chorale import CHORALE, long_chorale
from hypothesis import given, settings
from hypothesis import strategies as st

import mlxgen
from bench import corruptions
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key
from mlxgen.scoring.metrics import DIMENSIONS, METRICS
from mlxgen.scoring.score import score

BAR = 1920


def valid(result) -> bool:
    figures = [result.composite, *result.dimensions.values()]
    return all(math.isfinite(figure) and 0 <= figure <= 1 for figure in figures) and all(
        isinstance(finding.bar, int) and finding.bar >= 1 and all(voice >= 1 for voice in finding.voices)
        for finding in result.findings
    )


notes = st.builds(
    Note,
    st.integers(0, 40).map(lambda step: step * 60),
    st.integers(1, 16).map(lambda step: step * 60),
    st.integers(0, 127),
)
pieces = st.builds(
    lambda voices, meter: Piece(voices, meter=meter),
    st.lists(st.lists(notes, max_size=12), max_size=7),
    st.sampled_from([(4, 4), (3, 4), (6, 8), (5, 16), (7, 8), (1, 64), (12, 8), (3, 2)]),
)


@settings(max_examples=80, deadline=None)
@given(pieces, st.booleans())
def test_any_piece_gets_figures_between_0_and_1(piece, last):
    assert valid(score(piece, last=last))


@settings(max_examples=40, deadline=None)
@given(pieces, pieces, st.one_of(st.none(), st.integers(0, 3)))
def test_any_chunk_behind_any_context_gets_figures_between_0_and_1(piece, context, seam):
    context = replace(context, meter=piece.meter)
    seam_ticks = None if seam is None else seam * piece.bar_ticks
    assert valid(score(piece, context, last=False, seam_ticks=seam_ticks))


@pytest.mark.parametrize(
    "piece", [Piece([]), Piece([[], []]), Piece([[Note(0, 480, 60)]]), Piece([[Note(0, 480, 60)], []])]
)
def test_next_to_nothing_scores_next_to_nothing_and_says_so(piece):
    result = score(piece)
    assert valid(result) and result.composite < 0.25
    assert {finding.rule for finding in result.findings} & {"silence", "little to judge"}


def test_the_same_piece_scores_the_same_whatever_was_scored_before():
    first = score(CHORALE)
    score(corruptions.tenor_semitone_up(CHORALE, np.random.default_rng(0)))
    score(CHORALE.between(0, BAR), CHORALE)
    assert score(CHORALE) == first


def test_a_declared_key_changes_nothing_because_the_key_is_heard():
    assert score(replace(CHORALE, key=Key(6, "minor"))).composite == score(CHORALE).composite


@pytest.mark.parametrize("semitones", [-3, 2, 4])
def test_transposing_within_the_ranges_keeps_the_counterpoint(semitones):
    moved, here = score(CHORALE.transposed(semitones)), score(CHORALE)
    assert moved.dimensions["counterpoint"] == pytest.approx(here.dimensions["counterpoint"], abs=0.02)


def test_a_chorale_in_half_notes_is_the_same_music():
    slow = Piece(
        [
            [Note(2 * note.start_ticks, 2 * note.duration_ticks, note.pitch) for note in voice]
            for voice in CHORALE.voices
        ],
        CHORALE.key,
        (4, 2),
    )
    assert score(slow).composite == pytest.approx(score(CHORALE).composite, abs=0.1)


CORRUPTIONS = {
    "shuffled": corruptions.shuffled,
    "semitone": corruptions.tenor_semitone_up,
    "late": corruptions.tenor_beat_late,
    "fifths": corruptions.make_parallel_fifths(0.3),
    "jitter": corruptions.make_jitter(0.2),
    "loop": corruptions.looped,
    "canon": corruptions.random_canon,
    "bars": corruptions.bars_permuted,
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_chorale_scores_above_what_is_left_of_it(name):
    whole = long_chorale()
    spoiled = [score(CORRUPTIONS[name](whole, np.random.default_rng(seed))).composite for seed in range(5)]
    assert np.median(spoiled) < score(whole).composite - 0.03


def test_more_wrong_notes_score_lower():
    whole = long_chorale()
    means = [
        np.mean(
            [
                score(corruptions.make_jitter(share)(whole, np.random.default_rng(seed))).composite
                for seed in range(6)
            ]
        )
        for share in (0.0, 0.05, 0.15, 0.4)
    ]
    assert means == sorted(means, reverse=True)


def test_wrong_notes_are_found_in_their_bars_and_voices():
    alto, found = CHORALE.voices[1], 0
    for at, note in enumerate(alto):
        planted = [*alto[:at], note._replace(pitch=note.pitch + 6), *alto[at + 1 :]]
        result = score(replace(CHORALE, voices=[CHORALE.voices[0], planted, *CHORALE.voices[2:]]))
        found += any(
            finding.rule == "wrong notes"
            and finding.bar == note.start_ticks // BAR + 1
            and finding.voices == (2,)
            for finding in result.findings
        )
    assert found / len(alto) > 0.5  # a tritone off; some are chords all the same
    assert not [finding for finding in score(CHORALE).findings if finding.rule == "wrong notes"]


def test_a_chunk_that_is_not_the_last_is_not_asked_to_end():
    chunk = CHORALE.between(0, 3 * BAR)
    assert "completeness" in score(chunk).dimensions
    assert "completeness" not in score(chunk, last=False).dimensions
    ended = Piece([[*voice, Note(3 * BAR, 4 * BAR, voice[-1].pitch)] for voice in chunk.voices], chunk.key)
    for name, metric in METRICS.items():
        if metric.scope == "whole":
            assert name not in score(ended, last=False).penalties


def test_only_new_notes_are_judged_and_bars_count_from_the_start_of_the_context():
    bad = corruptions.make_parallel_fifths(1.0)(CHORALE, np.random.default_rng(0))
    good = score(CHORALE, bad, last=False, seam_ticks=bad.length_bars * BAR)
    assert not [finding for finding in good.findings if finding.bar <= bad.length_bars]
    after = score(bad, CHORALE, last=False, seam_ticks=CHORALE.length_bars * BAR)
    fifths = [finding.bar for finding in after.findings if finding.rule == "parallel fifths"]
    assert fifths and min(fifths) > CHORALE.length_bars


def test_the_seam_is_where_the_caller_says_or_after_the_last_attack():
    head, tail = CHORALE.between(0, 2 * BAR), CHORALE.between(2 * BAR, 99 * BAR)
    assert score(tail, head, last=False) == score(tail, head, last=False, seam_ticks=2 * BAR)
    silent_bar = score(tail, head, last=False, seam_ticks=3 * BAR)
    assert min(finding.bar for finding in silent_bar.findings) >= 4


def test_a_true_continuation_has_a_better_boundary_than_a_foreign_one():
    whole = long_chorale()
    head, tail = whole.between(0, 4 * BAR), whole.between(4 * BAR, 99 * BAR)
    true = score(tail, head, last=False).dimensions["boundary"]
    foreign = score(tail.transposed(6), head, last=False).dimensions["boundary"]
    assert foreign < true - 0.1


def test_token_surprisal_that_starts_high_is_a_fresh_start():
    head, tail = CHORALE.between(0, 2 * BAR), CHORALE.between(2 * BAR, 99 * BAR)
    flat = score(tail, head, last=False, surprisal=[1.0, 1.2] * 40)
    fresh = score(tail, head, last=False, surprisal=[4.0] * 10 + [1.0, 1.2] * 35)
    assert fresh.dimensions["continuity"] < flat.dimensions["continuity"]
    with pytest.raises(ValueError, match="finite"):
        score(tail, head, surprisal=[math.nan])


def test_every_metric_says_what_it_is_and_belongs_to_a_dimension():
    for name, metric in METRICS.items():
        assert metric.dimension in DIMENSIONS and metric.kind in ("count", "mean", "nats")
        assert metric.side in ("high", "low", "both") and metric.scope in ("any", "whole", "seam")
        assert metric.function.__doc__ and len(metric.function.__doc__) > 40, name
    assert set(DIMENSIONS) == {
        "voice leading",
        "counterpoint",
        "statistics",
        "structure",
        "theme",
        "boundary",
        "continuity",
        "completeness",
    }


def test_score_is_public():
    assert mlxgen.score is score


def test_a_chunk_of_two_thousand_tokens_takes_a_few_milliseconds():
    parts = [CHORALE] * 8
    whole = corruptions.joined(parts, CHORALE.length_bars * BAR)
    seam = 2 * CHORALE.length_bars * BAR
    chunk, context = whole.between(seam, whole.length_ticks), whole.between(0, seam)
    assert chunk.note_count > 400
    score(chunk, context, last=False, seam_ticks=seam)
    times = []
    for _ in range(15):
        started = time.process_time()
        score(chunk, context, last=False, seam_ticks=seam)
        times.append(time.process_time() - started)
    assert min(times) < 0.015  # measured 3.5 ms; a loop over notes would take ten times that
