"""The recording and the log: whole at every moment, whatever is done to the disk."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jack import hanging, is_on, sounding

from mlxgen.perform.log import FORMAT, SessionLog, read_log
from mlxgen.perform.player import Player, PlayerSettings
from mlxgen.perform.ports import FakePort
from mlxgen.perform.record import Recorder, read_recording, variable_length
from mlxgen.perform.shared import SENT_RING, Shared
from mlxgen.perform.wire import Notes, Order, TimedNote

CONTEXT = multiprocessing.get_context("spawn")


class Take:
    """A player whose sent messages are recorded."""

    def __init__(self, path):
        self.now_s = 0.0
        self.shared = Shared(CONTEXT)
        self.player = Player(FakePort(), self.shared, PlayerSettings(tempo_bpm=120), now=lambda: self.now_s)
        self.player.handle(Order(0, "flush", (1, 0, 0)))
        self.path = str(path)
        self.recorder = Recorder(self.path, self.shared)
        self.recorder.begin(120, (3, 4))

    def play(self, count, first=0, epoch=1):
        notes = tuple(
            TimedNote(240 * n, 400, 60 + n % 12, 1 + n % 4, 70) for n in range(first, first + count)
        )
        self.player.handle(Notes(epoch, 240 * (first + count), notes))
        if not self.player.transport.running:
            self.player.handle(Order(epoch, "start", (0, 0, 0)))
        end_s = self.now_s + count / 4
        while (deadline_s := self.player.step()) <= end_s:
            self.now_s = max(self.now_s, deadline_s)
        self.now_s = end_s


def check(path, ons=None):
    """A recording that reads, with no note open; returns how many note-ons."""
    messages = [message.bytes() for message in mido.MidiFile(path) if not message.is_meta]
    assert not sounding(messages)
    if ons is not None:
        assert sum(map(is_on, messages)) == ons
    return sum(map(is_on, messages))


def test_it_is_a_midi_file_from_the_beginning(tmp_path):
    take = Take(tmp_path / "a.mid")
    check(take.path, 0)
    file = mido.MidiFile(take.path)
    assert file.ticks_per_beat == 480
    assert [(m.numerator, m.denominator) for m in file.tracks[0] if m.type == "time_signature"] == [(3, 4)]


def test_each_flush_leaves_a_whole_file_with_every_note_closed(tmp_path):
    take = Take(tmp_path / "a.mid")
    for number in range(20):
        take.play(5, 5 * number)
        take.recorder.flush()
        assert check(take.path) >= 5 * (number + 1) - 1
    assert read_recording(take.path)[:4] == [(0, 60), (240, 61), (480, 62), (720, 63)]


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_played_after_a_panic_comes_after_it_in_the_file(tmp_path, recorded):
    """Its ticks begin again; in the file it begins at the next bar line, whenever the file was written."""
    take = Take(tmp_path / "a.mid")
    take.play(10)                                       # until tick 2400, in the second bar
    if recorded:
        take.recorder.flush()
    take.player.handle(Order(0, "panic", (0, 0, 0)))
    take.player.handle(Order(0, "flush", (2, 0, 0)))
    take.play(3, epoch=2)
    take.recorder.flush()
    check(take.path, 13)
    assert [tick for tick, _ in read_recording(take.path)][-4:] == [2160, 3840, 4080, 4320]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2))
def test_a_crash_between_two_writes_leaves_the_file_whole(tmp_path_factory, writes):
    take = Take(tmp_path_factory.mktemp("crash") / "a.mid")
    take.play(6)
    take.recorder.flush()
    before = check(take.path)
    take.play(6, 6)
    real, done = take.recorder._write, []

    def dying(data, offset):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(True)
        real(data, offset)

    take.recorder._write = dying
    with pytest.raises(KeyboardInterrupt):
        take.recorder.flush()
    # Before the old tail is overwritten its note-offs come twice, which ends nothing that is not over.
    messages = [message.bytes() for message in mido.MidiFile(take.path) if not message.is_meta]
    assert not hanging(messages)
    assert sum(map(is_on, messages)) >= before


def test_another_process_goes_on_where_the_recorder_died(tmp_path):
    take = Take(tmp_path / "a.mid")
    take.play(6)
    take.recorder.flush()
    take.recorder.close()
    take.play(6, 6)
    take.player.panic()
    Recorder(take.path, take.shared).finish()
    check(take.path, int(take.shared.get("note_ons")))


def test_tempo_changes_are_recorded(tmp_path):
    take = Take(tmp_path / "a.mid")
    take.play(4)
    take.player.handle(Order(0, "tempo", (60, 0, 0)))
    take.recorder.flush()
    tempos = [message.tempo for message in mido.MidiFile(take.path).tracks[0] if message.type == "set_tempo"]
    assert tempos == [500000, 1000000]


def test_a_full_disk_is_told_and_the_file_stays_whole(tmp_path, monkeypatch):
    take = Take(tmp_path / "a.mid")
    take.play(6)
    take.recorder.flush()
    before = check(take.path)
    take.play(6, 6)

    def full(file, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        take.recorder.flush()
    monkeypatch.undo()
    check(take.path, before)


def test_a_reader_that_slept_too_long_loses_the_oldest_and_nothing_else(tmp_path):
    take = Take(tmp_path / "a.mid")
    for number in range(SENT_RING):
        take.player.sounding._record(number, 0xB0 | 7 << 8 | number % 100 << 16)
    take.player.sounding._record(SENT_RING, 0xB0 | 7 << 8 | 99 << 16)
    take.recorder.flush()
    assert len([m for m in mido.MidiFile(take.path).tracks[0] if m.type == "control_change"]) == SENT_RING - 1


@given(st.integers(0, 2**28 - 1))
def test_variable_length_quantities_are_those_of_midi_files(value):
    from mido.midifiles.meta import encode_variable_int

    assert list(variable_length(value)) == encode_variable_int(value)


def test_the_log_keeps_lines_whole_and_says_when_the_disk_is_full(tmp_path, monkeypatch):
    path, said = tmp_path / "session.jsonl", []
    log = SessionLog(str(path), said.append)
    log.write({"format": FORMAT})
    log.write({"op": "draw", "ids": [1, 2]})
    with open(path, "a") as file:
        file.write('{"op": "dra')                   # what a disk that fills up leaves
    assert [entry.get("op") for entry in read_log(path)] == [None, "draw"]

    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write({"op": "draw", "ids": [3]})
    log.write({"op": "draw", "ids": [4]})
    assert said == ["log stopped: No space left on device"]


@pytest.mark.parametrize(("text", "problem"), [
    ('{"format": "other"}', "expected 'mlxgen-session-2'"), ("hello\nworld", "line 1: not JSON")])
def test_what_is_no_log_is_refused(tmp_path, text, problem):
    path = tmp_path / "x.jsonl"
    path.write_text(text + "\n" + json.dumps({}) + "\n")
    with pytest.raises(ValueError, match=problem):
        list(read_log(path))
