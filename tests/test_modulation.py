"""Key changes: at which bar line they come, on machines of any speed, and what may be turned meanwhile."""

from __future__ import annotations

import random

import pytest
from show import BAR, BEAT, PREFILL_ID_S, STEP_S, VOCAB_FILE, Show

from mlxgen.music.decode import Decoder
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab
from mlxgen.perform.context import READ_IDS

KEYS = ("G major", "D minor", "Bb major", "E minor")


@pytest.fixture(scope="module")
def vocab():
    return Vocab.load(VOCAB_FILE)


def came_at(show, number=-1):
    """The tick at which the music went on in another key."""
    return [entry for entry in show.journal if entry.get("by") == "key"][number]["from_tick"]


def run_into_bar(show, beats):
    """Until the playhead stands so many beats into a bar."""
    show.run(((beats * BEAT - show.position.tick) % BAR) / 960)


@pytest.mark.parametrize(("slower", "beats"), [(1, 0.3), (1, 2.9), (2, 0.3), (2, 2.2), (5, 0.3)])
def test_on_a_slow_machine_a_new_key_comes_at_the_next_bar_line(vocab, slower, beats):
    """Its speed is what it was when the music began, or a half, or a fifth of that since a moment ago."""
    show = Show(vocab)
    show.run(12)
    show.prefill_id_s, show.step_s = slower * PREFILL_ID_S, min(slower, 2) * STEP_S
    run_into_bar(show, beats)
    asked = show.position.tick
    show.control("key", "G major")
    show.run(3)
    assert came_at(show) == -(-int(asked) // BAR) * BAR
    assert show.said == []
    assert show.shared.get("underruns") == 0
    assert show.sent() == show.replayed()


def test_what_cannot_be_in_time_is_said_when_it_is_asked_for(vocab):
    """Half a second before the line, a machine that takes longer to read: no attempt, the bar after it."""
    show = Show(vocab)
    show.prefill_id_s = 8 * PREFILL_ID_S
    show.run(20)
    run_into_bar(show, 3)
    asked = show.position.tick
    show.control("key", "G major")
    line = -(-int(asked) // BAR) * BAR + BAR
    assert show.said == [f"G major: no time before this bar line, from bar {line // BAR + 1} on"]
    show.run(4)
    assert came_at(show) == line
    assert len(show.said) == 1
    assert show.shared.get("underruns") == 0


@pytest.mark.parametrize("turns", [False, True])
def test_keys_on_a_machine_whose_speed_changes_all_the_time(vocab, turns):
    """No underrun. A key comes within a bar and what the machine needs at its slowest; where other knobs are
    turned at the same time, it comes.
    """
    for seed in range(4):
        dice, show = random.Random(seed), Show(vocab)
        show.run(8)
        for number in range(30):
            slower = dice.choice((0.5, 1, 1, 2, 3))
            show.step_s, show.prefill_id_s = slower * STEP_S / 2, slower * PREFILL_ID_S
            asked = show.position.tick
            show.control("key", KEYS[number % 4])
            for _ in range(dice.choice((0, 1, 2)) if turns else 0):
                show.run(dice.uniform(0.05, 0.6))
                show.control(*dice.choice([("temperature", dice.uniform(0.5, 1.2)), ("recall",),
                                           ("style", dice.choice(("bach", "classical")))]))
            show.run(dice.uniform(5.0, 7.0))
            assert show.session.modulation is None
            assert turns or came_at(show) - asked <= BAR + 1.2 * 960
        assert show.shared.get("underruns") == 0
        assert show.shared.get("late_count") == 0
        assert show.sent() == show.replayed()


def test_a_reading_keeps_nobody_waiting(vocab):
    """Between two blocks of it any control is served: no piece of work is longer than a block."""
    show = Show(vocab)
    show.run(12)
    run_into_bar(show, 0.2)
    show.control("key", "G major")
    longest = 0.0
    for _ in range(1000):
        began_s = show.now_s
        if not show.session.advance(show.position):
            show.now_s += 0.002
        show.player.step()
        longest = max(longest, show.now_s - began_s)
    assert came_at(show)
    assert longest <= max(READ_IDS * PREFILL_ID_S, STEP_S) + 1e-9


def test_a_turn_while_a_key_is_read_is_heard_within_a_beat_and_the_key_still_comes(vocab):
    """Of what was read, the blocks before the turn are not read again."""
    show = Show(vocab)
    show.run(20)
    run_into_bar(show, 0.2)
    asked = show.position.tick
    show.control("key", "G major")
    show.run(0.4)
    assert show.session.modulation is not None
    engines, read = len(show.engines), len(show.engines[-1].ids)
    assert read > 300
    show.control("temperature", 1.3)
    assert show.truncated[-1] <= show.position.tick + BEAT
    show.run(4)
    assert came_at(show) == -(-int(asked) // BAR) * BAR
    assert len(show.engines) == engines
    assert READ_IDS < max(show.engines[-1].rewound) < read
    assert show.sent() == show.replayed()
    assert show.shared.get("underruns") == 0


def test_a_key_that_is_turned_back_before_it_came_changes_nothing(vocab):
    show, twin = Show(vocab), Show(vocab)
    for each in (show, twin):
        each.run(12)
        run_into_bar(each, 0.2)
    show.control("key", "G major")
    for each in (show, twin):
        each.run(0.3)
    show.control("key", "C minor")
    for each in (show, twin):
        each.run(5)
    assert show.sent() == twin.sent()


def test_a_knob_swept_over_all_keys_ends_in_the_last_one(vocab):
    """A new key every 80 ms for five seconds."""
    show = Show(vocab)
    show.run(12)
    for number in range(60):
        show.control("key", KEYS[number % 4])
        show.run(0.08)
    show.run(4)
    assert show.session.key == Key.parse(KEYS[59 % 4])
    assert len([entry for entry in show.journal if entry.get("by") == "key"]) <= 3
    assert show.shared.get("underruns") == 0
    assert show.sent() == show.replayed()


def test_the_end_of_a_piece_comes_though_the_key_changes_before_it(vocab):
    show = Show(vocab, bars=8)
    show.run(7)
    show.control("key", "G major")
    show.run(10)
    assert show.player.state == "ended"
    assert show.session.key == Key(7, "major")
    assert show.sent() == show.replayed()


@pytest.mark.parametrize("id_s", [0.004, 0.01])
def test_a_machine_too_slow_for_a_key_change_plays_on_and_changes_at_a_later_bar_line(vocab, id_s):
    """The first reading is given up; then the machine's pace is known and less is read."""
    show = Show(vocab)
    show.run(9.3)
    show.prefill_id_s = id_s
    show.control("key", "G major")
    show.run(8)
    assert show.shared.get("underruns") == 0
    assert any("trying the next" in text for text in show.said)
    assert show.session.key == Key(7, "major")
    assert show.sent() == show.replayed()


def test_a_key_change_sounds_from_the_next_bar_line_and_not_before(vocab):
    show, twin = Show(vocab), Show(vocab)
    for each in (show, twin):
        each.run(9.3)
    asked = show.position.tick
    show.control("key", "G major")
    for each in (show, twin):
        each.run(8)
    line = -(-int(asked + 0.75 * BEAT) // BAR) * BAR
    before = [row for row in show.sent() if row[0] < line]
    assert before == [row for row in twin.sent() if row[0] < line]
    assert show.sent() != twin.sent()
    resets = [entry for entry in show.journal if entry["op"] == "reset"]
    assert resets[-1]["pinned"][-1] == vocab["KEY_G_major"]
    assert show.session.key == Key(7, "major")
    # The history is the same music, spelled in the new key.
    heard = {row for row in show.sent() if resets[-1]["start_ticks"] <= row[0] < line}
    decoder = Decoder(vocab)
    spelled = [
        note for token in [*resets[-1]["pinned"], *resets[-1]["history"]] for note in decoder.feed(token)
    ]
    assert {(note.start_ticks + resets[-1]["start_ticks"], note.pitch) for _, note in spelled} == heard
    assert show.shared.get("underruns") == 0
    assert show.sent() == show.replayed()


def test_controls_meet_a_pending_key_change(vocab):
    show = Show(vocab)
    show.run(9.1)
    show.control("key", "A minor")
    show.run(0.1)
    show.control("style", "renaissance")
    show.control("temperature", 0.4)
    show.run(6)
    assert show.session.key == Key(9, "minor")
    pinned = [entry["pinned"] for entry in show.journal if entry["op"] == "reset"][-1]
    assert vocab["KEY_A_minor"] in pinned
    assert vocab["STYLE_RENAISSANCE"] in pinned
    assert show.sent() == show.replayed()
    assert show.shared.get("underruns") == 0
