"""Session and player together on a clock that the test turns, with an engine that needs no model."""

from __future__ import annotations

import random

import pytest
from jack import is_on, sounding
from show import BAR, BEAT, VOCAB_FILE, Show

from mlxgen.music.decode import decode
from mlxgen.music.piece import Note
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab
from mlxgen.perform.ending import final_chord
from mlxgen.perform.listen import ThemeListener, key_of, quantise
from mlxgen.perform.pace import slow_to
from mlxgen.perform.velocity import FLAT, VelocityShape, metric_weight, shape_velocity
from mlxgen.perform.wire import Order, TimedNote


@pytest.fixture(scope="module")
def vocab():
    return Vocab.load(VOCAB_FILE)


def test_it_plays_what_the_log_says_without_underruns(vocab):
    show = Show(vocab)
    show.run(30)
    assert len(show.sent()) > 100
    assert show.sent() == show.replayed()
    assert show.shared.get("underruns") == 0


def test_it_stays_two_bars_ahead_and_no_further(vocab):
    show = Show(vocab)
    show.run(10)
    assert 1.5 * BAR <= show.session.context.now_ticks - show.position.tick <= 2 * BAR + BEAT


@pytest.mark.parametrize(("name", "value"), [("temperature", 1.3), ("min_p", 0.2), ("style", "classical"),
                                             ("texture", "homophonic"), ("density", 2.0)])
def test_a_control_is_heard_within_a_beat_and_nothing_sounding_changes(vocab, name, value):
    show = Show(vocab)
    show.run(10)
    twin = Show(vocab)
    twin.run(10)
    assert show.sent() == twin.sent()
    asked_tick = show.position.tick
    show.control(name, value)
    show.run(6)
    twin.run(6)
    differ = [mine for mine, other in zip(show.sent(), twin.sent(), strict=False) if mine != other]
    assert differ, "the control changed nothing"
    assert len(show.truncated) == 1
    assert asked_tick < show.truncated[0] <= asked_tick + BEAT + 0.05 * 960
    assert differ[0][0] >= show.truncated[0]
    assert show.sent() == show.replayed()
    assert show.shared.get("underruns") == 0


def nothing_can_begin(show, tick, until_tick):
    """Whether every voice sounds from `tick` until `until_tick`."""
    held = {note.voice for note in show.tape().notes
            if note.start_ticks <= tick and note.start_ticks + note.duration_ticks >= until_tick}
    return held == {1, 2, 3, 4}


def test_fifty_controls_at_random_moments_are_all_heard_in_time(vocab):
    """What begins a beat and 50 ms after a control was made under it, also where it waited to be served; no
    underrun, no hung note.
    """
    dice = random.Random(7)
    show = Show(vocab)
    show.run(4)
    for number in range(50):
        show.run(dice.uniform(0.2, 1.6))
        name, value = dice.choice(
            [
                ("temperature", 0.5 + number / 100),
                ("style", dice.choice(["bach", "baroque"])),
                ("texture", dice.choice(["homophonic", "polyphonic", "mixed"])),
            ]
        )
        asked = show.position.tick - dice.choice([0, 120])
        count = len(show.truncated)
        show.control(name, value, asked)
        show.session.advance(show.position)
        assert len(show.truncated) == count + 1 or show.session.context.now_ticks <= asked + BEAT
        if not nothing_can_begin(show, asked + BEAT, show.truncated[-1]):
            assert show.truncated[-1] <= asked + BEAT + 0.05 * 960
    show.run(5)
    assert show.sent() == show.replayed()
    assert show.shared.get("underruns") == 0
    assert show.shared.get("late_count") == 0


def test_style_and_texture_keep_the_whole_history_and_the_engine(vocab):
    show = Show(vocab)
    show.run(10)
    ids = list(show.session.context.ids)
    show.control("style", "classical")
    show.control("texture", "homophonic")
    show.session.advance(show.position)
    assert [entry["op"] for entry in show.journal].count("prefix") == 1
    assert show.session.context.engine is show.engines[0]
    assert [entry["op"] for entry in show.journal].count("reset") == 1
    kept = show.session.context.ids[:-1]
    assert kept[:-1] == ids[:len(kept) - 1]         # the last one may be a shorter time shift
    assert vocab["STYLE_CLASSICAL"] in show.engines[0].ids[:show.engines[0].pinned]


def test_a_character_that_was_unsaid_makes_the_prefix_longer(vocab):
    show = Show(vocab, conditioning=Conditioning(form="2-part"))
    show.run(10)
    pinned = show.engines[0].pinned
    show.control("texture", "homophonic")
    show.run(5)
    assert show.engines[0].pinned == pinned + 1
    assert show.sent() == show.replayed()
    assert show.shared.get("underruns") == 0


def test_a_flood_of_controls_does_not_starve_the_music(vocab):
    show = Show(vocab)
    show.run(5)
    for number in range(600):
        show.control("temperature", 0.5 + (number % 100) / 100)
        show.run(0.01)
    assert show.shared.get("underruns") == 0
    assert show.sent() == show.replayed()


def test_an_unknown_style_changes_nothing(vocab):
    show = Show(vocab)
    show.run(3)
    with pytest.raises(ValueError, match="bach"):
        show.control("style", "jazz")
    show.run(3)
    assert show.session.conditioning.style == "bach"
    with pytest.raises(ValueError, match="control 'volume'"):
        show.control("volume", 3)


def test_panic_begins_again_with_other_draws(vocab):
    show = Show(vocab)
    show.run(8)
    first = show.sent()
    show.player.handle(Order(0, "panic", (0, 0, 0)))
    assert not sounding(show.messages())
    show.control("panic")
    show.run(8)
    again = show.sent()[len(first):]
    assert len(again) > 10
    begin = again[0][0]
    assert begin % BAR == 0 and begin > first[-1][0]            # in the recording it comes after the first
    assert [(tick - begin, pitch) for tick, pitch in again[:10]] != first[:10]
    assert show.player.epoch == 2
    assert len({entry["seed"] for entry in show.journal if entry["op"] == "reset"}) == 2


def test_bars_end_with_a_chord_at_the_bar_line(vocab):
    show = Show(vocab, bars=6)
    show.run(30)
    assert show.player.state == "ended"
    assert not sounding(show.messages())
    last = [row for row in show.sent() if row[0] == 5 * BAR]
    assert len(last) == 4
    assert {pitch % 12 for _, pitch in last} <= {0, 3, 7}
    assert max(tick for tick, _ in show.sent()) == 5 * BAR


def test_cadence_and_end_comes_to_an_end(vocab):
    show = Show(vocab)
    show.run(6)
    show.control("end")
    assert show.session.rules.eos == "ask"
    show.run(40)
    assert show.player.state == "ended"
    assert not sounding(show.messages())
    assert show.sent() == show.replayed()


def test_a_model_that_never_moves_the_clock_is_moved(vocab):
    show = Show(vocab, stuck=True)
    show.run(30)
    assert show.session.context.now_ticks > 4 * BEAT


def test_where_the_rules_leave_nothing_to_draw_the_clock_goes_to_the_next_beat(vocab):
    show = Show(vocab)
    show.run(3)
    engine, pads = show.engines[0], []
    step = engine.step

    def step_into_nothing():
        drawn = step()
        if len(engine.ids) > 300 and len(pads) < 3:
            pads.append(drawn)
            engine.ids[-1] = drawn.ids[0] = vocab["PAD"]
        return drawn

    engine.step = step_into_nothing
    show.run(6)
    assert len(pads) == 3
    assert show.shared.get("underruns") == 0
    assert vocab["PAD"] not in show.session.context.ids


TWO_BEATS = " TimeShift_480 BEAT_2 TimeShift_480"
STAGGERED = ("VOICE_2 OCT_3 DEG_1 Dur_960 TimeShift_60 VOICE_1 OCT_4 DEG_1 Dur_960 TimeShift_360 "
             "TimeShift_60 BEAT_2 TimeShift_480")


@pytest.mark.parametrize(("names", "tick", "clock", "voices", "durations"), [
    ("VOICE_1 OCT_4 DEG_1 Dur_720" + TWO_BEATS, 740, 840, (), [720]),           # free from 720 on
    ("VOICE_1 OCT_4 DEG_1 Dur_960" + TWO_BEATS, 700, 720, (1,), [720]),
    ("VOICE_1 OCT_4 DEG_1 Dur_960" + TWO_BEATS, 740, 960, (), [960]),           # no duration ends in time
    ("VOICE_1 OCT_4 DEG_1 Dur_960 VOICE_2 OCT_3 DEG_1 Dur_1440" + TWO_BEATS, 700, 720, (1, 2), [720, 720]),
    (STAGGERED, 700, 720, (2,), [720, 960]),        # the older of two notes has a duration that ends in time
])
def test_a_turn_stops_the_clock_where_a_voice_is_free_or_frees_one(vocab, names, tick, clock, voices,
                                                                   durations):
    show = Show(vocab)
    show.session.context.append([vocab[name] for name in names.split()])
    assert show.session.context.rewind_to(tick, 860) == voices
    assert show.session.context.now_ticks == clock
    assert sorted(note.duration_ticks for note in show.tape().notes) == durations


def test_a_turn_is_heard_in_time_though_every_voice_holds_a_note(vocab):
    """The chord is let go where the new music begins, and the log replays to what was sent."""
    show = Show(vocab, chords=True)
    show.run(6)
    for number in range(40):
        show.run(0.7 + 0.13 * number % 0.9)
        asked = show.position.tick
        count = len(show.truncated)
        show.control("temperature", 0.5 + number / 100)
        if len(show.truncated) > count:
            assert show.truncated[-1] <= asked + BEAT + 0.05 * 960
    show.run(4)
    assert len(show.shortened) >= 5
    assert show.sent() == show.replayed()
    notes = [(note.start_ticks, note.pitch, note.start_ticks + note.duration_ticks)
             for note in show.tape().notes]
    alone = {note for note in notes if sum(other[1] == note[1] and other[0] < note[2] and note[0] < other[2]
                                           for other in notes) == 1}
    until = show.position.tick
    assert {note for note in alone if note[2] < until} <= set(show.sounded())
    assert set(show.shortened) & {note[2] for note in alone if note[2] < until}
    assert show.shared.get("underruns") == 0


def test_a_theme_opens_and_is_recalled_in_the_next_voice(vocab):
    theme = (Note(0, 480, 60), Note(480, 240, 63), Note(720, 240, 67), Note(960, 960, 72))
    show = Show(vocab, theme=theme)
    show.run(5)
    assert show.sent()[:4] == [(0, 60), (480, 63), (720, 67), (960, 72)]
    show.control("recall")
    show.control("recall")
    show.run(8)
    entries = [entry["ids"] for entry in show.journal if entry["op"] == "append"]
    assert len(entries) == 2                    # the opening and one recall: asked twice before it came
    assert show.sent() == show.replayed()
    pitches = [pitch for _, pitch in show.sent()]
    assert any(pitches[n:n + 1] == [60] for n in range(4, len(pitches)))


def test_a_theme_longer_than_the_buffer_opens_and_is_recalled_in_time(vocab):
    """It is posted at once: while the buffer is full of it, nothing else is drawn."""
    theme = tuple(Note(480 * number, 480, 60 + number % 5) for number in range(14))
    show = Show(vocab, theme=theme)
    show.run(12)
    assert show.sent()[:14] == [(note.start_ticks, note.pitch) for note in theme]
    show.control("recall")
    show.run(12)
    assert [entry["op"] for entry in show.journal].count("append") == 2
    assert show.shared.get("underruns") == 0
    assert show.sent() == show.replayed()


def test_a_given_theme_stays_in_front_of_every_later_context(vocab):
    theme = (
        Note(0, 480, 60),
        Note(480, 240, 63),
        Note(720, 240, 67),
        Note(960, 960, 72),
        Note(1920, 480, 60),
    )
    show = Show(vocab, theme=theme)
    show.run(9)
    show.control("key", "G minor")
    show.run(4)
    first, second = [entry for entry in show.journal if entry["op"] == "reset"]
    assert first["pin_more"] > 15
    piece = decode(second["pinned"], vocab)
    assert [note.pitch for note in piece.voices[0]] == [note.pitch for note in theme]
    assert second["history"][0] == vocab["BAR"]
    assert show.sent() == show.replayed()


def test_a_pause_stops_generation_and_it_goes_on(vocab):
    show = Show(vocab)
    show.run(6)
    show.player.handle(Order(0, "pause", (1, 0, 0)))
    show.run(1)
    ids = len(show.session.context.ids)
    show.run(5)
    assert len(show.session.context.ids) == ids
    show.player.handle(Order(0, "pause", (0, 0, 0)))
    show.run(5)
    assert show.sent() == show.replayed()
    assert show.shared.get("underruns") == 0


def test_the_playhead_never_goes_back(vocab):
    """A turn of a knob while time waits for its beat may not take back what has sounded."""
    show = Show(vocab)
    show.run(4)
    for number, nothing_s in enumerate((2.5, 0.4, 7.0, 0.3, 5.1)):
        for _ in range(round(nothing_s * 100)):
            show.now_s += 0.01
            if number % 2 == 0:
                show.player.step()              # an underrun; else a stall
        for step in range(100):
            show.run(0.01)
            assert show.position.tick >= show.sent()[-1][0] - 1e-6
            if step == 20:
                show.control("temperature", 0.5 + number / 10)
    assert show.shared.get("underruns") >= 1
    assert show.shared.get("stalls") >= 1
    assert show.sent() == show.replayed()


def test_notes_that_are_nudged_are_not_taken_back_nor_awaited(vocab):
    """Sooner by more than a fast machine promises: a turn leaves what is being sent. Later: and what was."""
    dice = random.Random(1)
    for nudges in ((-0.15, -0.15), (-0.2, 0.2)):
        show = Show(vocab)
        show.step_s = 0.001
        show.run(8)
        for number in range(40):
            show.player.handle(Order(0, "nudge", (dice.uniform(*nudges), 0, 0)))
            show.run(dice.uniform(0.01, 0.5))
            show.control("temperature", 0.5 + number / 80)
            show.run(dice.uniform(0, 1))
        assert show.shared.get("underruns") == 0
        assert show.sent() == show.replayed()


def test_a_slow_generator_underruns_by_beats_and_says_so(vocab):
    show = Show(vocab)
    show.run(4)
    show.now_s += 7.0                           # prefilled, swapped, whatever: seven seconds of nothing
    show.run(5)
    assert show.shared.get("underruns") + show.shared.get("stalls") >= 1
    ons = [at_s for at_s, message in show.port.sent if is_on(message)]
    crowd = max(sum(1 for other in ons if at_s <= other < at_s + 0.05) for at_s in ons)
    assert crowd <= 8                           # a chord or two, no burst


def test_an_answer_begins_on_the_bar_line_after_the_theme(vocab):
    show = Show(vocab, listen=True, find_key=True)
    show.run(1)
    assert show.sent() == []
    show.player.handle(Order(1, "start", (0, 0, 0)))
    theme = [
        Note(0, 480, 62),
        Note(480, 480, 66),
        Note(960, 480, 69),
        Note(1440, 480, 62),
        Note(1920, 480, 61),
        Note(2400, 480, 62),
    ]
    for count in range(1, 7):
        show.run(theme[count - 1].end_ticks / 960 - (show.now_s - 51.0))
        show.session.answer.hear(theme[:count], False, show.position)
    show.run(0.5)
    show.session.answer.hear(theme, True, show.position)
    show.run(6)
    first = show.sent()[0][0]
    assert first >= 2 * BAR
    assert first < 2 * BAR + BEAT
    assert show.session.key == Key(2, "major")
    assert show.shared.get("underruns") == 0
    assert show.sent() == show.replayed()       # the theme itself is not ours to play
    # Somebody plays again: the music gives way.
    show.session.answer.hear([Note(round(show.position.tick / 120) * 120, 480, 62)], False, show.position)
    show.run(1)
    count = len(show.sent())
    show.run(2)
    assert len(show.sent()) == count
    assert not sounding(show.messages())


def test_reading_the_theme_while_it_is_played_gives_the_same_context_as_reading_it_at_once(vocab):
    theme = [Note(0, 480, 60), Note(480, 240, 62), Note(720, 1200, 63)]
    slowly, atonce = Show(vocab, listen=True), Show(vocab, listen=True)
    for count in (1, 2, 3):
        slowly.session.answer.hear(theme[:count], False, slowly.position)
    for show in (slowly, atonce):
        show.session.answer.hear(theme, True, show.position)
    assert slowly.session.context.ids == atonce.session.context.ids
    assert slowly.engines[-1].ids == atonce.engines[-1].ids


def test_quantise_puts_notes_on_sixteenths_and_cuts_overlaps():
    played = [(8, 500, 60), (470, 900, 62), (961, 1010, 64), (955, 1200, 55)]
    assert quantise(played, (60, 120, 240, 480, 960)) == [
        Note(0, 480, 60),
        Note(480, 480, 62),
        Note(960, 120, 64),
    ]


def test_a_theme_is_over_after_a_beat_of_silence_or_a_long_held_note():
    listener = ThemeListener(BEAT, BAR, (120, 240, 480, 960))
    listener.feed([0x90, 60, 80], 0)
    assert not listener.is_over(BAR - 1)
    assert listener.is_over(BAR)                # still held
    assert listener.notes(BAR) == [Note(0, 960, 60)]
    listener.feed([0x90, 60, 0], 500)
    assert not listener.is_over(900)
    assert listener.is_over(980)
    assert key_of([Note(0, 480, pitch) for pitch in (60, 64, 67, 72, 65, 62, 59, 60)]) == Key(0, "major")


def test_velocities_follow_meter_and_phrase():
    shape = VelocityShape()
    beats = [shape_velocity(Note(tick, 240, 67), 2, (4, 4), shape) for tick in (0, 480, 960, 240)]
    assert beats[0] > beats[2] > beats[1] > beats[3]
    assert metric_weight(720, (6, 8)) == 0.5
    assert {
        shape_velocity(Note(tick, 1, 60), 1, (4, 4), VelocityShape(80, 0, 0, 0))
        for tick in range(0, 8000, 60)
    } == {80}
    assert shape_velocity(Note(0, 1, 60), 1, (4, 4), FLAT) == FLAT.base
    with pytest.raises(ValueError, match="1 to 127"):
        VelocityShape(base=0)


@pytest.mark.parametrize("voices", [2, 3, 4])
@pytest.mark.parametrize("mode", ["major", "minor"])
def test_the_last_chord_is_a_triad_in_order_on_the_tonic(voices, mode):
    dice = random.Random(voices)
    for root in range(12):
        last = {voice: dice.randint(40, 80) for voice in range(1, voices + 1) if dice.random() < 0.8}
        chord = final_chord(Key(root, mode), last, voices)
        assert chord == sorted(chord, reverse=True)
        assert chord[-1] % 12 == root
        third = (root + (4 if mode == "major" else 3)) % 12
        assert {pitch % 12 for pitch in chord} <= {root, third, (root + 7) % 12}
        assert voices == 2 or third in {pitch % 12 for pitch in chord}


def test_timed_notes_of_a_long_performance_stay_exact(vocab):
    show = Show(vocab)
    show.run(2)
    assert all(isinstance(tick, int) for tick in show.session.context.ticks)
    assert TimedNote(0, 1, 2, 3, 4).voice == 3


def test_a_machine_that_cannot_keep_up_is_given_a_tempo_that_it_can():
    ticks = [24 * number for number in range(300)]          # 20 ids a quarter
    assert slow_to(ticks, 100.0, 960.0) == 0.0              # 120 bpm needs 40 ids a second
    assert slow_to(ticks, 30.0, 960.0) == 72.0
    assert slow_to(ticks, 30.0, 0.0) == 0.0
