"""OSC: a UDP socket whose messages turn the same controls, /mlxgen/temperature 0.8 and so on."""

from __future__ import annotations

import socket

MAX_BYTES = 65536
AT_ONCE = 256       # packets: a sender that is faster than we are must not keep us from everything else


def open_osc(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket that listens; ValueError when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ValueError(f"OSC port {port}: {error.strerror}; --osc takes another number") from None
    listener.setblocking(False)
    return listener


def parse_osc(data: bytes) -> list[tuple[str, list]]:
    """(address, arguments) of every message in a packet, bundles opened. ValueError for what is not OSC."""
    from pythonosc.osc_packet import OscPacket, ParseError

    try:
        packet = OscPacket(data)
    except ParseError as error:
        raise ValueError(f"OSC packet of {len(data)} bytes: {error}") from None
    return [(timed.message.address, list(timed.message.params)) for timed in packet.messages]


def feed_osc(data: bytes, desk) -> None:
    """Turn the controls that a packet names: /mlxgen/<control> with its value, none for an action.

    ValueError for an unknown address or value.
    """
    by_address = {control.osc: control for control in desk.controls.values()}
    for address, arguments in parse_osc(data):
        if address not in by_address:
            raise ValueError(f"OSC address {address!r}: expected one of {', '.join(by_address)}")
        control = by_address[address]
        if control.kind == "action":
            if not arguments or arguments[0]:       # a button's release sends 0
                desk.turn(control.name, 1, "osc")
        elif arguments:
            desk.turn(control.name, arguments[0], "osc")
        else:
            raise ValueError(f"OSC {address}: expected a value")


def read_osc(listener: socket.socket, desk, complain) -> None:
    """The packets that wait, at most AT_ONCE; what is wrong with one goes to `complain`."""
    for _ in range(AT_ONCE):
        try:
            data = listener.recv(MAX_BYTES)
        except BlockingIOError:
            return
        try:
            feed_osc(data, desk)
        except ValueError as error:
            complain(str(error))
