"""Recorder: a MIDI file that is whole at every moment, whatever dies and whenever.

The file is one track that ends with note-offs for what sounds just now and an end-of-track (the tail). Each
flush writes the new events and a new tail behind the old tail, then the track's length, and last turns the
old tail into an empty remark. Before, between and after these three writes the file reads as a complete MIDI
file.
"""

from __future__ import annotations

import os
import struct

from mlxgen.perform.shared import SENT_RING, Shared
from mlxgen.perform.sounding import TEMPO_MARK

_HEADER = struct.Struct(">4sIHHH4sI")
_TRACK_AT = _HEADER.size                # first byte of the track's events
_LENGTH_AT = _HEADER.size - 4
_END_OF_TRACK = b"\x00\xff\x2f\x00"
_REMARK_TAIL_LIMIT = 127                # payload of a remark whose length is one byte


def variable_length(value: int) -> bytes:
    """A MIDI file's variable-length quantity. ValueError below 0."""
    if value < 0:
        raise ValueError(f"variable-length quantity {value}: expected 0 or more")
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def tempo_event(tempo_bpm: float) -> bytes:
    return b"\xff\x51\x03" + round(60e6 / tempo_bpm).to_bytes(3, "big")


class Recorder:
    """Takes what the player put into `shared`'s ring of sent messages to `path`.

    `flush()` raises OSError when the disk is full; the file is then what it was before. Where the file stands
    is kept in `shared`: after a crash another process goes on with `Recorder(path, shared)`.
    """

    def __init__(self, path: str, shared: Shared):
        self.path, self.shared = path, shared
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._tail_bytes = os.fstat(self._file).st_size and self._read_tail_bytes()

    def begin(self, tempo_bpm: float, meter: tuple[int, int]) -> None:
        """Write an empty recording."""
        denominator = meter[1].bit_length() - 1
        events = (b"\x00" + tempo_event(tempo_bpm)
                  + b"\x00\xff\x58\x04" + bytes([meter[0], denominator, 24, 8]))
        header = _HEADER.pack(b"MThd", 6, 0, 1, 480, b"MTrk", len(events) + len(_END_OF_TRACK))
        os.ftruncate(self._file, 0)
        self._write(header + events + _END_OF_TRACK, 0)
        self._stand(0, _TRACK_AT + len(events), 0, len(_END_OF_TRACK))

    def flush(self) -> None:
        """Write everything sent since the last flush."""
        shared = self.shared
        first, last = int(shared.get("recorded_count")), int(shared.get("sent_count"))
        if first == last:
            return
        first = max(first, last - SENT_RING + 1)
        events, tick = bytearray(), int(shared.get("recorded_tick"))
        for number in range(first, last):
            due, packed = (
                round(shared.sent_ticks[number % SENT_RING]),
                shared.sent_messages[number % SENT_RING],
            )
            events += variable_length(max(0, due - tick)) + _message_bytes(packed)
            tick = max(tick, due)
        self._append(bytes(events), last, tick)

    def _append(self, events: bytes, count: int, tick: int) -> None:
        old_end = int(self.shared.get("recorded_end"))
        tail = self._make_tail()
        begin = old_end + self._tail_bytes
        self._write(events + tail, begin)
        new_end = begin + len(events)
        self._write(struct.pack(">I", new_end + len(tail) - _TRACK_AT), _LENGTH_AT)
        self._write(b"\x00\xff\x01" + bytes([self._tail_bytes - 4]), old_end)
        self._stand(count, new_end, tick, len(tail))

    def _make_tail(self) -> bytes:
        offs = b"".join(
            bytes([0, 0x80 | channel, pitch, 64]) for channel, pitch in self.shared.sounding_notes()
        )
        return offs[:_REMARK_TAIL_LIMIT // 4 * 4] + _END_OF_TRACK

    def _read_tail_bytes(self) -> int:
        length = struct.unpack(">I", os.pread(self._file, 4, _LENGTH_AT))[0]
        return _TRACK_AT + length - int(self.shared.get("recorded_end"))

    def _write(self, data: bytes, offset: int) -> None:
        written = os.pwrite(self._file, data, offset)
        if written != len(data):        # a full disk takes a part; asked again, it says why
            os.pwrite(self._file, data[written:], offset + written)

    def _stand(self, count: int, end: int, tick: int, tail_bytes: int) -> None:
        self._tail_bytes = tail_bytes
        self.shared.set("recorded_count", count)
        self.shared.set("recorded_end", end)
        self.shared.set("recorded_tick", tick)

    def finish(self) -> None:
        self.flush()
        self.close()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _message_bytes(packed: int) -> bytes:
    status = packed & 0xFF
    if status == TEMPO_MARK:
        return tempo_event((packed >> 8) / 1000)
    return bytes([status, packed >> 8 & 0x7F, packed >> 16 & 0x7F])


def read_recording(path: str) -> list[tuple[int, int]]:
    """(tick, pitch) of every note-on of a recording, in the order in which they were sent."""
    import mido

    notes, tick = [], 0
    for message in mido.MidiFile(path).tracks[0]:
        tick += message.time
        if message.type == "note_on":
            notes.append((tick, message.note))
    return notes
