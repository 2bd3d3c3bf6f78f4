"""The state of a performance as one dict: what the screen, the status line and --json show."""

from __future__ import annotations

import time

from mlxgen.perform.shared import Shared


def make_status(conductor) -> dict:
    """Numbers and words only."""
    shared: Shared = conductor.shared
    position = shared.position(time.monotonic())
    late, generator = shared.lateness(), conductor.status
    result = {"state": position.state, "tick": round(position.tick), "bar": 0, "beat": 0,
              "tempo_bpm": round(shared.get("tempo_bpm"), 2), "port_open": bool(shared.get("port_open"))}
    beat = shared.get("beat_ticks") or 480.0
    result["beats"] = round(position.tick / beat, 2)
    for name in ("underruns", "stalls", "slipped_beats", "late_count", "note_ons", "note_offs"):
        result[name] = int(shared.get(name))
    result["sounding"] = len(shared.sounding_notes())
    result.update({f"late_{name}": round(late[name], 3) for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")})
    for name in ("ahead_bars", "ids_per_s", "p50_ms", "p95_ms", "p99_ms"):
        result[name] = round(generator.get(name, 0.0), 2)
    result["key"] = generator.get("key", "")
    result["controls"] = {name: value for name, value in conductor.desk.values.items()
                          if conductor.controls[name].kind != "action"}
    result["note"] = conductor.messages[-1] if conductor.messages else ""
    return result


def status_line(status: dict) -> str:
    """One line for people."""
    return (f"{status['state']:8s} beat {status['beats']:8.1f}  {status['key']:9s} {status['tempo_bpm']:5.1f} bpm  "
            f"ahead {status['ahead_bars']:.1f} bars  {status['ids_per_s']:.0f} ids/s  late p99 "
            f"{status['late_p99_ms']:.2f} max {status['late_max_ms']:.2f} ms  underruns {status['underruns']}  "
            f"{'' if status['port_open'] else 'PORT GONE  '}{status['note']}")
