"""Sounding: what a port was told to sound. Every note-on has one note-off, and every send is accounted for.

The table of sounding notes, the histogram of lateness and the ring of sent messages lie in shared memory, so
that they outlive the process that fills them.
"""

from __future__ import annotations

import time

from mlxgen.perform.ports import note_off, panic_messages
from mlxgen.perform.shared import LATE_BIN_S, LATE_BINS, SENT_RING, Shared

TEMPO_MARK = 0xFF           # in the sent ring: 0xFF | milli-bpm << 8


class Sounding:
    """`port` may be changed at any time, after `release_all`.

    serial: which note. slot: channel * 128 + pitch. tick: where the recording has it. due_s: the deadline
    that the send is measured against, None for what nobody waited for.
    """

    def __init__(self, port, shared: Shared, now=time.monotonic):
        self.port, self.shared, self.now = port, shared, now
        self.mute_mask = 0
        self._open: dict[int, tuple[int, int]] = {}     # serial -> (slot, voice)

    def __bool__(self) -> bool:
        """Whether anything sounds."""
        return bool(self._open)

    def strike(self, event: tuple, due_s: float) -> None:
        """event: (tick, order, serial, slot, voice, message); see `Player`."""
        tick, _, serial, slot, voice, message = event
        shared = self.shared
        if self.mute_mask >> (voice - 1) & 1:
            shared.add("muted_notes")
            return
        if shared.sounding[slot]:               # another voice holds this pitch: strike it again
            self._send(note_off(slot), tick, due_s)
            shared.add("note_offs")
        shared.sounding[slot] += 1
        self._open[serial] = (slot, voice)
        self._send(message, tick, due_s)
        shared.add("note_ons")

    def release(self, serial: int, tick: float, due_s: float | None = None) -> None:
        """End a note, if it sounds."""
        slot, _ = self._open.pop(serial, (None, None))
        if slot is None:
            return
        self.shared.sounding[slot] -= 1
        if self.shared.sounding[slot] == 0:
            self._send(note_off(slot), tick, due_s)
            self.shared.add("note_offs")

    def release_all(self, tick: float) -> None:
        for serial in list(self._open):
            self.release(serial, tick)

    def mute(self, mask: int, tick: float) -> None:
        """Bit n-1 silences voice n, at once."""
        self.mute_mask = mask
        for serial, (_, voice) in list(self._open.items()):
            if mask >> (voice - 1) & 1:
                self.release(serial, tick)

    def panic(self, tick: float) -> None:
        """Tracked note-offs, then CC 64, 123 and 120 on 16 channels."""
        self.release_all(tick)
        for message in panic_messages():
            self.port.send(message)

    def mark_tempo(self, tick: float, tempo_bpm: float) -> None:
        """For the recording."""
        self._record(tick, TEMPO_MARK | int(tempo_bpm * 1000) << 8)

    def _send(self, message: list[int], tick: float, due_s: float | None) -> None:
        if due_s is not None:
            late_s = self.now() - due_s
            shared = self.shared
            shared.late[min(int(late_s / LATE_BIN_S), LATE_BINS - 1) if late_s > 0 else 0] += 1
            if late_s > shared.get("late_max_s"):
                shared.set("late_max_s", late_s)
        self.port.send(message)
        self._record(tick, message[0] | message[1] << 8 | message[2] << 16)

    def _record(self, tick: float, packed: int) -> None:
        count = int(self.shared.get("sent_count"))
        self.shared.sent_ticks[count % SENT_RING] = self.shared.get("epoch_tick") + tick
        self.shared.sent_messages[count % SENT_RING] = packed
        self.shared.set("sent_count", count + 1)
