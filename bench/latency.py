"""How well a performance keeps time, on a real JACK server: `python -m bench latency SCENE`.

    timer                 what this machine's own timer does in an empty loop (the floor of every figure)
    first --count 5       from the command to the first note at the synthesiser
    play --minutes 10     playing under full generation: underruns, hung notes, order, lateness, first sound
    controls --count 50   from a control's OSC message to the first note made under it, at the synthesiser;
                          --only key turns nothing else
    listen --count 5      from a played theme's last note-off to the first answered note-on, and its place
    soak --minutes 60     as play, with every process's memory

Every scene prints a table and ends with one JSON line. Nothing is simulated: the receiver is a JACK client.
--neighbours 2 adds so many busy loops with the generator's own priority: the machine at half speed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import socket
import statistics
import tempfile
import time
from pathlib import Path

from bench.jack_stage import Receiver, Stream, jack_server, resident_mb

TEMPO = 120.0
BEAT_S = 60.0 / TEMPO
BAR_S = 4 * BEAT_S
NEAR_S = 0.5            # a new key later than a bar and this has missed a line that it might have met


def empty_loop(seconds: float = 10.0, period_s: float = 0.005) -> dict:
    """Lateness of the player's own way of waiting, with nothing to do at the deadlines."""
    from mlxgen.perform.playerproc import Spin
    from mlxgen.perform.processes import raise_priority

    raise_priority()
    spin, late, deadline_s = Spin(), [], time.monotonic()
    for _ in range(int(seconds / period_s)):
        deadline_s += period_s
        spin.wait(deadline_s, [])
        late.append((time.monotonic() - deadline_s) * 1e3)
    return {"scene": "timer", "count": len(late), **summary(late)}


def summary(values: list[float]) -> dict:
    ordered = sorted(values)
    place = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
    return {"p50_ms": round(place(0.5), 4), "p99_ms": round(place(0.99), 4), "max_ms": round(ordered[-1], 4)}


def compare_with_log(folder: Path, receiver: Receiver) -> dict:
    """Order and pitches of what was received against the offline decode of the logged ids."""
    from mlxgen.commands.options import default_model_folder
    from mlxgen.music.vocab import Vocab
    from mlxgen.perform.log import read_log
    from mlxgen.perform.record import read_recording
    from mlxgen.perform.replay import replay

    tape = replay(read_log(folder / "session.jsonl"), Vocab.load(default_model_folder() / "tokenizer.json"))
    wanted, got = [note.pitch for note in tape.notes], [pitch for _, pitch in receiver.note_ons()]
    sent = read_recording(str(folder / "recording.mid"))
    return {
        "notes": len(got),
        "equal_to_decode": got == wanted,
        "recording_equal_to_decode": sorted(sent)
        == sorted((note.start_ticks, note.pitch) for note in tape.notes),
        "lost_on_the_way": len(wanted) - len(got),
    }


def play(minutes: float, options: list[str], memory: bool = False, keep: str | None = None) -> dict:
    """The first and the last scene: play for so long, then compare."""
    folder = Path(keep or tempfile.mkdtemp(prefix="mlxgen-play-"))
    with jack_server():
        receiver = Receiver()
        stream = Stream(folder, *options, tempo=TEMPO)
        while not receiver.note_ons() and stream.process.poll() is None:
            time.sleep(0.005)
        first_s = receiver.note_ons()[0][0] - stream.started_s
        rows = watch_memory(stream, minutes) if memory else time.sleep(minutes * 60) or []
        last = stream.statuses[-1]
        error = stream.stop()
        result = {
            "scene": "soak" if memory else "play",
            "minutes": minutes,
            "first_sound_s": round(first_s, 2),
            **{
                name: last[name]
                for name in (
                    "underruns",
                    "stalls",
                    "late_count",
                    "ids_per_s",
                    "p50_ms",
                    "p95_ms",
                    "p99_ms",
                    "late_p50_ms",
                    "late_p99_ms",
                    "late_max_ms",
                )
            },
            "hung_notes": receiver.hung(),
            **compare_with_log(folder, receiver),
        }
    if rows:
        result["memory_mb"] = {
            name: {"after_2_minutes": rows[min(len(rows) - 1, 12)][name], "at_the_end": rows[-1][name]}
            for name in rows[0]
        }
    if error.strip() and "playing to" not in error.splitlines()[-1]:
        print(error)
    return result


def first(count: int, options: list[str]) -> dict:
    """Starts of the command, one after another."""
    seconds = []
    with jack_server():
        for _ in range(count):
            receiver = Receiver()
            stream = Stream(Path(tempfile.mkdtemp(prefix="mlxgen-first-")), *options, tempo=TEMPO)
            while not receiver.note_ons() and stream.process.poll() is None:
                time.sleep(0.005)
            seconds.append(receiver.note_ons()[0][0] - stream.started_s)
            stream.stop()
            receiver.close()
    return {"scene": "first", "seconds": [round(value, 2) for value in seconds],
            "median_s": round(statistics.median(seconds), 2), "max_s": round(max(seconds), 2)}


def watch_memory(stream: Stream, minutes: float) -> list[dict]:
    """Every process's resident memory, each ten seconds; the whole course goes beside the session's log."""
    rows, end_s = [], time.monotonic() + minutes * 60
    with open(stream.folder / "memory.jsonl", "w") as file:
        while time.monotonic() < end_s and stream.process.poll() is None:
            time.sleep(10)
            rows.append({name: round(resident_mb(pid), 1) for name, pid in stream.pids().items()})
            status = stream.statuses[-1] if stream.statuses else {}
            print(
                json.dumps(
                    {
                        **rows[-1],
                        **{
                            name: status.get(name)
                            for name in ("beats", "underruns", "late_max_ms", "ids_per_s")
                        },
                    }
                ),
                file=file,
                flush=True,
            )
    return rows


# control, its values
TURNS = {
    "temperature": [0.6, 0.8, 1.0, 1.2],
    "style": ["bach", "baroque", "renaissance", "classical"],
    "texture": ["homophonic", "polyphonic", "mixed"],
    "key": ["C minor", "G minor", "Eb major", "F minor", "C major"],
}


def burn() -> None:
    """Entry point of a neighbour: as urgent as the generator, and not done before its parent is."""
    from mlxgen.perform.processes import GENERATOR, prefer

    prefer(GENERATOR)
    parent = os.getppid()
    while os.getppid() == parent:
        pass


@contextlib.contextmanager
def neighbours(count: int):
    """So many busy loops while it lasts."""
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=burn, daemon=True) for _ in range(count)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def controls(count: int, options: list[str], only: str | None = None) -> dict:
    """Random controls at random moments, or one control again and again; a key gets time to come."""
    from pythonosc.udp_client import SimpleUDPClient

    folder, dice, sent = Path(tempfile.mkdtemp(prefix="mlxgen-controls-")), random.Random(1), []
    port = free_port()
    with jack_server():
        receiver = Receiver()
        stream = Stream(folder, "--osc", str(port), "--temperature", "0.9", *options, tempo=TEMPO)
        client = SimpleUDPClient("127.0.0.1", port)
        while len(receiver.note_ons()) < 20:
            time.sleep(0.05)
        values = {"style": "bach", "texture": "polyphonic", "key": "C minor"}     # as the fugue begins
        for number in range(count):
            time.sleep(dice.uniform(1.5, 3.5) if only != "key" else dice.uniform(2.6, 4.6))
            name = only or (("temperature", "style", "texture")[number % 3] if number % 7 else "key")
            value = dice.choice([value for value in TURNS[name] if value != values.get(name)])
            values[name] = value
            sent.append((time.monotonic(), name, value))
            client.send_message(f"/mlxgen/{name}", value)
        time.sleep(6)
        last = stream.statuses[-1]
        stream.stop()
        compared = compare_with_log(folder, receiver)
    heard = control_to_sound(folder, sent, receiver)
    result = {"scene": "controls", "count": count, "bound_ms": round((BEAT_S + 0.05) * 1e3), **compared,
              "underruns": last["underruns"], "late_count": last["late_count"], "stalls": last["stalls"],
              "hung_notes": receiver.hung()}
    for name in TURNS:
        mine = [row for row in heard if row["name"] == name]
        if mine:
            result[name] = {
                "count": len(mine),
                **{
                    f"{what}_{how}_ms": round(function(row[f"{what}_ms"] for row in mine))
                    for what in ("boundary", "note")
                    for how, function in (("median", statistics.median), ("max", max))
                },
            }
    asked = sum(name == "key" for _, name, _ in sent)
    if asked:
        after_s = [row["boundary_ms"] / 1e3 for row in heard if row["name"] == "key"]
        for name, bound_s in (("over_2.2_s", BAR_S + 0.2), ("missed_a_line", BAR_S + NEAR_S)):
            late = asked - sum(each <= bound_s for each in after_s)
            result.setdefault("key", {})[name] = f"{late} of {asked}"
    return result


def control_to_sound(folder: Path, sent: list[tuple], receiver: Receiver) -> list[dict]:
    """For each control: ms until the place from which on everything is new (boundary), and until the first
    note drawn after it sounds at the receiver (note).
    """
    from mlxgen.commands.options import default_model_folder
    from mlxgen.music.vocab import Vocab
    from mlxgen.perform.log import read_log
    from mlxgen.perform.replay import replay

    entries = list(read_log(folder / "session.jsonl"))
    tape = replay(entries, Vocab.load(default_model_folder() / "tokenizer.json"))
    arrivals = [at_s for at_s, _ in receiver.note_ons()]
    asked = [number for number, entry in enumerate(entries) if entry.get("op") == "control"]
    rate = TEMPO * 480 / 60
    rows = []
    for (sent_s, name, value), number in zip(sent, asked, strict=True):
        assert entries[number]["name"] == name and entries[number]["value"] == value
        following = next((entry for entry in entries[number + 1:]
                          if entry.get("op") == "renewed" and entry["by"] == name), None)
        if following is None:
            continue
        boundary_s = (
            (following["from_tick"] - entries[number]["playhead"]) / rate + entries[number]["t"] - sent_s
        )
        made = [at_s for at_s, note, born in zip(arrivals, tape.notes, tape.born, strict=False)
                if born > entries.index(following) and note.start_ticks >= following["from_tick"]]
        if made:
            rows.append(
                {"name": name, "boundary_ms": boundary_s * 1e3, "note_ms": (min(made) - sent_s) * 1e3}
            )
    return rows


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listen(count: int, options: list[str]) -> dict:
    """Themes of a bar and a half, played on the beat; the answer's first note."""
    from mlxgen.perform.ports import make_client

    rows = []
    with jack_server():
        receiver = Receiver()
        for number in range(count):
            folder = Path(tempfile.mkdtemp(prefix="mlxgen-listen-"))
            stream = Stream(folder, "--listen", "virtual", *options, tempo=TEMPO)
            hands = make_client("MidiOut", "jack", "hands")
            while not any("mlxgen-in" in name for name in hands.get_ports()):
                time.sleep(0.05)
            hands.open_port(next(n for n, name in enumerate(hands.get_ports()) if "mlxgen-in" in name))
            time.sleep(3)
            receiver.received.clear()
            begin_s = time.monotonic()
            for place, pitch in enumerate((62, 65, 69, 68, 69, 62)[:4 + number % 3]):
                time.sleep(max(0.0, begin_s + place * BEAT_S - time.monotonic()))
                hands.send_message([0x90, pitch, 80])
                time.sleep(BEAT_S * 0.9)
                hands.send_message([0x80, pitch, 0])
            ended_s = time.monotonic()
            while not receiver.note_ons():
                time.sleep(0.005)
            answered_s = receiver.note_ons()[0][0]
            beats = (answered_s - begin_s) / BEAT_S
            rows.append(
                {
                    "theme_beats": 4 + number % 3,
                    "after_ms": (answered_s - ended_s) * 1e3,
                    "at_beat": beats,
                    "off_grid_ms": abs(beats * 2 - round(beats * 2)) / 2 * BEAT_S * 1e3,
                }
            )
            stream.stop()
            hands.delete()
    return {
        "scene": "listen",
        "rows": [{name: round(value, 2) for name, value in row.items()} for row in rows],
        "after_median_ms": round(statistics.median(row["after_ms"] for row in rows)),
        "off_grid_max_ms": round(max(row["off_grid_ms"] for row in rows), 1),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench latency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", choices=["timer", "first", "play", "controls", "listen", "soak"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--only", choices=list(TURNS), help="turn this control alone")
    parser.add_argument("--neighbours", type=int, default=0, help="busy loops beside it")
    parser.add_argument("--keep", help="keep the session in this folder")
    given, options = parser.parse_known_args(arguments)
    options = options or ["--mode", "fugue", "--key", "C minor", "--style", "bach", "--seed", "11"]
    scenes = {
        "timer": empty_loop,
        "first": lambda: first(given.count, options),
        "play": lambda: play(given.minutes, options, keep=given.keep),
        "controls": lambda: controls(given.count, options, given.only),
        "listen": lambda: listen(given.count, options),
        "soak": lambda: play(given.minutes, options, memory=True, keep=given.keep),
    }
    with neighbours(given.neighbours):
        result = scenes[given.scene]()
    for name, value in result.items():
        print(f"{name:18s} {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
