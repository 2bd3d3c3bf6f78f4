"""The report and the audition page: what they say, and both clicked through in a headless Chromium."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import browser
import pytest
from tiny_folder import write_tiny_folder

from mlxgen.compose.audition import make_audition, make_pairs
from mlxgen.compose.chain import compose
from mlxgen.compose.engraving import can_engrave, engrave
from mlxgen.compose.outputs import markers_of, outline
from mlxgen.compose.page import as_script, make_page
from mlxgen.compose.plan import Plan, Section
from mlxgen.compose.report import make_report
from mlxgen.compose.settings import ChainSettings
from mlxgen.model.load import load
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key

MANIFEST = {"command": "mlxgen generate-long --plan mine.toml",
            "model": {"folder": "weights", "sha256": "ab" * 32},
            "versions": {"mlxgen": "0.1.0", "mlx": "0.30"}}
TUNE = Piece([[Note(480 * step, 480, 60 + step) for step in range(8)], [Note(0, 3840, 48)]], Key(0, "major"),
             tempo_bpm=120, title="Tune")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Settings, chunks and outline of a piece of three sections."""
    model, vocab = load(write_tiny_folder(tmp_path_factory.mktemp("model")))
    plan = Plan((Section("first", chunks=1), Section("<second>", chunks=1, key="dominant",
                                                     changes={"texture": "mixed"}),
                 Section("again", repeat="first")), title="A </script> & B")
    settings = ChainSettings(Conditioning(form="2-part"), Key(7, "major"), plan=plan, overlap=150,
                             chunk_tokens=150, num_candidates=3, seed=4, tempo_bpm=100)
    chunks = list(compose(model, vocab, settings))
    return settings, chunks, outline(settings, chunks, vocab)


@pytest.fixture(scope="module")
def page(run):
    settings, chunks, drawn = run
    return make_report(settings, chunks, drawn, MANIFEST)


class Cells(HTMLParser):
    """The text of every table row."""

    def __init__(self, text: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._in_cell = tag in ("td", "th") or (self._in_cell and tag in ("span", "i"))

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data


def test_the_report_holds_every_candidate_and_marks_the_pick(run, page):
    _, chunks, _ = run
    rows = Cells(page).rows
    for chunk in chunks:
        for row in chunk.candidates:
            found = [cells for cells in rows if cells[:3] == [str(row["number"]), f"{row['value']:.3f}",
                                                              f"{row['score']:.3f}"]]
            assert found
            for name, share in row["dimensions"].items():
                assert any(f"{share:.2f}" in cell for cell in found[0]), name
    assert page.count("<tr class='pick'>") == 2  # the third chunk is a repeat


def test_the_report_fetches_nothing(page):
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<(link|img|iframe|script)[^>]+(src|href)=", page)


def test_the_report_says_how_long_and_how_to_make_it_again(run, page):
    _, _, drawn = run
    seconds = round(drawn.piece.length_ticks / 480 * 60 / 100)
    assert f'<span id="whole">{seconds // 60}:{seconds % 60:02d}</span>' in page
    assert "mlxgen generate-long --plan mine.toml --seed 4" in page
    assert "ab" * 32 in page and "&quot;num_candidates&quot;: 3" in page
    rows = Cells(page).rows
    assert ["first", "1 to " + str(drawn.seams[0] // 1920), "G major"] in [cells[:3] for cells in rows]
    assert ["again", "G major"] in [[cells[0], cells[2]] for cells in rows if len(cells) > 3]
    assert any(cells[0] == "<second>" and cells[2] == "D major" and "texture mixed" in cells[4]
               for cells in rows if len(cells) == 5)


def test_names_cannot_break_out_of_the_page(page):
    assert "A &lt;/script&gt; &amp; B" in page
    assert "<second>" not in page
    assert page.count("</script>") == 2
    assert as_script("</script><!--") == '"\\u003c/script>\\u003c!--"'


def test_a_place_that_nothing_fills_is_an_error():
    with pytest.raises(ValueError, match="nothing fills"):
        make_page("audition.html", title="x")


def test_the_engraved_score_has_every_note_at_its_time(run):
    if not can_engrave():
        pytest.skip("verovio or music21 is not installed")
    engraving = engrave(TUNE)
    starts = sorted(start for _, start, _ in engraving.sounding)
    assert [float(step) for step in range(8)] == sorted(set(starts))
    text = "".join(engraving.pages)
    assert all(f'id="{name}"' in text for name, _, _ in engraving.sounding)
    assert engrave(TUNE).pages == engraving.pages


def test_pairs_are_all_pairs_once_in_shuffled_order():
    pairs = make_pairs(6, seed=1)
    assert len(pairs) == 15 and len({frozenset(pair) for pair in pairs}) == 15
    assert pairs != make_pairs(6, seed=2) and pairs == make_pairs(6, seed=1)
    assert any(a > b for a, b in pairs) and any(a < b for a, b in pairs)
    assert make_pairs(6, 1, 4) == pairs[:4]
    with pytest.raises(ValueError, match="2 or more"):
        make_pairs(1, seed=1)


def test_an_audition_needs_notes():
    with pytest.raises(ValueError, match=r"silent\.mid: no notes"):
        make_audition([("a.mid", TUNE), ("silent.mid", replace(TUNE, voices=[[], []]))])


@pytest.fixture
def window(tmp_path):
    lacking = browser.missing()
    if lacking:
        pytest.skip(lacking)
    with browser.Browser(tmp_path / "profile") as opened:
        yield opened


def test_the_report_plays_and_its_cursor_moves(window, page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    window.open(path)
    assert window.run("return document.querySelectorAll('#roll rect.note').length") == \
        window.run("return DATA.piece.voices.flat().length")
    assert window.run("return document.querySelectorAll('#roll line.seam').length") == 2
    before = window.run("return document.querySelector('.playhead').getAttribute('x1')")
    window.click("#play")
    window.wait("return player.playing && player.at > 480")
    assert window.run("return player.started") > 0
    assert window.run("return player.context.state") == "running"
    assert float(window.run("return document.querySelector('.playhead').getAttribute('x1')")) > float(before)
    if can_engrave():
        window.wait("return document.querySelectorAll('g.note.sounding').length > 0")
    window.click("#play")
    assert window.run("return player.playing") is False
    stopped = window.run("return player.at")
    assert window.run("return document.getElementById('play').textContent") == "Play"
    assert window.run("return player.at") == stopped
    window.click("#rewind")
    assert window.run("return document.getElementById('now').textContent") == "0:00"
    assert window.errors() == []


def test_the_report_plays_to_the_end_at_the_right_tempo(window, run, tmp_path):
    settings, chunks, drawn = run
    short = drawn._replace(piece=replace(TUNE, tempo_bpm=240), seams=[960, 1920],
                           sections=[(0, "first"), (960, "<second>"), (1920, "again")])
    path = tmp_path / "short.html"
    path.write_text(make_report(settings, chunks, short, MANIFEST), encoding="utf-8")
    window.open(path)
    window.run("window.began = performance.now()")
    window.click("#play")
    window.wait("return !player.playing && player.started > 0 && (window.ended = performance.now())")
    took_s = window.run("return (window.ended - window.began) / 1000")
    assert 1.9 <= took_s < 5  # 8 quarters at 240 are 2 s
    assert window.run("return player.started") == 9  # every note once
    assert window.run("return document.getElementById('play').textContent") == "Play"


def test_votes_are_kept_over_a_reload_and_exported(window, tmp_path):
    files = [(f"{name}.mid", replace(TUNE.transposed(step), title=name)) for step, name in enumerate("xyz")]
    path = tmp_path / "audition.html"
    path.write_text(make_audition(files, seed=3), encoding="utf-8")
    window.open(path)
    visible = window.run("return document.body.innerText")
    assert "x.mid" not in visible and "of 3" in visible
    window.click("#play-1")
    window.wait("return players[1].playing && players[1].started > 0 && players[1].at > 100")
    window.click("#play-0")
    window.wait("return players[0].playing && !players[1].playing")
    window.click("button[data-vote='B']")
    window.wait("return document.getElementById('number').textContent === '2'")
    assert window.run("return players.some((player) => player.playing)") is False
    window.click("button[data-vote='same']")
    counted = "return document.getElementById('count').textContent === '2 of 3 pairs'"
    window.wait(counted)
    time.sleep(1)  # Chromium writes localStorage behind the page's back
    window.open(path)
    window.wait(counted)
    assert window.run("return document.querySelector('[data-vote=B]').getAttribute('aria-pressed')") == "true"
    window.click("#export")
    exported = json.loads(window.run("return document.getElementById('exported').textContent"))
    pairs = make_pairs(3, 3)
    names = [f"{name}.mid" for name in "xyz"]
    first, second = exported["votes"]
    assert (first["a"], first["b"]) == (names[pairs[0][0]], names[pairs[0][1]])
    assert first["better"] == first["b"] and second["better"] is None
    assert window.errors() == []


def test_the_midi_file_says_where_sections_and_seams_are(run):
    _, _, drawn = run
    assert markers_of(drawn) == [(0, "first"), (drawn.seams[0], "<second>"), (drawn.seams[1], "again")]
    plain = drawn._replace(sections=[(0, "piece")], seams=[1920, 3840])
    assert markers_of(plain) == [(1920, "chunk 2"), (3840, "chunk 3")]
