"""The state of a performance as one dict: what the screen, the status line and --json show."""

from __future__ import annotations

import time

from mlxgen.music.theory import bar_ticks, beat_ticks
from mlxgen.perform.shared import Shared


def make_status(conductor) -> dict:
    """Numbers and words only."""
    shared: Shared = conductor.shared
    position = shared.position(time.monotonic())
    late, generator = shared.lateness(), conductor.status
    conditioning = conductor.settings.session.conditioning.with_defaults()
    beat, bar = beat_ticks(conditioning.meter), bar_ticks(conditioning.meter)
    values = conductor.desk.values
    result = {"state": position.state, "tick": round(position.tick), "beats": round(position.tick / beat, 2),
              "bar": int(position.tick // bar) + 1, "beat": int(position.tick % bar // beat) + 1,
              "bar_ticks": bar, "beat_ticks": beat, "form": conditioning.form, "voices": conditioning.voices,
              "muted": [voice for voice in range(1, 5) if values.get(f"mute_{voice}")],
              "buffer_bars": conductor.settings.session.buffer_bars,
              "commit_ticks": generator.get("commit_ticks", beat), "port": conductor.port_name,
              "tempo_bpm": round(shared.get("tempo_bpm"), 2), "port_open": bool(shared.get("port_open"))}
    for name in ("underruns", "stalls", "slipped_beats", "late_count", "note_ons", "note_offs"):
        result[name] = int(shared.get(name))
    result["sounding"] = len(shared.sounding_notes())
    result.update({f"late_{name}": round(late[name], 3) for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")})
    for name in ("ahead_bars", "ids_per_s", "p50_ms", "p95_ms", "p99_ms", "slow_to_bpm", "turn_ms"):
        result[name] = round(generator.get(name, 0.0), 2)
    for name in ("key", "coming_key"):
        result[name] = generator.get(name, "")
    result["listening"] = generator.get("listening", False)
    result["controls"] = {name: value for name, value in conductor.desk.values.items()
                          if conductor.controls[name].kind != "action"}
    result["note"] = conductor.messages[-1] if conductor.messages else ""
    return result


_LINE = ("{state:8s} beat {beats:8.1f}  {key:9s} {tempo_bpm:5.1f} bpm  ahead {ahead_bars:.1f} bars  "
         "{ids_per_s:.0f} ids/s  late p99 {late_p99_ms:.2f} max {late_max_ms:.2f} ms  underruns {underruns}  "
         "{port_gone}{note}")


def status_line(status: dict) -> str:
    """One line for people."""
    return _LINE.format(**status, port_gone="" if status["port_open"] else "PORT GONE  ")
