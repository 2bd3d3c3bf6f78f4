"""`mlxgen stream` as a user starts it, on a real JACK server: it plays, and whatever is done to it no note
hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import time

import mido
import pytest
from jack import (  # noqa: F401
    MLXGEN,
    Streaming,
    Synth,
    hanging,
    has_panicked,
    is_on,
    jack,
    sounding,
    unsure_jack,
    wait_until,
)
from test_controls import osc_bytes

from mlxgen.music.vocab import Vocab
from mlxgen.perform.log import read_log
from mlxgen.perform.record import read_recording
from mlxgen.perform.replay import replay

pytest.importorskip("mlx.core")


@pytest.fixture
def synth(jack):  # noqa: F811
    synth = Synth()
    yield synth
    synth.close()


@pytest.fixture
def play(tmp_path, default_model_folder):
    """Start performances; none outlives the test."""
    if not (default_model_folder / "model.safetensors").is_file():
        pytest.skip("no shipped model")
    started = []

    def start(*options, **more):
        started.append(Streaming(tmp_path / f"session-{len(started)}", *options, **more))
        return started[-1]

    yield start
    for streaming in started:
        if streaming.process.poll() is None:
            streaming.process.kill()
            streaming.process.wait()


def recording(streaming) -> tuple[int, int]:
    """(note-ons, notes still open at the end) of the recorded file, which must be readable."""
    file = mido.MidiFile(streaming.folder / "recording.mid")
    messages = [message.bytes() for message in file if not message.is_meta]
    return sum(map(is_on, messages)), sum(sounding(messages).values())


def playing(synth, notes=8):
    wait_until(lambda: len(synth.note_ons()) >= notes, 120)


def test_it_plays_what_it_logs_and_records_and_ends_clean(synth, play, default_model_folder):
    streaming = play("--mode", "fugue", "--key", "C minor", "--bars", "4")
    code, out, error = streaming.finish(60)
    assert code == 0, error
    status = [json.loads(line) for line in out.splitlines()]
    assert status[-1]["key"] == "C minor"
    assert not synth.sounding()
    tape = replay(
        read_log(streaming.folder / "session.jsonl"), Vocab.load(default_model_folder / "tokenizer.json")
    )
    assert [pitch for _, pitch in synth.note_ons()] == [note.pitch for note in tape.notes]
    assert recording(streaming) == (len(tape.notes), 0)
    assert has_panicked(synth.messages)
    assert not (streaming.folder / "player.err").read_text()


def test_replay_gives_the_same_notes_and_the_model_the_same_ids(synth, play, tmp_path):
    osc = free_port()
    streaming = play("--mode", "chorale", "--key", "D major", "--bars", "6", "--osc", str(osc))
    playing(synth, 4)
    for address, value in (
        ("/mlxgen/temperature", 1.4),
        ("/mlxgen/key", "E minor"),
        ("/mlxgen/style", "classical"),
        ("/mlxgen/panic", 1),
        ("/mlxgen/texture", "polyphonic"),
    ):
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(osc_bytes(address, value), ("127.0.0.1", osc))
        time.sleep(0.9)
    streaming.finish(60)
    log = str(streaming.folder / "session.jsonl")
    checked = subprocess.run([MLXGEN, "replay", log, "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    first = [pitch for _, pitch in synth.note_ons()]
    synth.received.clear()
    played = subprocess.run([MLXGEN, "replay", log, "--midi-port", "synth", "--midi-api", "jack"],
                            capture_output=True, text=True)
    assert played.returncode == 0, played.stderr
    time.sleep(0.1)
    assert [pitch for _, pitch in synth.note_ons()] == first
    assert not synth.sounding()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_wrong_port_name_lists_what_exists_and_leaves_nothing_running(synth, play):
    streaming = play(port="nothing like it")
    code, _, error = streaming.finish(30)
    assert code == 2
    assert error.strip().splitlines()[-1].startswith("mlxgen: MIDI output 'nothing like it' is not there")
    assert "synth:in" in error


def test_sigterm_ends_every_note(synth, play):
    streaming = play()
    playing(synth)
    streaming.process.send_signal(signal.SIGTERM)
    code, _, error = streaming.finish(20)
    assert code == 0, error
    assert not synth.sounding()
    assert has_panicked(synth.messages)
    ons, still_open = recording(streaming)
    assert ons >= 8
    assert still_open == 0


def test_kill_9_of_the_generator_ends_the_notes_says_so_and_plays_on(synth, play):
    streaming = play()
    playing(synth)
    os.kill(streaming.children()["generator"], signal.SIGKILL)
    wait_until(lambda: has_panicked(synth.messages), 20)
    assert not synth.sounding()
    count = len(synth.note_ons())
    wait_until(lambda: len(synth.note_ons()) >= count + 8, 120)      # another generator took over
    streaming.process.send_signal(signal.SIGTERM)
    streaming.finish(20)
    assert not synth.sounding()
    assert "generator ended (-9)" in (streaming.folder / "session.jsonl").read_text()
    assert recording(streaming)[1] == 0


def test_a_generator_that_is_stuck_is_replaced(synth, play):
    streaming = play()
    playing(synth)
    os.kill(streaming.children()["generator"], signal.SIGSTOP)
    log = streaming.folder / "session.jsonl"
    wait_until(lambda: "has not answered for 10 s" in log.read_text(), 30)
    wait_until(lambda: has_panicked(synth.messages), 20)
    count = len(synth.note_ons())
    playing(synth, count + 8)
    streaming.process.send_signal(signal.SIGTERM)
    assert streaming.finish(20)[0] == 0
    assert not synth.sounding()
    assert recording(streaming)[1] == 0


def test_a_machine_that_sleeps_plays_on_without_a_burst(synth, play):
    """All processes stand still for longer than a generator may be silent; no note hangs, none is hurried."""
    streaming = play()
    playing(synth)
    pids = [streaming.process.pid, *streaming.children().values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(12)
    count = len(synth.note_ons())
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    playing(synth, count + 16)
    ons = [at_s for at_s, _ in synth.note_ons()[count:]]
    assert max(sum(first <= at_s < first + 0.05 for at_s in ons) for first in ons) <= 8
    streaming.process.send_signal(signal.SIGTERM)
    assert streaming.finish(20)[0] == 0
    assert not synth.sounding()
    assert "has not answered" not in (streaming.folder / "session.jsonl").read_text()


def test_a_folder_that_holds_a_session_is_not_written_over(synth, play, tmp_path):
    first = play("--bars", "2", "--session-folder", str(tmp_path / "concert"))
    assert first.finish(60)[0] == 0
    before = (tmp_path / "concert" / "recording.mid").read_bytes()
    again = play("--bars", "2", "--session-folder", str(tmp_path / "concert"))
    code, _, error = again.finish(60)
    assert code == 0
    assert "session in " + str(tmp_path / "concert-2") in error
    assert (tmp_path / "concert" / "recording.mid").read_bytes() == before
    assert mido.MidiFile(tmp_path / "concert-2" / "recording.mid").length > 1


def test_kill_9_of_the_screen_s_process_ends_every_note(synth, play):
    streaming = play()
    playing(synth)
    children = streaming.children()
    streaming.process.kill()
    streaming.process.wait()
    wait_until(lambda: has_panicked(synth.messages), 20)
    assert not synth.sounding()
    for pid in children.values():
        wait_until(lambda pid=pid: not os.path.exists(f"/proc/{pid}") or is_zombie(pid), 5)
    ons, still_open = recording(streaming)
    assert ons >= 8
    assert still_open == 0


def is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_kill_9_of_the_player_has_its_notes_ended_from_elsewhere(unsure_jack, play):  # noqa: F811
    synth = Synth()
    streaming = play()
    playing(synth)
    wait_until(synth.sounding, 10)
    os.kill(streaming.children()["player"], signal.SIGKILL)
    wait_until(lambda: has_panicked(synth.messages) and not hanging(synth.messages), 5)
    count = len(synth.note_ons())
    wait_until(lambda: len(synth.note_ons()) >= count + 8, 120)
    streaming.process.send_signal(signal.SIGTERM)
    streaming.finish(20)
    assert not hanging(synth.messages)
    synth.close()


def test_an_unplugged_port_is_noticed_and_opened_again_by_name_twice_in_a_row(synth, play):
    streaming = play()
    playing(synth)
    log = streaming.folder / "session.jsonl"
    for times in (1, 2):
        synth.close()
        assert wait_until(lambda times=times: log.read_text().count("is gone") == times, 5) < 2
        synth = Synth()
        playing(synth)
        assert has_panicked(synth.messages)         # what hung in the device is ended first
    streaming.process.send_signal(signal.SIGTERM)
    streaming.finish(20)
    assert not synth.sounding()
    assert recording(streaming)[1] == 0
    synth.close()


def test_a_port_that_comes_back_under_another_name_stays_open(synth, play):
    """As a device does on Linux that is plugged in elsewhere: its name ends with another number."""
    synth.close()
    synth = Synth("keys 28")
    streaming = play(port="keys")
    playing(synth)
    synth.close()
    log = streaming.folder / "session.jsonl"
    wait_until(lambda: "'keys 28:in' is gone" in log.read_text(), 5)
    synth = Synth("keys 32")
    wait_until(lambda: "'keys 32:in' is back" in log.read_text(), 5)
    other = Synth("keys 33")                        # fits as well; ours is known by its whole name
    time.sleep(1)
    playing(synth, len(synth.note_ons()) + 8)
    assert log.read_text().count("is gone") == 1
    streaming.process.send_signal(signal.SIGTERM)
    streaming.finish(20)
    assert not synth.sounding()
    assert not other.messages
    synth.close()
    other.close()


def test_a_controller_that_is_unplugged_turns_knobs_again_when_it_is_back(synth, play):
    knob = plug_in("knobs")
    streaming = play("--control-port", "knobs")
    playing(synth)
    log = streaming.folder / "session.jsonl"
    knob.send_message([0xB0, 20, 100])
    wait_until(lambda: '"turn"' in log.read_text(), 5)
    knob.delete()
    wait_until(lambda: "input 'knobs' is gone" in log.read_text(), 5)
    knob = plug_in("knobs")
    wait_until(lambda: "input 'knobs' is back" in log.read_text(), 5)
    count = log.read_text().count('"turn"')
    knob.send_message([0xB0, 20, 100])
    knob.send_message([0xB0, 20, 60])
    wait_until(lambda: log.read_text().count('"turn"') > count, 5)
    streaming.process.send_signal(signal.SIGTERM)
    assert streaming.finish(20)[0] == 0
    assert not synth.sounding()
    knob.delete()


def plug_in(name: str):
    """A controller: a MIDI source that the stream can listen to."""
    import rtmidi

    out = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name)
    out.open_virtual_port("out")
    return out


def test_ctrl_z_does_not_stop_the_processes_that_hold_notes(synth, play):
    streaming = play()
    playing(synth)
    for pid in (streaming.process.pid, *streaming.children().values()):
        with open(f"/proc/{pid}/status") as file:
            ignored = next(line.split()[1] for line in file if line.startswith("SigIgn"))
        assert int(ignored, 16) >> signal.SIGTSTP - 1 & 1


def test_two_performances_at_once_do_not_know_of_each_other(synth, play):
    """One plays to the synthesiser, one to its own virtual port; the second ends, the first plays on."""
    one, other = play(), play(port=None)
    playing(synth)
    log = other.folder / "session.jsonl"
    wait_until(lambda: log.exists() and '"draw"' in log.read_text(), 60)
    time.sleep(1)
    other.process.send_signal(signal.SIGTERM)
    assert other.finish(20)[0] == 0
    count = len(synth.note_ons())
    time.sleep(2)                                   # long enough for a watcher to miss a stranger's heart
    playing(synth, count + 8)
    one.process.send_signal(signal.SIGTERM)
    assert one.finish(20)[0] == 0
    assert "is gone" not in (one.folder / "session.jsonl").read_text()
    assert not synth.sounding()


def test_a_killed_jack_server_is_survived(jack, synth, play):  # noqa: F811
    streaming = play("--control-port", "virtual")
    playing(synth)
    synth.close()
    jack.kill()
    log = streaming.folder / "session.jsonl"
    assert wait_until(lambda: "is gone" in log.read_text(), 5) < 2
    jack.start()
    again = Synth()
    wait_until(lambda: len(again.note_ons()) >= 8, 120)
    streaming.process.send_signal(signal.SIGTERM)
    code, _, error = streaming.finish(20)
    assert code == 0, error
    assert not again.sounding()
    again.close()


def test_a_full_disk_stops_the_recording_and_not_the_music(synth, play, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        streaming = play("--record", str(disk / "small.mid"), "--tempo", "240")
        wait_until(lambda: "recording stopped" in (streaming.folder / "session.jsonl").read_text()
                   if (streaming.folder / "session.jsonl").exists() else False, 90, 0.2)
        count = len(synth.note_ons())
        wait_until(lambda: len(synth.note_ons()) >= count + 4, 20)
        streaming.process.send_signal(signal.SIGTERM)
        code, _, _ = streaming.finish(20)
        assert code == 0
        file = mido.MidiFile(disk / "small.mid")
        messages = [message.bytes() for message in file if not message.is_meta]
        assert sum(map(is_on, messages)) > 20
        assert not sounding(messages)
        assert not synth.sounding()
    finally:
        subprocess.run(["umount", str(disk)], capture_output=True)


def test_a_thousand_ccs_a_second_are_taken(synth, play):
    streaming = play("--control-port", "virtual")
    playing(synth)
    knob = connect("knob")
    begin_s = time.monotonic()
    for number in range(3000):
        knob.send_message([0xB0, (20, 21, 24)[number % 3], number % 128])
        time.sleep(max(0.0, begin_s + number / 1000 - time.monotonic()))
    before = len(synth.note_ons())
    wait_until(lambda: len(synth.note_ons()) >= before + 8, 20)
    streaming.process.send_signal(signal.SIGTERM)
    code, _, error = streaming.finish(20)
    assert code == 0, error
    assert not synth.sounding()
    knob.delete()


def test_listen_answers_a_played_theme_on_a_bar_line(synth, play):
    streaming = play("--listen", "virtual", "--mode", "invention")
    hands = connect("hands")
    wait_until(lambda: '"reset"' in (streaming.folder / "session.jsonl").read_text(), 20)
    time.sleep(0.5)
    begin_s = time.monotonic()
    for number, pitch in enumerate((62, 65, 69, 74)):           # a bar of D minor at 120 bpm
        time.sleep(max(0.0, begin_s + number * 0.5 - time.monotonic()))
        hands.send_message([0x90, pitch, 80])
        time.sleep(0.4)
        hands.send_message([0x80, pitch, 0])
    playing(synth, 4)
    beats = (synth.note_ons()[0][0] - begin_s) / 0.5
    assert beats >= 5.6
    sixteenths = beats * 4                                      # the answer may begin between two beats
    assert abs(sixteenths - round(sixteenths)) < 0.3            # on the theme's grid, within 40 ms
    streaming.process.send_signal(signal.SIGTERM)
    streaming.finish(20)
    assert not synth.sounding()
    hands.delete()


def test_clock_out_reaches_a_real_receiver(synth, play):
    streaming = play("--clock", "out", "--bars", "4")
    code, out, error = streaming.finish(60)
    assert code == 0, error
    status = [message[0] for message in synth.messages]
    start, stop = status.index(0xFA), status.index(0xFC)
    assert synth.messages[start - 1] == [0xF2, 0, 0]
    ticks = sum(message.time for message in mido.MidiFile(streaming.folder / "recording.mid").tracks[0])
    assert ticks >= 2 * 1920
    waited = json.loads(out.splitlines()[-1])["slipped_beats"] * 24     # on a busy machine the music waits
    assert abs(status[start:stop].count(0xF8) - ticks / 20 - waited) <= 24
    late = [at_s - number * 0.5 / 24 for number, at_s in
            enumerate(at_s for at_s, message in synth.received if message[0] == 0xF8)]
    beats = [statistics.median(late[first:first + 24]) for first in (0, len(late) - 24)]
    assert beats[1] == pytest.approx(beats[0], abs=0.03)            # few of a beat's pulses come late


def test_clock_in_follows_a_real_sender_through_stop_and_continue(synth, play):
    """132 bpm from outside, our own tempo is 120: every note lies on the sender's sixteenths."""
    streaming = play("--clock", "in", "--control-port", "virtual", "--mode", "invention")
    sender = connect("sender")
    wait_until(lambda: '"draw"' in (streaming.folder / "session.jsonl").read_text(), 60)
    time.sleep(1.5)
    assert not synth.note_ons()                             # it waits for Start
    beat_s = 60 / 132
    begin_s = pulses_of(sender, [[0xFA]], 16, beat_s)
    sender.send_message([0xFC])
    wait_until(lambda: not synth.sounding(), 2)
    count = len(synth.note_ons())
    time.sleep(1)
    assert len(synth.note_ons()) == count
    again_s = pulses_of(sender, [[0xF2, 64, 0], [0xFB]], 12, beat_s)
    streaming.process.send_signal(signal.SIGTERM)
    assert streaming.finish(20)[0] == 0
    assert not synth.sounding()
    sender.delete()
    ticks = [tick for tick, _ in read_recording(str(streaming.folder / "recording.mid"))]
    arrived = [at_s for at_s, _ in synth.note_ons()]
    assert len(ticks) == len(arrived) > count + 4
    before = [(at_s - begin_s) / beat_s - tick / 480
              for at_s, tick in zip(arrived[:count], ticks, strict=False) if tick > 4 * 480]
    assert worst_but_tenth(before) * beat_s < 0.1          # twice through JACK, and this test's jitter
    after = [(at_s - again_s) / beat_s - tick / 480
             for at_s, tick in zip(arrived[count:], ticks[count:], strict=True) if at_s > again_s + 2]
    middle = statistics.median(after)
    assert abs(middle - round(middle)) * beat_s < 0.05                          # in phase with the beats
    assert worst_but_tenth(place - middle for place in after) < 0.2             # and through the same beats


def worst_but_tenth(offsets) -> float:
    """The largest but for a tenth of them: on a busy machine some pulses of this test come late."""
    sizes = sorted(map(abs, offsets))
    return sizes[int(0.9 * (len(sizes) - 1))]


def connect(name: str):
    """A MidiOut that plays to the stream's virtual input."""
    import rtmidi

    out = rtmidi.MidiOut(rtmidi.API_UNIX_JACK, name)
    wait_until(lambda: any("mlxgen-in" in port for port in out.get_ports()), 20)
    out.open_port(next(n for n, port in enumerate(out.get_ports()) if "mlxgen-in" in port))
    return out


def pulses_of(sender, first: list[list[int]], beats: int, beat_s: float) -> float:
    """Send `first`, then clock pulses for so many beats; the second of the first pulse."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))      # a steady hand, where it is allowed
    try:
        for message in first:
            sender.send_message(message)
        begin_s = time.monotonic() + 0.02
        for number in range(beats * 24):
            time.sleep(max(0.0, begin_s + number * beat_s / 24 - time.monotonic()))
            sender.send_message([0xF8])
        return begin_s
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
