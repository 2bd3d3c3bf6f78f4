"""Shared: what the player shows the other processes, in memory that outlives any of them.

The player writes, everyone reads, nobody waits. The table of sounding notes and the ring of sent messages
lie here too, so that whoever survives a crash can end the notes and finish the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

FIELDS = (
    "sequence",                                      # odd while the transport is being written
    "anchor_tick", "anchor_s", "rate", "running",    # the transport, see clock.py
    "horizon_tick",                                  # every note before it is known to the player
    "state", "epoch", "tempo_bpm",
    "underruns", "stalls", "slipped_beats",          # slipped: whole beats that time was moved by
    "note_ons", "note_offs", "muted_notes",
    "late_count", "late_max_s", "sent_count",
    "port_open", "port_seen", "system_seen", "beat_ticks",
    "inputs_seen",                                   # a bit for each input that is wanted
    "played_epoch", "played_tick",                   # how far the notes of an epoch were played, -1 for none,
    "ended_epoch", "ended_tick",                     # and of the one before it
    "recorded_count", "recorded_end", "recorded_tick",   # where the recording file stands,
    "epoch_tick",                                        # and where in it the present epoch begins
)
INDEX = {name: number for number, name in enumerate(FIELDS)}

STATES = ("waiting", "playing", "holding", "paused", "ended")

LATE_BIN_S = 10e-6
LATE_BINS = 2001        # the last one counts everything from 20 ms up
NAME_BYTES = 512
SENT_RING = 16384       # messages; at 100 a second more than two minutes of a stopped reader


@dataclass(frozen=True)
class Position:
    """The playhead, as another process sees it."""

    tick: float
    horizon_tick: float
    rate: float           # ticks a second, 0 while standing
    state: str
    epoch: int
    asked_tick: float | None = None     # where it stood when what is served now was asked for

    def beat_after_asking(self, beat: int) -> int:
        """The tick one beat after what is served now was asked for."""
        return int(self.tick if self.asked_tick is None else self.asked_tick) + beat


class Shared:
    """Made by the supervisor, passed to each process when it is spawned. Holds plain ctypes arrays only."""

    def __init__(self, context):
        self.fields = context.RawArray("d", len(FIELDS))
        self.late = context.RawArray("Q", LATE_BINS)
        self.sounding = context.RawArray("B", 16 * 128)      # [channel * 128 + pitch] -> how many hold it
        self.sent_ticks = context.RawArray("d", SENT_RING)
        self.sent_messages = context.RawArray("L", SENT_RING)  # status | data1 << 8 | data2 << 16
        self._port_name = context.RawArray("c", NAME_BYTES)
        self.set("played_tick", -1)

    def get(self, name: str) -> float:
        return self.fields[INDEX[name]]

    def set(self, name: str, value: float) -> None:
        self.fields[INDEX[name]] = value

    def add(self, name: str, value: float = 1) -> None:
        self.fields[INDEX[name]] += value

    @property
    def port_name(self) -> str:
        """Of the port that was opened last; one that comes back may have another name."""
        return self._port_name.value.decode(errors="ignore")

    @port_name.setter
    def port_name(self, name: str) -> None:
        self._port_name.value = name.encode()[:NAME_BYTES - 1]

    def publish(self, transport, nudge_s: float, horizon_tick: float, state: int, epoch: int) -> None:
        """With `nudge_s` the playhead is where the notes are that leave now."""
        fields = self.fields
        fields[0] += 1
        fields[1], fields[2] = transport.anchor_tick, transport.anchor_s + nudge_s
        fields[3], fields[4] = transport.rate, float(transport.running)
        fields[5], fields[6], fields[7] = horizon_tick, state, epoch
        fields[0] += 1

    def position(self, now_s: float) -> Position:
        """The playhead at `now_s` on the machine-wide monotonic clock."""
        fields = self.fields
        for _ in range(1000):
            before = fields[0]
            values = fields[0:8]
            if before == fields[0] and before % 2 == 0:
                break
        _, anchor_tick, anchor_s, rate, running, horizon, state, epoch = values
        tick = anchor_tick + max(0.0, now_s - anchor_s) * rate if running else anchor_tick
        tick = max(min(tick, horizon) if running else tick, self.get("played_tick"))     # once nudged later
        return Position(tick, horizon, rate if running else 0.0,
                        STATES[int(state)], int(epoch))

    def lateness(self) -> dict[str, float]:
        """{"count", "p50_ms", "p95_ms", "p99_ms", "max_ms"} of all sends so far."""
        return percentiles(list(self.late), self.get("late_max_s"))

    def sounding_notes(self) -> list[tuple[int, int]]:
        """(channel, pitch) of every note that was started and not ended."""
        return [divmod(slot, 128) for slot, count in enumerate(self.sounding) if count]


def percentiles(counts: list[int], maximum_s: float) -> dict[str, float]:
    """Percentiles of a lateness histogram with bins of LATE_BIN_S; each is its bin's upper edge."""
    total = sum(counts)
    result = {"count": total, "max_ms": maximum_s * 1e3}
    for name, share in (("p50_ms", 0.50), ("p95_ms", 0.95), ("p99_ms", 0.99)):
        seen, edge = 0, 0
        for number, count in enumerate(counts):
            seen += count
            if total and seen >= share * total:
                edge = number + 1
                break
        result[name] = min(edge * LATE_BIN_S, maximum_s) * 1e3
    return result
