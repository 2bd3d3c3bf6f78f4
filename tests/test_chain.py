"""The chain: chunks, context, candidates, endings; the same piece alone, resumed, on several processes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import tiny as tiny_models
from tiny_folder import write_tiny_folder

from mlxgen.compose.attempt import Attempt, candidate_seed
from mlxgen.compose.chain import check_settings, compose, stitched
from mlxgen.compose.ending import encode_bars, find_cadences
from mlxgen.compose.judge import ranked, with_values
from mlxgen.compose.plan import Plan, Section, simple_plan
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.shards import Shards
from mlxgen.compose.steps import Chunk, Step, make_prompt, move_to_key, next_step, section_ids
from mlxgen.compose.stitch import bar_count
from mlxgen.model.load import load
from mlxgen.music.decode import decode
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key, pitch_to_degree
from mlxgen.music.vocab import Vocab

G_MAJOR, E_MINOR, D_MAJOR = Key(7, "major"), Key(4, "minor"), Key(2, "major")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load(write_tiny_folder(tmp_path_factory.mktemp("model")))


def settings(**changes) -> ChainSettings:
    base = ChainSettings(Conditioning(form="2-part"), G_MAJOR, plan=simple_plan(chunks=3), overlap=120,
                         chunk_tokens=120, num_candidates=3, seed=11)
    return replace(base, **changes)


def run(tiny, chosen: ChainSettings, done=()) -> list[Chunk]:
    return list(compose(*tiny, chosen, done))


def test_chunks_are_whole_bars_and_the_piece_is_as_long_as_they_are(tiny):
    chosen = settings()
    chunks = run(tiny, chosen)
    _, vocab = tiny
    assert len(chunks) == 3 and [chunk.closing for chunk in chunks] == [False, False, True]
    piece, starts = stitched(chosen, chunks, vocab)
    bars = [bar_count(chunk.ids, vocab) for chunk in chunks]
    assert starts == [0, bars[0] * piece.bar_ticks, (bars[0] + bars[1]) * piece.bar_ticks]
    for chunk in chunks:
        assert chunk.ids[0] == vocab["BAR"] and vocab["EOS"] not in chunk.ids
        row = next(row for row in chunk.candidates if row["number"] == chunk.pick)
        assert row["value"] == max(row["value"] for row in chunk.candidates) or chunk.closing
    for voice in piece.voices:
        assert all(a.end_ticks <= b.start_ticks for a, b in pairwise(voice))


def test_the_same_settings_give_the_same_piece_and_another_seed_another(tiny):
    first, again, other = run(tiny, settings()), run(tiny, settings()), run(tiny, settings(seed=12))
    assert first == again
    assert [chunk.ids for chunk in first] != [chunk.ids for chunk in other]


@pytest.mark.parametrize("finished", [1, 2])
def test_a_resumed_chain_goes_on_to_the_same_piece(tiny, finished):
    whole = run(tiny, settings())
    assert run(tiny, settings(), whole[:finished]) == whole[finished:]


def test_a_context_is_cut_to_a_bar_line_and_to_the_overlap(tiny):
    _, vocab = tiny
    chosen = settings(overlap=70)
    chunks = run(tiny, chosen)[:2]
    step = next_step(chosen, chunks, vocab)
    prompt = make_prompt(chosen, chunks, step, vocab, room=500)
    assert 0 < len(prompt.context) <= 70
    assert prompt.context[0] == vocab["BAR"]
    joined = [token for chunk in chunks for token in chunk.ids]
    assert prompt.context == joined[-len(prompt.context):]
    assert prompt.opening == [vocab["BAR"], vocab["BEAT_1"]]
    assert prompt.ids[0] == vocab["BOS"]


def test_an_overlap_larger_than_the_model_holds_is_what_the_model_holds(tiny):
    model, _ = tiny
    chosen = settings(overlap=100_000, chunk_tokens=300)
    chunks = run(tiny, chosen)
    assert all(chunk.context_tokens + 300 < model.config.max_seq_len for chunk in chunks)
    assert max(chunk.context_tokens for chunk in chunks) > 200


def test_chunk_tokens_that_leave_no_room_are_refused(tiny):
    model, vocab = tiny
    with pytest.raises(ValueError, match="expected at most"):
        check_settings(settings(chunk_tokens=model.config.max_seq_len), vocab, model.config.max_seq_len)


def test_bars_are_met_within_the_slack(tiny):
    _, vocab = tiny
    for goal in (3, 12):
        chunks = run(tiny, settings(plan=simple_plan(bars=goal), chunk_tokens=200))
        assert abs(sum(bar_count(chunk.ids, vocab) for chunk in chunks) - goal) <= 3
        assert chunks[-1].closing


def test_a_new_section_in_another_key_sees_the_same_notes_spelled_anew(tiny):
    _, vocab = tiny
    plan = Plan((Section("a", chunks=1), Section("b", chunks=1, key="relative", cadence="full")))
    chosen = settings(plan=plan)
    first = run(tiny, chosen)[0]
    step = next_step(chosen, [first], vocab)
    assert step.key == E_MINOR
    prompt = make_prompt(chosen, [first], step, vocab, room=600)
    assert vocab["KEY_E_minor"] in prompt.prefix
    spelled = decode([*prompt.prefix, *prompt.context], vocab)
    piece, _ = stitched(chosen, [first], vocab)
    home = make_prompt(chosen, [], next_step(chosen, [], vocab), vocab, room=600).prefix
    decoded = decode([*home, *first.ids], vocab)
    tail = decoded.length_bars - spelled.length_bars
    shifted = decoded.between(max(0, tail) * piece.bar_ticks, 10**9)
    assert [note.pitch for voice in spelled.voices for note in voice] == \
        [note.pitch for voice in shifted.voices for note in voice][-spelled.note_count:]


def test_a_recalled_theme_opens_the_section_on_the_same_degrees(tiny):
    _, vocab = tiny
    plan = Plan((Section("a", chunks=1), Section("b", chunks=1, key="dominant", recall="a", recall_bars=1,
                                                 cadence="full")))
    chosen = settings(plan=plan)
    first, second = run(tiny, chosen)
    assert second.key == D_MAJOR and second.forced > 2
    theme = stitched(chosen, [first], vocab)[0].between(0, 1920)
    recalled = stitched(replace(chosen, key=D_MAJOR), [second], vocab)[0].between(0, 1920)
    for old, new in zip(theme.voices, recalled.voices, strict=True):
        assert [pitch_to_degree(note.pitch, G_MAJOR)[1:] for note in old] == \
            [pitch_to_degree(note.pitch, D_MAJOR)[1:] for note in new][:len(old)]


def test_a_repeat_is_the_same_bars_again(tiny):
    plan = Plan((Section("a", chunks=1), Section("b", chunks=1), Section("c", repeat="a")))
    chunks = run(tiny, settings(plan=plan))
    assert chunks[2].ids == chunks[0].ids and chunks[2].pick is None


def test_a_theme_opens_the_piece_and_stays_in_the_prefix(tiny):
    _, vocab = tiny
    theme = ((Note(0, 480, 67), Note(480, 480, 69), Note(960, 960, 71)), ())
    chosen = settings(theme=theme, overlap=40)
    chunks = run(tiny, chosen)
    piece, _ = stitched(chosen, chunks, vocab)
    assert piece.voices[0][:3] == list(theme[0])
    step = next_step(chosen, chunks[:2], vocab)
    pinned = make_prompt(chosen, chunks[:2], step, vocab, room=800).prefix
    assert decode(pinned, vocab).voices[0] == list(theme[0])


@pytest.fixture(scope="module")
def sectioned():
    """A model whose vocabulary has SECTION_ tokens."""
    plain = tiny_models.make_vocab()
    names = [*plain.names, "SECTION_EXPOSITION", "SECTION_DEV", "SECTION_B"]
    vocab = Vocab({"tokenizer_type": plain.kind, "token_to_name": dict(enumerate(names)), "config": {}})
    return tiny_models.make_model(vocab, max_seq_len=1024), vocab


PLAN = Plan((Section("exposition", bars=3), Section("development", chunks=2, key="relative"),
             Section("trio", bars=3, token="B", cadence="full")))


def test_sections_and_closes_are_written_where_the_vocabulary_has_tokens_for_them(sectioned):
    _, vocab = sectioned
    chosen = settings(plan=PLAN, markers=True, overlap=500)
    chunks = run(sectioned, chosen)
    tokens = {0: "SECTION_EXPOSITION", 1: "SECTION_DEV", 2: "SECTION_B"}
    for chunk in chunks:
        assert [vocab.name(token) for token in chunk.ids[:2]] == [tokens[chunk.section], "BAR"]
    context = make_prompt(chosen, chunks, Step(9, 2, G_MAJOR, True, True), vocab, room=800).context
    assert vocab["SECTION_B"] in context
    unmarked = [replace(chunk, ids=[token for token in chunk.ids
                                    if not vocab.name(token).startswith(("SECTION_", "CAD_"))])
                for chunk in chunks]
    assert stitched(chosen, chunks, vocab) == stitched(chosen, unmarked, vocab)


def test_where_it_has_none_the_prefix_says_what_changes(tiny):
    _, vocab = tiny
    plan = Plan((Section("first", chunks=1),
                 Section("second", chunks=1, key="dominant", changes={"harmonic_tension": "high"})))
    chosen = settings(plan=plan)
    first = run(tiny, settings(plan=Plan(plan.sections[:1])))
    before, after = (make_prompt(chosen, chunks, next_step(chosen, chunks, vocab), vocab, room=800).prefix
                     for chunks in ([], first))
    assert vocab["HARMONIC_TENSION_HIGH"] in after and vocab["KEY_D_major"] in after
    assert vocab["HARMONIC_TENSION_HIGH"] not in before and vocab["KEY_G_major"] in before


@pytest.mark.parametrize(("name", "token", "found"), [
    ("development", None, "SECTION_DEV"), ("Exposition", None, "SECTION_EXPOSITION"),
    ("first theme", "exposition", "SECTION_EXPOSITION"), ("ballad", None, None), ("trio", "B", "SECTION_B"),
    ("coda", "recapitulation", None),
])
def test_a_section_finds_its_token(sectioned, name, token, found):
    _, vocab = sectioned
    assert section_ids(Section(name, chunks=1, token=token), vocab) == ([vocab[found]] if found else [])


@pytest.mark.parametrize("markers", [True, False])
def test_a_close_is_marked_for_models_that_know_the_marks(tiny, markers):
    model, vocab = tiny
    chosen = settings(markers=markers)
    step = next_step(chosen, [], vocab)
    attempt = Attempt(model, vocab, chosen, [], step, shards=Shards(), report=lambda _: None)
    rows = [{**row(0, 0.5, 0.5, "PAC", 1.0), "findings": []}]
    chunk = attempt.chunk(rows, {0: [vocab["BAR"], vocab["BEAT_1"]]}, 0)
    assert chunk.cadence == "PAC"
    assert chunk.ids == [vocab["BAR"], vocab["BEAT_1"], *([vocab["CAD_PAC"]] if markers else [])]


class _Half(Shards):
    """One of two processes, run one after the other: what it gathers is put in by hand."""

    def __init__(self, rank: int, others: list):
        self.rank, self.size, self.others = rank, 2, others

    def gather(self, value):
        self.others.append(value)
        return [value]


def test_two_processes_make_the_candidates_of_one(tiny):
    model, vocab = tiny
    chosen = settings(num_candidates=5)
    step = next_step(chosen, [], vocab)
    found: list = []
    for rank in range(2):
        Attempt(model, vocab, chosen, [], step, shards=_Half(rank, found), report=lambda _: None).draw()
    rows, takes = Attempt(model, vocab, chosen, [], step, shards=Shards(), report=lambda _: None).draw()
    together = {int(number): ids for part in found for number, ids in part["takes"].items()}
    assert together == takes
    gathered = sorted((row for part in found for row in part["rows"]), key=lambda row: row["number"])
    assert with_values(gathered) == rows


def test_candidate_seeds_differ_by_seed_chunk_and_number():
    seeds = {candidate_seed(seed, chunk, number)
             for seed in range(5) for chunk in range(5) for number in range(20)}
    assert len(seeds) == 500


def row(number: int, score: float, surprisal: float, cadence: str = "", weight: float = 0.0) -> dict:
    return {"number": number, "score": score, "surprisal": surprisal, "density": 1.0, "cadence": cadence,
            "cadence_weight": weight}


def test_too_typical_is_as_suspect_as_too_wild():
    rows = with_values([row(number, 0.5, surprisal) for number, surprisal in
                        enumerate([0.5, 0.51, 0.49, 0.5, 0.52, 0.48, 0.1, 0.9])])
    values = [one["value"] for one in rows]
    assert values[6] < min(values[:6]) and values[7] < min(values[:6])
    assert values[6] == pytest.approx(values[7], abs=1e-3)


def test_a_seam_that_stands_out_of_the_candidates_own_bar_lines_costs():
    lines = [-1.0, -0.5, 0.0, 0.5]
    seams = [None, -2.0, 0.1, 0.5, 1.5]
    rows = with_values([{**row(number, 0.5, 0.5), "seam": seam, "bar_lines": lines}
                        for number, seam in enumerate(seams)])
    values = [one["value"] for one in rows]
    assert values[0] == values[1] == values[2] > values[3] > values[4]
    unlike = with_values([{**row(number, 0.5, 0.5), "seam": 1.5, "bar_lines": [line + 2 for line in lines]}
                          for number in range(2)])
    assert unlike[0]["value"] == values[0]  # among such lines that seam is one like others


def test_a_closing_chunk_prefers_a_cadence_and_an_open_one_does_not():
    rows = with_values([row(0, 0.9, 0.5), row(1, 0.4, 0.5, "PAC", 1.0), row(2, 0.4, 0.5, "IAC", 0.3)])
    closing = Step(1, 0, G_MAJOR, closing=True, last=True)
    assert [one["number"] for one in ranked(rows, closing)] == [1, 2, 0]
    assert ranked(rows, replace(closing, closing=False))[0]["number"] == 0


def chord(tick: int, *pitches: int) -> list[tuple[int, Note]]:
    return [(voice, Note(tick, 480, pitch)) for voice, pitch in enumerate(pitches)]


def four_part(*chords, meter=(4, 4)) -> Piece:
    voices: list[list[Note]] = [[], [], [], []]
    for number, pitches in enumerate(chords):
        for voice, note in chord(480 * number, *pitches):
            voices[voice].append(note)
    return Piece(voices, G_MAJOR, meter)


TONIC, DOMINANT = (67, 62, 59, 43), (66, 62, 57, 50)
TONIC_THIRD_ON_TOP, SUBDOMINANT = (71, 62, 59, 43), (67, 64, 60, 48)


@pytest.mark.parametrize(("chords", "kinds"), [
    ([TONIC, SUBDOMINANT, DOMINANT, TONIC], ["PAC"]),
    ([TONIC, SUBDOMINANT, DOMINANT, TONIC_THIRD_ON_TOP], ["IAC"]),
    ([TONIC, SUBDOMINANT, TONIC, SUBDOMINANT], []),
    ([DOMINANT, SUBDOMINANT, TONIC, DOMINANT], []),
])
def test_full_cadences(chords, kinds):
    assert [cadence.kind for cadence in find_cadences(four_part(*chords), G_MAJOR)] == kinds


def test_a_half_cadence_rests_on_the_dominant():
    piece = four_part(TONIC, SUBDOMINANT, TONIC, DOMINANT)
    assert [(one.tick, one.kind) for one in find_cadences(piece, G_MAJOR, want="half")] == [(1440, "HC")]
    assert find_cadences(piece, D_MAJOR, want="half") == []


def test_moving_to_the_other_mode_keeps_leading_tones(tiny):
    _, vocab = tiny
    piece = Piece([[Note(0, 480, 71), Note(480, 480, 75), Note(960, 480, 76)]], E_MINOR)  # B D# E
    moved = move_to_key(piece, Key(4, "major"), vocab)
    assert [note.pitch for note in moved.voices[0]] == [71, 75, 76]
    moved = move_to_key(Piece([[Note(0, 480, 67)]], E_MINOR), Key(4, "major"), vocab)  # G becomes G#
    assert [note.pitch for note in moved.voices[0]] == [68]


@pytest.mark.parametrize(("goal", "closes"), [(2, True), (3, False)])
def test_a_row_that_has_closed_at_its_goal_is_not_drawn_any_further(tiny, goal, closes):
    model, vocab = tiny
    chosen = settings(conditioning=Conditioning(form="chorale"), plan=simple_plan(bars=goal))
    step = next_step(chosen, [], vocab)
    attempt = Attempt(model, vocab, chosen, [], step, shards=Shards(), report=lambda _: None)
    stop = attempt._stop()
    piece = four_part(*[TONIC] * 3, DOMINANT, TONIC, *[SUBDOMINANT] * 3)  # the close is in bar 2
    drawn = [*encode_bars(piece, 0, 2, vocab), vocab["BAR"]][len(attempt.prompt.opening):]
    assert [stop(drawn[:end]) for end in range(1, len(drawn) + 1)] == [False] * (len(drawn) - 1) + [closes]


@pytest.mark.parametrize(("beat", "weight"), [(1, 1.0), (2, 0.4), (3, 0.9), (4, 0.4)])
def test_a_close_in_the_bars_last_beat_is_a_weak_one(beat, weight):
    start_ticks = 1920 + 480 * (beat - 2)
    voices = [[Note(start_ticks, 480, before), Note(start_ticks + 480, 480, after)]
              for before, after in zip(DOMINANT, TONIC, strict=True)]
    (close,) = find_cadences(Piece(voices, G_MAJOR), G_MAJOR)
    assert close.weight == pytest.approx(weight)


def test_a_close_with_silent_voices_is_weaker_and_a_dominant_without_its_third_weaker_still():
    weights = []
    for dominant, tonic in ((DOMINANT, TONIC), ((66, 62, 57, 50), (67, 62, 59, None)),
                            ((None, 62, None, 50), TONIC)):
        voices = [[Note(1440 + 480 * at, 480, pitch) for at, pitch in enumerate(pair) if pitch is not None]
                  for pair in zip(dominant, tonic, strict=True)]
        weights.append([cadence.weight for cadence in find_cadences(Piece(voices, G_MAJOR), G_MAJOR)])
    full, silent_bass, no_third = weights
    assert full == [pytest.approx(1.0)] and not silent_bass and no_third[0] < 0.5


def test_a_window_slides_over_a_chunk_that_is_longer(tiny):
    """The prefix and the last ids fit the window, whatever the prefix may fall behind."""
    model, vocab = tiny
    chosen = settings(plan=simple_plan(chunks=2), overlap=400, chunk_tokens=300, window=256)
    first = run(tiny, replace(chosen, plan=simple_plan(chunks=1)))
    step = next_step(chosen, first, vocab)
    attempt = Attempt(model, vocab, chosen, first, step, shards=Shards(), report=lambda _: None)
    engine = attempt._engine()
    plan = engine.cache.plan
    assert plan.prefix == len(attempt.prompt.prefix) and plan.prefix + plan.window + 64 == 256
    wide = replace(chosen, window=None)
    whole = Attempt(model, vocab, wide, first, step, shards=Shards(), report=lambda _: None)
    assert whole._engine().cache.plan.window >= len(whole.prompt.ids) + 300 - plan.prefix


@pytest.mark.parametrize(("generation", "option", "expected"), [
    ({}, None, None), ({"window": 700}, None, 700), ({"window": 700}, 400, 400)])
def test_the_model_folder_says_how_far_to_look_back(tmp_path, generation, option, expected):
    from mlxgen.commands.long_run import _window

    assert _window({"window": option}, generation, tmp_path) == expected


def test_a_window_that_is_no_number_is_refused(tmp_path):
    from mlxgen.commands.long_run import _window

    with pytest.raises(ValueError, match="window 'wide'"):
        _window({}, {"window": "wide"}, tmp_path)
