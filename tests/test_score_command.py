"""mlxgen score: JSON, table, page and errors, through the command line that users call."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from handmade_chorale import CHORALE, long_chorale

from bench import corruptions
from mlxgen.commands.score import command
from mlxgen.files.midi import write_midi
from mlxgen.music.piece import Note, Piece
from mlxgen.scoring.measure import Finding, by_place
from mlxgen.scoring.metrics import DIMENSIONS, METRICS
from mlxgen.scoring.report import explained, make_page, most_costly, worst_metrics
from mlxgen.scoring.score import score


@pytest.fixture
def files(tmp_path):
    spoiled = corruptions.make_parallel_fifths(0.4)(CHORALE, np.random.default_rng(1))
    paths = [tmp_path / "good.mid", tmp_path / "bad & <odd>.mid"]
    for piece, path in zip((CHORALE, spoiled), paths, strict=True):
        write_midi(piece, path)
    return paths


def run(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_json_is_one_object_a_file_with_bar_voices_and_rule(files):
    result = run(*files, "--json")
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    assert [good["file"], bad["file"]] == [str(path) for path in files]
    assert set(good) == {"file", "composite", "dimensions", "findings"}
    assert set(good["dimensions"]) == set(DIMENSIONS)
    assert 0 <= bad["composite"] < good["composite"] <= 1
    fifths = [finding for finding in bad["findings"] if finding["rule"] == "parallel fifths"]
    assert fifths and all(finding["voices"] == [3, 4] or 4 in finding["voices"] for finding in fifths[:3])
    assert all(1 <= finding["bar"] <= CHORALE.length_bars + 1 for finding in bad["findings"])


def test_json_agrees_with_python_on_the_file(files):
    from mlxgen.files.read import read_score

    composite = json.loads(run(files[1], "--json").stdout)["composite"]
    assert composite == round(score(read_score(files[1])).composite, 4)


def test_the_table_names_the_composite_the_dimensions_and_the_worst_places(files):
    text = run(files[1]).stdout
    assert all(name in text for name in DIMENSIONS)
    assert re.search(r"bar \d+, voices \d and \d, beat [\d.]+: parallel fifths \(", text)
    assert "more: --findings" in text
    assert "training pieces" not in text
    assert "bar" not in run(files[1], "--findings", 0).stdout.split("composite")[1].split("and")[0]


def test_the_page_is_one_file_with_names_made_safe(files):
    result = run(files[1], "--report")
    page = files[1].with_suffix(".score.html").read_text()
    assert str(files[1].with_suffix(".score.html")) in result.stdout
    assert "<odd>" not in page and "&lt;odd&gt;" in page
    assert "parallel fifths" in page and "<svg" in page and "http" not in page


def test_one_page_for_several_files(files, tmp_path):
    run(*files, "--report", tmp_path / "both.html")
    assert (tmp_path / "both.html").read_text().count("<section>") == 2


@pytest.mark.parametrize("name", ["absent.mid", "piece.docx"])
def test_what_cannot_be_read_is_an_error_that_names_the_file(tmp_path, name):
    if name != "absent.mid":
        (tmp_path / name).write_bytes(b"not music")
    result = run(tmp_path / name)
    assert isinstance(result.exception, OSError | ValueError) and name in str(result.exception)


def test_the_costliest_findings_are_those_of_the_costliest_rules():
    result = score(corruptions.make_parallel_fifths(1.0)(long_chorale(), np.random.default_rng(0)))
    chosen = most_costly(result, 5)
    rules = {one.rule for one in result.findings}
    cost = {rule: METRICS[rule].weight * result.penalties[rule] for rule in rules}
    assert chosen == sorted(chosen, key=by_place) and len(chosen) == 5
    assert max(cost, key=cost.get) in {finding.rule for finding in chosen}
    assert worst_metrics(result, "voice leading").startswith("parallel fifths")


def test_a_page_of_silence_is_a_page():
    from mlxgen.music.piece import Piece

    silent = Piece([[], []])
    assert "silence" in make_page([("nothing", silent, score(silent))])


def test_a_finding_names_its_notes():
    piece = Piece(
        [
            [Note(480 * at, 480, pitch) for at, pitch in enumerate((67, 69, 71, 72))],
            [Note(480 * at, 480, pitch) for at, pitch in enumerate((60, 62, 64, 65))],
        ]
    )
    details = [explained(piece, finding) for finding in score(piece).findings
               if finding.rule == "parallel fifths"]
    assert details[0] == "beat 2: parallel fifths (G4 over C4 to A4 over D4)"
    lone = Finding(1, (1,), "wide leaps", "beat 3: a leap", 960)
    assert explained(piece, lone) == "beat 3: a leap (A4 to B4)"
    assert explained(piece, lone._replace(voices=())) == "beat 3: a leap (E4 B4)"
    assert explained(piece, lone._replace(ticks=9600, voices=())) == "beat 3: a leap"


def test_the_table_says_where_who_and_what(tmp_path):
    piece = Piece([[Note(480 * at, 480, base + at) for at in range(8)] for base in (67, 60)])
    write_midi(piece, tmp_path / "fifths.mid")
    text = run(tmp_path / "fifths.mid").stdout
    assert "bar 1, voices 1 and 2, beat 2: parallel fifths (G4 over C4 to " in text
    assert "2 voices, 2 bars, 16 notes" in text


def test_a_page_in_a_folder_that_is_not_there_is_refused_before_anything_is_judged(files, tmp_path):
    result = run(files[0], "--report", tmp_path / "absent" / "page.html")
    assert isinstance(result.exception, ValueError) and not result.stdout
    assert f"there is no folder {tmp_path / 'absent'}" in str(result.exception)
