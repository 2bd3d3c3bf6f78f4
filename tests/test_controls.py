"""The registry, the desk, CC knobs of every kind, learning, the TOML file, OSC and clock in."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxgen.perform.controls import CONTROLS, Desk
from mlxgen.perform.mapping import Binding, Mapping, default_bindings, load_mapping, save_mapping
from mlxgen.perform.osc import feed_osc, open_osc, read_osc
from mlxgen.perform.sync import CLOCK, CONTINUE, START, STOP, ClockFollower


@pytest.fixture
def heard():
    return []


@pytest.fixture
def desk(heard):
    return Desk(CONTROLS, {}, lambda control, value, source: heard.append((control.name, value, source)))


def test_no_key_and_no_cc_has_two_controls():
    keys = [key for control in CONTROLS.values() for key in control.keys]
    assert len(keys) == len(set(keys))
    assert not {"q", "L"} & set(keys)       # the screen's own
    ccs = [control.cc for control in CONTROLS.values()]
    assert len(ccs) == len(set(ccs))
    assert not {64, 120, 123} & set(ccs)    # ours to send


def test_every_control_is_reachable_by_key_cc_osc_and_name(heard):
    for name, control in CONTROLS.items():
        for turn in ("key", "cc", "osc", "name"):
            desk = Desk(CONTROLS, {}, lambda control, value, source: heard.append(control.name))
            heard.clear()
            other = control.moved(desk.values[name], 1) if control.kind != "action" else 1
            if turn == "key":
                assert desk.press(control.keys[-1])
            elif turn == "cc":
                place = 127 if control.to_unit(desk.values[name]) < 0.5 or control.kind == "action" else 0
                Mapping(default_bindings(CONTROLS)).feed([0xB0, control.cc, place], desk)
            elif turn == "osc":
                feed_osc(osc_bytes(control.osc, other), desk)
            else:
                desk.turn(name, other, "log")
            assert heard == [name], (name, turn)


def osc_bytes(address, *arguments):
    from pythonosc.osc_message_builder import OscMessageBuilder

    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build().dgram


@pytest.mark.parametrize(("name", "value", "problem"), [
    ("temperature", 5, "0.1 to 2"), ("temperature", "warm", "a number"), ("style", "jazz", "bach, baroque"),
    ("key", "H major", "C major"), ("loudness", 1, "temperature")])
def test_a_wrong_value_is_refused_with_the_range(desk, heard, name, value, problem):
    with pytest.raises(ValueError, match=problem):
        desk.turn(name, value, "osc")
    assert heard == []


def test_a_value_that_is_there_already_is_not_told_again(desk, heard):
    desk.turn("temperature", 1.0, "cc")
    desk.turn("temperature", 1.0, "cc")
    assert len(heard) == 1


@given(st.sampled_from(sorted(CONTROLS)), st.floats(0, 1))
def test_a_fader_reaches_every_place_and_comes_back(name, place):
    control = CONTROLS[name]
    if control.kind == "action":
        return
    value = control.check(control.from_unit(place))
    again = control.from_unit(control.to_unit(value))
    assert again == value or abs(again - value) < 1e-9 * max(1, abs(value))


def test_an_absolute_knob_jumps_and_a_pickup_knob_waits(desk):
    absolute = Mapping([Binding("temperature", 20)])
    absolute.feed([0xB0, 20, 127], desk)
    assert desk.values["temperature"] == 2.0
    pickup = Mapping([Binding("temperature", 20, mode="pickup")])
    for place in (10, 60, 100):
        pickup.feed([0xB0, 20, place], desk)
        assert desk.values["temperature"] == 2.0
    pickup.feed([0xB0, 20, 127], desk)          # now it has hold of it
    pickup.feed([0xB0, 20, 100], desk)
    assert desk.values["temperature"] == pytest.approx(0.1 + 1.9 * 100 / 127)


def test_a_pickup_knob_that_passes_the_value_between_two_messages_takes_hold(desk):
    desk.turn("temperature", 1.05, "osc")       # the middle
    pickup = Mapping([Binding("temperature", 20, mode="pickup")])
    pickup.feed([0xB0, 20, 20], desk)
    assert desk.values["temperature"] == 1.05
    pickup.feed([0xB0, 20, 110], desk)
    assert desk.values["temperature"] > 1.5


def test_a_relative_knob_steps_both_ways(desk):
    knob = Mapping([Binding("tempo", 22, mode="relative")])
    desk.turn("tempo", 100, "osc")
    knob.feed([0xB0, 22, 3], desk)
    assert desk.values["tempo"] == 103
    knob.feed([0xB0, 22, 126], desk)
    assert desk.values["tempo"] == 101


def test_a_button_acts_when_pressed_and_not_when_released(desk, heard):
    mapping = Mapping(default_bindings(CONTROLS))
    mapping.feed([0xB0, CONTROLS["panic"].cc, 127], desk)
    mapping.feed([0xB0, CONTROLS["panic"].cc, 0], desk)
    assert [name for name, _, _ in heard] == ["panic"]


def test_learning_takes_the_next_cc_from_whoever_had_it(desk):
    mapping = Mapping(default_bindings(CONTROLS))
    mapping.learn("tempo")
    mapping.feed([0x90, 60, 100], desk)         # a note is no knob
    mapping.feed([0xB3, CONTROLS["temperature"].cc, 64], desk)
    assert mapping.changed
    before = desk.values["temperature"]
    mapping.feed([0xB3, CONTROLS["temperature"].cc, 127], desk)
    assert desk.values["tempo"] == 300
    assert desk.values["temperature"] == before
    mapping.feed([0xB0, CONTROLS["temperature"].cc, 0], desk)   # learned on channel 4 only
    assert desk.values["tempo"] == 300


def test_the_mapping_file_comes_back_as_it_went(tmp_path, desk):
    mapping = Mapping(default_bindings(CONTROLS))
    mapping.learn("style")
    mapping.feed([0xB1, 77, 0], desk)
    path = tmp_path / "deep" / "controls.toml"
    save_mapping(path, mapping)
    loaded = load_mapping(path, CONTROLS)
    assert Binding("style", 77, 2) in loaded.bindings
    assert sorted(loaded.bindings, key=str) == sorted(mapping.bindings, key=str)
    assert load_mapping(tmp_path / "absent.toml", CONTROLS).bindings == default_bindings(CONTROLS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[volume]\ncc = 3", "temperature"),
        ("[tempo]\ncc = 300", "0 to 127"),
        ("[tempo]\nmode = 'wild'", "absolute"),
        ("[tempo]\nknob = 3", "cc, channel, mode"),
        ("[tempo", "not TOML"),
        ("tempo = 3", "cc, channel, mode"),
    ],
)
def test_a_bad_mapping_file_is_refused(tmp_path, text, problem):
    path = tmp_path / "controls.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        load_mapping(path, CONTROLS)


def test_osc_over_a_real_socket(desk, heard):
    import socket

    listener = open_osc(0)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    complaints = []
    for data in (
        osc_bytes("/mlxgen/temperature", 0.5),
        osc_bytes("/mlxgen/panic"),
        osc_bytes("/mlxgen/panic", 0),
        osc_bytes("/mlxgen/style", "classical"),
        osc_bytes("/mlxgen/nothing", 1),
        b"rubbish",
    ):
        sender.sendto(data, listener.getsockname())
    time.sleep(0.05)
    read_osc(listener, desk, complaints.append)
    assert heard == [("temperature", 0.5, "osc"), ("panic", 1, "osc"), ("style", "classical", "osc")]
    assert len(complaints) == 2
    listener.close()
    sender.close()


def pulses(follower, count, bpm, begin_s=0.0, jitter_s=0.0, seed=1):
    wobble, orders = random.Random(seed), []
    for number in range(count):
        orders += follower.feed(
            [CLOCK], begin_s + number * 60 / bpm / 24 + wobble.uniform(-jitter_s, jitter_s)
        )
    return orders


def test_clock_in_starts_on_the_first_pulse_after_start_and_finds_the_tempo():
    follower = ClockFollower()
    assert follower.feed([START], 0.99) == []
    orders = pulses(follower, 97, 133.0, begin_s=1.0, jitter_s=0.001)
    assert orders[0][:1] == ("go",)
    syncs = [order for order in orders if order[0] == "sync"]
    assert len(syncs) >= 12
    for _, quarters, at_s, bpm in syncs[2:]:
        assert bpm == pytest.approx(133.0, rel=0.01)
        assert at_s == pytest.approx(1.0 + quarters * 60 / 133.0, abs=0.001)


def test_clock_in_stop_continue_and_song_position():
    follower = ClockFollower()
    assert follower.feed([STOP], 0) == [("pause", 1)]
    follower.feed([0xF2, 8, 0], 1)              # the eighth sixteenth: two quarters
    follower.feed([CONTINUE], 1)
    assert follower.feed([CLOCK], 1.1) == [("go", 1.1), ("pause", 0, 1.1)]
    assert follower.quarters == pytest.approx(2 + 1 / 24)


def test_a_lost_clock_does_not_bend_the_tempo():
    follower = ClockFollower()
    pulses(follower, 48, 120.0)
    orders = pulses(follower, 48, 120.0, begin_s=9.0)
    assert all(order[3] == pytest.approx(120.0) for order in orders)


def test_an_osc_sender_that_never_stops_leaves_time_for_everything_else(desk, heard):
    class Flood:
        def recv(self, _most):
            return osc_bytes("/mlxgen/temperature", 0.5 + len(heard) % 2)

    read_osc(Flood(), desk, pytest.fail)
    assert 0 < len(heard) < 1000
