"""The player on a clock that the test turns: deadlines, underruns, stalls, panic, sync, and no hung note
ever.
"""

from __future__ import annotations

import math
import multiprocessing
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jack import has_panicked, is_off, is_on, sounding

from mlxgen.perform.player import Player, PlayerSettings
from mlxgen.perform.ports import FakePort
from mlxgen.perform.shared import Shared
from mlxgen.perform.wire import Notes, Order, TimedNote, pack_notes, pack_order, unpack

CONTEXT = multiprocessing.get_context("spawn")
BEAT = 480


class Stage:
    """A player at 120 bpm (a beat is 0.5 s, a tick 1/960 s) with its own clock and a recording port."""

    def __init__(self, **options):
        self.now_s = 100.0
        self.port = FakePort(now=lambda: self.now_s)
        self.shared = Shared(CONTEXT)
        self.player = Player(
            self.port, self.shared, PlayerSettings(tempo_bpm=120, **options), now=lambda: self.now_s
        )
        self.order("flush", 1, epoch=1)

    def order(self, name, *values, epoch=1):
        self.player.handle(Order(epoch, name, (*values, 0.0, 0.0, 0.0)[:3]))

    def notes(self, horizon, *notes, epoch=1):
        self.player.handle(Notes(epoch, horizon, tuple(TimedNote(*note) for note in notes)))

    def run(self, seconds):
        end_s = self.now_s + seconds
        while True:
            deadline_s = self.player.step()
            if deadline_s > end_s:
                break
            self.now_s = max(self.now_s, deadline_s)
        self.now_s = end_s

    @property
    def messages(self):
        return [message for _, message in self.port.sent]

    def ons(self):
        return [(round(at_s - 100.0, 6), message[1]) for at_s, message in self.port.sent if is_on(message)]


def test_notes_are_sent_at_their_ticks_top_voice_first():
    stage = Stage()
    stage.notes(4 * BEAT, (0, 480, 48, 4, 70), (0, 480, 72, 1, 70), (240, 240, 74, 1, 70))
    stage.order("start", 0, 0.05)
    stage.run(1.5)
    assert stage.ons() == [(0.05, 72), (0.05, 48), (0.3, 74)]
    assert [(round(at_s - 100, 6), message) for at_s, message in stage.port.sent if is_off(message)] == [
        (0.55, [0x80, 48, 64]), (0.55, [0x80, 72, 64]), (0.55, [0x80, 74, 64])]


def test_a_note_off_goes_before_a_note_on_of_the_same_tick():
    stage = Stage()
    stage.notes(4 * BEAT, (0, 480, 60, 1, 70), (480, 480, 60, 1, 70))
    stage.order("start", 0, 0)
    stage.run(1.6)
    assert [message[0] for message in stage.messages] == [0x90, 0x80, 0x90, 0x80]


def test_two_voices_on_one_pitch_and_channel_have_a_note_off_each():
    stage = Stage()
    stage.notes(8 * BEAT, (0, 4 * BEAT, 60, 1, 70), (BEAT, BEAT, 60, 2, 70))
    stage.order("start", 0, 0)
    stage.run(1.2)
    assert stage.shared.sounding_notes() == [(0, 60)]       # voice 1 still holds it
    stage.run(3)
    assert [message[0] for message in stage.messages] == [0x90, 0x80, 0x90, 0x80]


def test_channels_per_voice():
    stage = Stage(channels="per-voice")
    stage.notes(BEAT, (0, 100, 60, 1, 70), (0, 100, 50, 3, 70))
    stage.order("start", 0, 0)
    stage.run(0.4)
    assert {message[0] for message in stage.messages} == {0x90, 0x92, 0x80, 0x82}


def test_underrun_moves_time_to_the_next_beat_and_nothing_bursts():
    stage = Stage()
    stage.notes(BEAT, (0, BEAT, 60, 1, 70))
    stage.order("start", 0, 0)
    stage.run(0.8)                                  # the horizon was at 0.5 s
    assert stage.player.state == "holding"
    assert stage.shared.get("underruns") == 1
    stage.notes(4 * BEAT, *[(BEAT + 120 * n, 120, 62 + n, 1, 70) for n in range(4)])
    stage.run(1.0)
    assert stage.ons() == [(0.0, 60), (1.0, 62), (1.125, 63), (1.25, 64), (1.375, 65)]
    assert stage.shared.get("slipped_beats") == 1


def test_an_underrun_does_not_resume_for_less_than_a_beat_of_music():
    stage = Stage()
    stage.notes(BEAT, (0, BEAT, 60, 1, 70))
    stage.order("start", 0, 0)
    stage.run(0.8)
    stage.notes(BEAT + 120, (BEAT, 120, 62, 1, 70))
    stage.run(1.0)
    assert stage.player.state == "holding"


def test_a_chord_held_through_a_long_underrun_is_let_go():
    stage = Stage()
    stage.notes(BEAT, (0, 40 * BEAT, 60, 1, 70))
    stage.order("start", 0, 0)
    stage.run(2.0)
    assert sounding(stage.messages)
    stage.run(1.0)
    assert not sounding(stage.messages)


def test_a_stalled_process_moves_time_by_whole_beats():
    stage = Stage()
    stage.notes(40 * BEAT, *[(120 * n, 120, 40 + n, 1, 70) for n in range(40)])
    stage.order("start", 0, 0)
    stage.run(0.1)
    stage.now_s += 1.7                              # the laptop slept
    stage.run(1.0)
    late = [at_s for at_s, _ in stage.ons()][1:]
    gaps = [round(after - before, 6) for before, after in pairwise(late)]
    assert set(gaps) == {0.125}                     # no burst
    assert math.isclose((late[0] - 0.125) % 0.5, 0, abs_tol=1e-6) or math.isclose(
        (late[0] - 0.125) % 0.5, 0.5, abs_tol=1e-6)
    assert stage.shared.get("stalls") == 1


def test_panic_ends_the_notes_first_and_takes_nothing_before_the_flush():
    stage = Stage()
    stage.notes(8 * BEAT, (0, 4000, 60, 1, 70), (0, 4000, 64, 2, 70))
    stage.order("start", 0, 0)
    stage.run(0.2)
    stage.port.sent.clear()
    stage.order("panic")
    assert [message[0] for message in stage.messages[:2]] == [0x80, 0x80]
    assert has_panicked(stage.messages[2:])
    assert len(stage.messages) == 2 + 48
    stage.notes(16 * BEAT, (BEAT, 10, 70, 1, 70))
    stage.run(5)
    assert not [message for message in stage.messages if is_on(message)]
    stage.order("flush", 2, epoch=2)
    stage.notes(4 * BEAT, (0, 10, 71, 1, 70), epoch=2)
    stage.order("start", 0, 0, epoch=2)
    stage.run(1)
    assert [message[1] for message in stage.messages if is_on(message)] == [71]


def test_notes_of_an_earlier_epoch_are_not_played():
    stage = Stage()
    stage.order("flush", 2, epoch=2)
    stage.notes(4 * BEAT, (0, 10, 60, 1, 70), epoch=1)
    stage.order("start", 0, 0, epoch=1)
    stage.run(2)
    assert stage.messages == []


def test_truncate_withdraws_what_was_tentative_only():
    stage = Stage()
    stage.notes(8 * BEAT, *[(240 * n, 240, 60 + n, 1, 70) for n in range(8)])
    stage.order("start", 0, 0)
    stage.run(0.3)
    stage.order("truncate", 960)
    stage.notes(8 * BEAT, (960, 240, 40, 1, 70))
    stage.run(3)
    assert [pitch for _, pitch in stage.ons()] == [60, 61, 62, 63, 40]
    assert not sounding(stage.messages)


def test_tempo_bends_time_where_it_stands():
    stage = Stage()
    stage.notes(8 * BEAT, (0, 10, 60, 1, 70), (480, 10, 61, 1, 70), (960, 10, 62, 1, 70))
    stage.order("start", 0, 0)
    stage.run(0.25)                                 # half a beat at 120
    stage.order("tempo", 60)
    stage.run(3)
    assert stage.ons() == [(0.0, 60), (0.75, 61), (1.75, 62)]


def test_pause_silences_and_goes_on_where_it_was():
    stage = Stage()
    stage.notes(8 * BEAT, (0, 960, 60, 1, 70), (480, 10, 61, 1, 70))
    stage.order("start", 0, 0)
    stage.run(0.25)
    stage.order("pause", 1)
    assert not sounding(stage.messages)
    stage.run(7)
    stage.order("pause", 0)
    stage.run(1)
    assert stage.ons() == [(0.0, 60), (7.52, 61)]
    assert not sounding(stage.messages)


def test_mute_is_heard_at_once_and_ends_the_voice():
    stage = Stage()
    stage.notes(
        8 * BEAT, (0, 4000, 60, 1, 70), (0, 4000, 50, 2, 70), (480, 10, 51, 2, 70), (480, 10, 61, 1, 70)
    )
    stage.order("start", 0, 0)
    stage.run(0.2)
    stage.order("mute", 0b10)
    assert sounding(stage.messages) == {(0, 60): 1}
    stage.run(1)
    assert [pitch for _, pitch in stage.ons()] == [60, 50, 61]


def test_nudge_moves_notes_and_not_the_clock():
    stage = Stage(clock_out=True, nudge_s=0.03)
    stage.notes(2 * BEAT, (0, 100, 60, 1, 70))
    stage.order("start", 0, 0)
    stage.run(0.2)
    assert stage.ons() == [(0.03, 60)]
    assert next(at_s for at_s, message in stage.port.sent if message == [0xF8]) == 100.0


def test_clock_out_is_24_a_quarter_between_start_and_stop():
    stage = Stage(clock_out=True)
    stage.notes(4 * BEAT, (0, 100, 60, 1, 70))
    stage.order("finish", 4 * BEAT)
    stage.order("start", 0, 0)
    stage.run(5)
    pulses = [at_s for at_s, message in stage.port.sent if message == [0xF8]]
    assert len(pulses) in (96, 97)
    gaps = [after - before for before, after in pairwise(pulses)]
    assert max(gaps) - min(gaps) < 1e-9
    order = [message[0] for message in stage.messages if message[0] >= 0xF0 and message[0] != 0xF8]
    assert order == [0xF2, 0xFA, 0xFC]


def test_after_a_pause_the_clock_says_where_it_goes_on():
    stage = Stage(clock_out=True)
    stage.notes(8 * BEAT, (0, 100, 60, 1, 70), (3 * BEAT, 100, 61, 1, 70))
    stage.order("start", 0, 0)
    stage.run(1.2)                                  # tick 1152: between the ninth and the tenth sixteenth
    stage.order("pause", 1)
    stage.run(3)
    assert stage.messages[-1] == [0xFC]             # no pulse while it stands
    stage.order("pause", 0)
    stage.run(1)
    at = stage.messages.index([0xFB])
    assert stage.messages[at - 1] == [0xF2, 10, 0]
    after = [at_s for at_s, message in stage.port.sent[at:] if message == [0xF8]]
    second_s = stage.ons()[1][0] + 100.0            # the thirteenth sixteenth: two later, twelve pulses
    assert after[12] == pytest.approx(second_s)


def test_an_outer_clock_stopped_and_started_again_goes_on_in_phase():
    stage = Stage(clock_in=True)
    stage.notes(8 * BEAT, *((beat * BEAT, 100, 60 + beat, 1, 70) for beat in range(8)))
    stage.order("start", 0, 0)
    stage.order("go", 100.0)
    stage.run(1.2)
    stage.order("pause", 1)
    stage.run(3)
    for name, values in (("go", (104.2,)), ("pause", (0, 104.2))):      # what Start's first pulse becomes
        stage.order(name, *values)
    stage.run(2)
    assert [at_s for at_s, pitch in stage.ons() if pitch >= 63] == pytest.approx([4.7, 5.2, 5.7, 6.2])


def test_clock_goes_on_through_an_underrun_in_phase_with_the_music():
    stage = Stage(clock_out=True)
    stage.notes(BEAT, (0, 100, 60, 1, 70))
    stage.order("start", 0, 0)
    stage.run(0.9)
    stage.notes(4 * BEAT, (BEAT, 100, 61, 1, 70))
    stage.run(1.0)
    pulses = [at_s - 100.0 for at_s, message in stage.port.sent if message == [0xF8]]
    (_, _), (second_s, _) = stage.ons()
    assert min(abs(pulse_s - second_s) for pulse_s in pulses) < 1e-6


def test_sync_locks_to_an_outer_clock_that_runs_faster_and_ahead():
    stage = Stage()
    stage.notes(400 * BEAT)
    stage.order("start", 0, 0)
    for number in range(1, 80):  # a report every quarter of a beat, at 126 bpm, 0.1 quarter ahead
        at_s = 100.0 + number * 0.25 * 60 / 126
        stage.run(at_s - stage.now_s)
        stage.order("sync", number * 0.25 + 0.1, at_s, 126.0)
    quarters = stage.player.transport.tick_at(at_s) / 480
    error = (number * 0.25 + 0.1) - quarters
    assert abs(error - round(error)) < 0.005


def test_with_clock_in_the_music_waits_for_start():
    stage = Stage(clock_in=True)
    stage.notes(4 * BEAT, (0, 100, 60, 1, 70))
    stage.order("start", 0, 0)
    stage.run(3)
    assert stage.ons() == []
    stage.order("go", 103.01)
    stage.run(1)
    assert stage.ons() == [(3.01, 60)]


def test_the_end_sends_everything_and_says_so():
    stage = Stage()
    stage.notes(2 * BEAT, (0, 3 * BEAT, 60, 1, 70))
    stage.order("finish", 2 * BEAT)
    stage.order("start", 0, 0)
    stage.run(1.2)
    assert stage.player.state == "playing"          # the last note still sounds
    stage.run(0.5)
    assert stage.player.state == "ended"
    assert not sounding(stage.messages)


def test_lateness_is_counted_against_the_deadline():
    stage = Stage()
    stage.notes(8 * BEAT, (0, 100, 60, 1, 70), (480, 100, 61, 1, 70))
    stage.order("start", 0, 0)
    stage.run(0.3)
    stage.now_s += 0.203                            # 3 ms past the second note's deadline
    stage.player.step()
    late = stage.shared.lateness()
    assert math.isclose(late["max_ms"], 3.0, abs_tol=0.02)
    assert late["count"] == 3


@pytest.mark.parametrize("tempo", [19.0, 301.0])
def test_a_tempo_out_of_range_is_refused(tempo):
    with pytest.raises(ValueError, match="20 to 300"):
        PlayerSettings(tempo_bpm=tempo)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["notes", "run", "pause", "resume", "mute", "truncate", "panic", "tempo", "stall", "nudge"]
        ),
        st.integers(0, 960),
        st.integers(0, 15),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS, st.sampled_from(["one", "per-voice"]))
def test_whatever_happens_every_note_on_has_one_note_off(actions, channels):
    stage = Stage(channels=channels)
    epoch, tick = 1, 0
    stage.order("start", 0, 0)
    for name, amount, bits in actions:
        if name == "notes":
            batch = [(tick + 60 * n, 60 + amount, 60 + (bits + n) % 3, 1 + n % 4, 70) for n in range(5)]
            tick += 300
            stage.notes(tick, *batch, epoch=epoch)
        elif name in ("run", "stall"):
            stage.now_s += amount / 500 if name == "stall" else 0
            stage.run(amount / 500)
        elif name == "truncate":
            stage.order("truncate", max(0, tick - amount), epoch=epoch)
            tick = max(0, tick - amount)
        elif name == "panic":
            epoch, tick = epoch + 1, 0
            stage.order("panic")
            stage.order("flush", epoch, epoch=epoch)
            stage.order("start", 0, 0, epoch=epoch)
        else:
            order, value = {"pause": ("pause", 1), "resume": ("pause", 0), "mute": ("mute", bits),
                            "tempo": ("tempo", 60 + amount / 8), "nudge": ("nudge", amount / 9600)}[name]
            stage.order(order, value)
    stage.order("panic")
    counts: dict = {}
    for message in stage.messages:
        if is_on(message) or is_off(message):
            slot = message[0] & 15, message[1]
            counts[slot] = counts.get(slot, 0) + (1 if is_on(message) else -1)
            assert counts[slot] in (0, 1)           # struck anew only after its end
    assert not any(counts.values())


def test_wire_messages_come_back_as_they_went():
    notes = [TimedNote(10**9, 480, 60, 2, 99), TimedNote(0, 1, 0, 1, 1)]
    assert unpack(pack_notes(3, 10**10, notes)) == Notes(3, 10**10, tuple(notes))
    assert unpack(pack_order(2, "sync", 1.5, 2.5, 120.0)) == Order(2, "sync", (1.5, 2.5, 120.0))
    with pytest.raises(ValueError, match="expected notes or an order"):
        unpack(b"?nonsense")
    with pytest.raises(ValueError, match="at most 60"):
        pack_notes(1, 0, notes * 31)
