"""The messages between the generator, the supervisor and the player, one datagram each.

Datagrams, because a datagram cannot be cut in half by a killed writer. A note message stays under 1500 bytes,
which every system's default limit lets through.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from typing import NamedTuple

MAX_BYTES = 2048
MAX_NOTES = 60

_NOTES = struct.Struct("<cIqB")         # kind, epoch, horizon_tick, note count
_NOTE = struct.Struct("<qiBBB")         # start, duration, pitch, voice, velocity
_ORDER = struct.Struct("<cIddd")        # kind, epoch, three values

# kind byte of each order, with what its three values mean
ORDERS = {
    "start": b"S",        # tick, seconds from now
    "truncate": b"T",     # tick: notes that begin there or later are withdrawn
    "shorten": b"s",      # tick, bit mask of voices: their notes that began before end there at the latest
    "finish": b"E",       # tick: nothing comes after it
    "flush": b"F",        # a new epoch: everything ends, the next notes count from tick 0
    "tempo": b"t",        # bpm
    "pause": b"p",        # 1 or 0
    "panic": b"!",
    "mute": b"m",         # bit mask of voices, bit 0 is voice 1
    "nudge": b"n",        # seconds
    "port": b"P",         # 0 gone, 1 open it again
    "sync": b"y",         # quarters, at_s, bpm
    "beat": b"b",         # ticks of a beat
    "go": b"g",           # at_s: an outer clock said Start
    "quit": b"q",
}
_ORDER_NAMES = {kind: name for name, kind in ORDERS.items()}


class TimedNote(NamedTuple):
    """A note on the performance's own tick line, which runs on through key changes and new prefixes."""

    start_ticks: int
    duration_ticks: int
    pitch: int
    voice: int
    velocity: int


class Notes(NamedTuple):
    epoch: int
    horizon_tick: int
    notes: tuple[TimedNote, ...]


class Order(NamedTuple):
    epoch: int
    name: str
    values: tuple[float, float, float]


def pack_notes(epoch: int, horizon_tick: int, notes: list[TimedNote]) -> bytes:
    if len(notes) > MAX_NOTES:
        raise ValueError(f"{len(notes)} notes in one message: expected at most {MAX_NOTES}")
    return _NOTES.pack(b"N", epoch, horizon_tick, len(notes)) + b"".join(_NOTE.pack(*note) for note in notes)


def pack_order(epoch: int, name: str, *values: float) -> bytes:
    first, second, third = (*values, 0.0, 0.0, 0.0)[:3]
    return _ORDER.pack(ORDERS[name], epoch, first, second, third)


def unpack(data: bytes) -> Notes | Order:
    """ValueError on a datagram that is neither notes nor an order."""
    kind = bytes(data[:1])
    if kind == b"N":
        _, epoch, horizon, count = _NOTES.unpack_from(data)
        body = data[_NOTES.size:]
        if len(body) != count * _NOTE.size:
            raise ValueError(f"note message of {len(body)} bytes: expected {count * _NOTE.size}")
        return Notes(epoch, horizon, tuple(TimedNote(*fields) for fields in _NOTE.iter_unpack(body)))
    if kind in _ORDER_NAMES and len(data) == _ORDER.size:
        _, epoch, *values = _ORDER.unpack(data)
        return Order(epoch, _ORDER_NAMES[kind], tuple(values))
    raise ValueError(f"message {kind!r} of {len(data)} bytes: expected notes or an order")


def make_channel() -> tuple[socket.socket, socket.socket]:
    """(reader, writer) of a one-way datagram channel."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reader.setblocking(False)
    writer.setblocking(False)
    return reader, writer


class Writer:
    """Sends datagrams; a full channel is waited for, up to `timeout_s`. False means the reader is not
    reading.
    """

    def __init__(self, channel: socket.socket, timeout_s: float = 3.0):
        self.channel = channel
        self.timeout_s = timeout_s

    def send(self, data: bytes) -> bool:
        give_up_s = time.monotonic() + self.timeout_s
        while True:
            try:
                self.channel.send(data)
                return True
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno != errno.ENOBUFS:   # macOS says so when the reader's queue is full
                    return False
                time.sleep(0.001)
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                return False
            select.select([], [self.channel], [], min(left_s, 0.05))


def read_all(channel: socket.socket) -> list[Notes | Order]:
    """Every message that waits in the channel, oldest first; never blocks."""
    messages = []
    while True:
        try:
            data = channel.recv(MAX_BYTES)
        except (BlockingIOError, ConnectionError):
            return messages
        if not data:
            return messages
        messages.append(unpack(data))
