"""The screen as text: everything is there at 80 x 24, nothing spills, and the zones are told apart."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from types import SimpleNamespace

import pytest
from jack import MLXGEN
from rich.console import Console

from mlxgen.perform.controls import CONTROLS, Desk
from mlxgen.perform.mapping import Mapping, default_bindings, load_mapping
from mlxgen.perform.roll import COMMITTED, PAST, SOUNDING, TENTATIVE, Roll, pitch_name
from mlxgen.perform.screen import Keys, render

DESK = Desk(CONTROLS, {}, lambda *turn: None)
STATUS = {
    "state": "playing", "tick": 4000, "beats": 8.3, "bar": 3, "beat": 1, "bar_ticks": 1920, "beat_ticks": 480,
    "form": "fugue", "voices": 4, "muted": [], "buffer_bars": 2.0, "commit_ticks": 240, "port": "synth:in",
    "tempo_bpm": 120.0, "port_open": True, "underruns": 3, "late_p50_ms": 0.1, "late_p99_ms": 0.12,
    "late_max_ms": 0.5,
    "ahead_bars": 1.5, "ids_per_s": 111.0, "p50_ms": 8.0, "p95_ms": 9.0, "p99_ms": 12.0,
    "stalls": 0, "slow_to_bpm": 0, "turn_ms": 140.0, "key": "C minor", "coming_key": "",
    "listening": False, "note": "", "controls": DESK.values,
}  # fmt: skip


def screen(width, height, roll=None, **changed):
    return render({**STATUS, **changed}, roll or Roll(), CONTROLS, width, height)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (100, 30), (200, 60)])
@pytest.mark.parametrize("voices", [2, 3, 4])
def test_it_fits_and_shows_every_control_with_its_key(width, height, voices):
    lines = screen(width, height, voices=voices).plain.split("\n")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for control in CONTROLS.values():
        if control.name.startswith("mute_"):
            continue                                # their keys are beside the voices
        assert control.name.replace("harmonic_", "").replace("_", " ") in text, control.name
        assert any(key in text for key in control.keys if key.isprintable() and key != " ") or "space" in text
    for value in ("renaissance", "polyphonic"):      # none is cut
        said = {**DESK.values, "style": value, "texture": value}
        assert value in screen(width, height, controls=said).plain
    for shown in ("fugue", "C minor", "120 bpm", "bar 3 beat 1", "111 ids/s", "synth:in", "quit",
                  "underruns 3", "1.5 of 2 bars", "heard in 0.14 s", "mute"):
        assert shown in text


def test_notes_stand_in_their_zones_left_and_right_of_the_playhead():
    roll = Roll()
    roll.take([("notes", [(3400, 240, 60, 1, 70), (4200, 120, 62, 1, 70), (5000, 240, 64, 1, 70)])])
    text = screen(80, 24, roll)
    styles = {str(span.style) for span in text.spans}
    assert {PAST, COMMITTED, TENTATIVE} <= styles
    lane = text.plain.split("\n")[4:7]
    columns = sorted(column for line in lane for column, cell in enumerate(line) if cell in "█▀▄")
    playhead = text.plain.split("\n")[3].index("▼")
    assert columns[0] < playhead < columns[-1]


def test_what_sounds_is_named_and_what_is_muted_is_told():
    roll = Roll()
    roll.take([("notes", [(3900, 240, 63, 1, 70), (3900, 240, 48, 4, 70)])])
    for width, height in ((80, 24), (80, 16)):
        text = screen(width, height, roll, muted=[4])
        assert "Eb4" in text.plain
        assert "C3" not in text.plain
        assert SOUNDING in {str(span.style) for span in text.spans}
    assert "muted" in screen(80, 24, roll, muted=[4]).plain
    assert pitch_name(60) == "C4"


@pytest.mark.parametrize(("changed", "shown"), [
    ({"state": "paused"}, "PAUSED"), ({"state": "holding"}, "UNDERRUN"),
    ({"state": "waiting"}, "getting ready"), ({"coming_key": "G minor"}, "C minor → G minor"),
    ({"listening": True}, "listening"), ({"stalls": 2}, "stalls 2"),
    ({"note": "port is back"}, "port is back")])
def test_what_happens_is_told(changed, shown):
    assert shown in screen(80, 24, **changed).plain


def test_what_is_taken_back_leaves_the_roll():
    roll = Roll()
    roll.take([("notes", [(0, 240, 60, 1, 70), (960, 240, 62, 1, 70)]), ("truncate", 900)])
    assert [note.start_ticks for note in roll.notes] == [0]


def test_a_lost_port_and_a_slow_machine_are_told():
    text = screen(80, 24, port_open=False, slow_to_bpm=90).plain
    assert "IS GONE" in text
    assert "slow down to 90 bpm" in text


def test_a_drawing_costs_little():
    roll, console = Roll(), Console(width=80, height=24, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    roll.take([("notes", [(3000 + 60 * n, 120, 60 + n % 12, 1 + n % 4, 70) for n in range(200)])])
    began_s = time.process_time()
    for _ in range(20):
        console.print(screen(80, 24, roll))
    assert (
        time.process_time() - began_s
    ) / 20 < 0.06  # eight a second: at most half a core of a slow machine


def test_keys_turn_controls_and_learn_knobs(tmp_path):
    turned, notes = [], []
    desk = Desk(CONTROLS, {}, lambda control, value, source: turned.append((control.name, value)))
    conductor = SimpleNamespace(desk=desk, controls=CONTROLS, mapping=Mapping(default_bindings(CONTROLS)),
                                stopping=False, note=notes.append)
    keys = Keys(conductor, tmp_path / "controls.toml")
    for key in "]]S1!":
        keys.press(key)
    assert turned[:2] == [("temperature", 0.95), ("temperature", 1.0)]
    assert [name for name, _ in turned[2:]] == ["style", "mute_1", "panic"]
    for key in ("L", "="):
        keys.press(key)
    conductor.mapping.feed([0xB2, 99, 127], desk)
    assert turned[-1] == ("tempo", 300.0)
    keys.save()
    assert any(binding.cc == 99 and binding.control == "tempo"
               for binding in load_mapping(tmp_path / "controls.toml", CONTROLS).bindings)
    keys.press("q")
    assert conductor.stopping


def test_on_a_real_terminal_it_draws_obeys_a_key_and_leaves_the_terminal_as_it_was(
    tmp_path, default_model_folder
):
    if not (default_model_folder / "model.safetensors").is_file():
        pytest.skip("no shipped model")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [MLXGEN, "stream", "--midi-port", "none", "--session-folder", str(tmp_path / "s")],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(theirs)
    seen, end_s = b"", time.monotonic() + 60
    pressed = False
    while process.poll() is None and time.monotonic() < end_s:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
        if not pressed and b"playing" in seen:
            os.write(ours, b"q")
            pressed = True
    assert process.wait(20) == 0
    assert b"\x1b[?1049h" in seen           # another screen, and back
    assert b"\x1b[?1049l" in seen
    os.close(ours)
