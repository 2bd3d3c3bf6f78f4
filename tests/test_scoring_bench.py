"""What the scorer's bench counts with: by hand, and each corruption spoils what it says and nothing else."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from handmade_chorale import CHORALE, long_chorale

from bench import corruptions, faults
from bench.adversaries import TypicalFakes, make_copy, mean_surprisal
from bench.fang import FEATURES, Judge, distance, quality
from bench.score_corpus import piece_of_frames
from bench.score_parts import Parts
from bench.score_rows import ROWS
from bench.score_statistics import auc, bootstrap, spearman, variance_shares
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key
from mlxgen.scoring.metrics import DIMENSIONS
from mlxgen.scoring.score import score

BAR = 1920


def random():
    return np.random.default_rng(7)


def test_auc_by_hand():
    assert auc([3, 2], [1, 0]) == 1.0
    assert auc([0], [1]) == 0.0
    assert auc([1, 1], [1]) == 0.5
    assert auc([2, 0], [1]) == 0.5


def test_spearman_sees_order_only():
    assert spearman([1, 2, 3], [1, 10, 11]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 2, 3], [5, 5, 5]) == 0.0


def test_bootstrap_holds_the_truth_and_repeats():
    sample = np.random.default_rng(1).normal(5, 1, 200)
    low, high = bootstrap(np.mean, sample)
    assert low < 5.05 and high > 4.95 and high - low < 0.4
    assert (low, high) == bootstrap(np.mean, sample)


def test_variance_shares_add_up_and_name_the_culprit():
    generator = np.random.default_rng(0)
    columns = {"loud": generator.normal(0, 3, 500), "quiet": generator.normal(0, 1, 500)}
    shares = variance_shares(columns, columns["loud"] + columns["quiet"])
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["loud"] == pytest.approx(0.9, abs=0.05)


def pitches(piece):
    return [[note.pitch for note in voice] for voice in piece.voices]


def rhythm(piece):
    return [[(note.start_ticks, note.duration_ticks) for note in voice] for voice in piece.voices]


def test_faults_are_planted_where_they_say():
    whole = long_chorale()
    for fault, begin in (
        (faults.last_chord_astray, whole.length_ticks),
        (faults.last_bars_astray, whole.length_ticks - 2 * BAR),
        (faults.half_astray, whole.length_ticks // 2 // BAR * BAR),
    ):
        astray = fault(whole, random())
        steps = {
            (right.pitch - left.pitch, left.start_ticks >= begin or left.end_ticks == whole.length_ticks)
            for own, new in zip(whole.voices, astray.voices, strict=True)
            for left, right in zip(own, new, strict=True)
        }
        assert rhythm(astray) == rhythm(whole) and (0, False) in steps and len(steps - {(0, False)}) == 1
    moved = faults.make_scale_jitter(0.3)(CHORALE, random())
    steps = np.concatenate(pitches(moved)) - np.concatenate(pitches(CHORALE))
    assert rhythm(moved) == rhythm(CHORALE) and set(np.abs(steps)) <= {0, 1, 2} and (steps != 0).mean() > 0.15
    assert all(pitch % 12 in (9, 11, 1, 2, 4, 6, 8) for pitch in np.concatenate(pitches(moved))[steps != 0])
    fewer = faults.make_left_out(0.3)(CHORALE, random())
    assert 0.5 < fewer.note_count / CHORALE.note_count < 0.9
    assert all(set(new) <= set(own) for own, new in zip(CHORALE.voices, fewer.voices, strict=True))
    limping = faults.make_rhythm_jitter(0.3)(CHORALE, random())
    assert pitches(limping) == pitches(CHORALE) and rhythm(limping) != rhythm(CHORALE)
    assert all(
        left.end_ticks <= right.start_ticks and left.duration_ticks >= 60
        for voice in limping.voices
        for left, right in pairwise(voice)
    )


def test_one_bar_is_moved_and_no_other():
    whole = long_chorale()
    odd = faults.one_bar_astray(whole, random())
    moved = [
        (left.start_ticks // BAR, right.pitch - left.pitch)
        for own, new in zip(whole.voices, odd.voices, strict=True)
        for left, right in zip(own, new, strict=True)
        if left != right
    ]
    assert len(set(moved)) == 1 and 0 < moved[0][0] < whole.length_bars - 1


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (faults.leading_notes_lowered, [67, 69, 64, 61, 70]),
        (faults.accidentals_removed, [67, 69, 64, 60, 69]),
    ],
)
def test_notes_outside_the_scale_are_changed_and_no_others(fault, wanted):
    voices = [[Note(480 * at, 480, pitch) for at, pitch in enumerate((68, 69, 64, 61, 70))]]
    (voice,) = fault(Piece(voices, Key.parse("A minor")), random()).voices
    assert [note.pitch for note in voice] == wanted


def test_corruptions_spoil_what_they_say():
    jittered = corruptions.make_jitter(0.2)(CHORALE, random())
    assert rhythm(jittered) == rhythm(CHORALE)
    moved = [
        right.pitch - left.pitch
        for own, new in zip(CHORALE.voices, jittered.voices, strict=True)
        for left, right in zip(own, new, strict=True)
    ]
    assert 0.1 < np.mean(np.array(moved) != 0) < 0.3 and set(moved) <= {-2, -1, 0, 1, 2}
    shuffled = corruptions.shuffled(CHORALE, random())
    assert rhythm(shuffled) == rhythm(CHORALE)
    for own, new in zip(CHORALE.voices, shuffled.voices, strict=True):
        assert Counter(note.pitch for note in own) == Counter(note.pitch for note in new)
    higher = corruptions.tenor_semitone_up(CHORALE, random())
    assert [new == own for own, new in zip(CHORALE.voices, higher.voices, strict=True)] == [
        True,
        True,
        False,
        True,
    ]


def test_forced_fifths_touch_the_tenor_only_and_grow_with_the_share():
    counts = []
    for share in (0.05, 0.5):
        spoiled = corruptions.make_parallel_fifths(share)(CHORALE, random())
        assert [spoiled.voices[at] for at in (0, 1, 3)] == [CHORALE.voices[at] for at in (0, 1, 3)]
        counts.append(sum(finding.rule == "parallel fifths" for finding in score(spoiled).findings))
    assert counts[0] < counts[1]


def test_permuted_bars_are_the_same_bars_and_a_loop_is_two_of_them():
    permuted = corruptions.bars_permuted(CHORALE, random())
    assert Counter(map(str, corruptions.sections(permuted))) == Counter(
        map(str, corruptions.sections(CHORALE))
    )
    loop = corruptions.sections(corruptions.looped(CHORALE, random()), 2)
    assert len({str(span.voices) for span in loop}) == 1


def test_a_splice_is_the_one_piece_and_then_the_other():
    spliced, seam = corruptions.splice_at_seam(CHORALE, [long_chorale()], random())
    assert seam % BAR == 0
    for own, new in zip(CHORALE.voices, spliced.voices, strict=True):
        kept = [note[::2] for note in new if note.start_ticks < seam]
        assert kept == [note[::2] for note in own if note.start_ticks < seam]
    with pytest.raises(ValueError, match="voices"):
        corruptions.splice_at_seam(CHORALE, [CHORALE], random())


def test_a_jump_leaves_four_bars_out():
    jumped, _ = corruptions.jump_at_seam(long_chorale(), random())
    assert jumped.length_ticks == long_chorale().length_ticks - 4 * BAR


def test_every_dimension_claims_a_row_and_every_row_is_claimed():
    assert {dimension for row in ROWS.values() for dimension in row.claimed} == set(DIMENSIONS)
    assert all(row.claimed for row in ROWS.values())


@pytest.mark.parametrize("name", ROWS)
def test_every_row_spoils_a_piece_the_same_way_each_time(name):
    corrupt = ROWS[name].make([CHORALE, long_chorale()])
    spoiled = corrupt(CHORALE, random())
    assert spoiled.voices != CHORALE.voices and spoiled == corrupt(CHORALE, random())


def test_a_stopped_bench_goes_on_where_it_was(tmp_path, capsys):
    made = []

    def part(name, fails=False):
        def make():
            if fails:
                raise KeyboardInterrupt
            made.append(name)
            return {name: (1, 2)}
        return make

    kept = tmp_path / "kept.json"
    with pytest.raises(KeyboardInterrupt):
        Parts({"a": (1, part("a")), "b": (1, part("b", fails=True))}, kept).run()
    result = Parts({"a": (1, part("a")), "b": (1, part("b"))}, kept).run()
    assert made == ["a", "b"] and result == {"a": [1, 2], "b": [1, 2]}
    assert "[2/2] b" in capsys.readouterr().err
    assert Parts({"a": (1, part("a", fails=True)), "b": (1, part("b"))}, kept).run() == result


class TinyCorpus:
    families = ("quartet",)

    def __init__(self):
        pieces = [CHORALE, long_chorale(), CHORALE.transposed(2), long_chorale().transposed(-3)]
        self.chorales = {"train": pieces, "valid": pieces}
        self.others = {"quartet": []}


def test_the_whole_bench_repeats_itself_and_prints(monkeypatch, tmp_path):
    from bench import score_quality
    from bench.score_print import write_table

    monkeypatch.setattr(score_quality, "PICK_SIZES", (4,))
    first, again = (score_quality.run(TinyCorpus(), "valid") for _ in range(2))
    table = write_table(first)
    assert table == write_table(again)
    assert all(f"| {row} |" in table for row in ROWS) and "Held-out quartet: none found" in table
    assert {row["row"] for row in first["adversaries"]} >= {"random canons", "over-typical fakes"}


def test_wasserstein_distance_by_hand():
    corpus = Counter(a=6, b=3, c=1)
    assert distance(Counter(a=6, b=3, c=1), corpus) == pytest.approx(0)
    assert distance(Counter(c=1), corpus) == pytest.approx(0.6 + 0.9)  # all mass moves to the last rank
    assert distance(Counter(z=1), corpus) == pytest.approx(0.6 + 0.9 + 1)  # a category Bach has not
    assert distance(Counter(), corpus) == 0


def test_chord_qualities_ignore_root_and_octave():
    assert quality([60, 64, 67]) == quality([55, 59, 74]) == "major"
    assert quality([62, 65, 69, 72]) == "minor seventh"
    assert quality([60, 61, 62]) == "other"


def test_the_judge_prefers_its_bach():
    judge = Judge([CHORALE, long_chorale()])
    spoiled = corruptions.make_jitter(0.4)(CHORALE, random())
    assert set(judge.features(CHORALE)) == set(FEATURES)
    assert judge.grade(spoiled) > judge.grade(CHORALE) + 1


def test_the_judge_never_saw_the_scorer():
    """Picking and judging share no code: an import would let one leak into the other."""
    import ast
    import inspect

    import bench.fang as fang

    names = [
        node.module or ""
        for node in ast.walk(ast.parse(inspect.getsource(fang)))
        if isinstance(node, ast.ImportFrom)
    ]
    assert names and not [name for name in names if "scoring" in name]


def test_fakes_are_more_typical_than_what_they_are_made_of():
    fakes = TypicalFakes([CHORALE, long_chorale()], tries=6)
    made = fakes(CHORALE, random())
    alone = TypicalFakes([CHORALE, long_chorale()], tries=1)
    usual = np.mean([mean_surprisal(alone(CHORALE, np.random.default_rng(seed))) for seed in range(6)])
    assert mean_surprisal(made) < usual and len(made.voices) == 4
    copied = make_copy([CHORALE])(long_chorale(), random())
    assert rhythm(copied) == rhythm(CHORALE)


def test_frames_become_notes():
    piece = piece_of_frames([[72, 67, 64, 48]] * 4 + [[74, 67, 64, 48]] * 2 + [[-1, 67, 64, 48]] * 2)
    assert [tuple(note) for note in piece.voices[0]] == [(0, 480, 72), (480, 240, 74)]
    assert [tuple(note) for note in piece.voices[3]] == [(0, 960, 48)]


def test_training_leaves_out_what_is_judged():
    from weights.recipe.event_corpus import held_out, split_corpus
    from weights.recipe.sources import Entry

    def entry(name, form, piece):
        return Entry(name, "here", "none", form, "bach", piece)

    files = [f"openscore/haydn/{number}" for number in range(40)]
    rows = [
        ("valid", entry("jsb/valid/0", "chorale", CHORALE)),
        ("train", entry("jsb/train/0", "chorale", CHORALE.transposed(3))),
        ("train", entry("jsb/train/1", "chorale", long_chorale())),
        (None, entry("music21/bach/bwv1#1", "chorale", CHORALE.transposed(-2))),
        *((None, entry(f"{file}#1", "quartet", CHORALE)) for file in files),
    ]
    samples = split_corpus(rows)
    assert [sample.split for sample in samples[:4]] == [
        "valid", "train as valid", "train", "music21 as valid"
    ]
    assert [sample.split == "test" for sample in samples[4:]] == [held_out(file) for file in files]
    assert 0 < sum(sample.split == "test" for sample in samples[4:]) < 20
    assert all((sample.fold >= 0) == (sample.split == "train") for sample in samples)
