"""MIDI ports: found by name, virtual when none is named, and a fake one for tests.

python-rtmidi is imported when a port is first needed, so that `mlxgen --help` does not pay for it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

CLIENT_NAME = "mlxgen"
SILENT = "none"     # the port name for a performance that is only recorded
VIRTUAL = "virtual"     # of an input that others can play to

# our name -> python-rtmidi's constant, in the order in which they are tried
APIS = {"core": "API_MACOSX_CORE", "alsa": "API_LINUX_ALSA", "jack": "API_UNIX_JACK"}

DRAIN_S = 0.15      # a JACK client that closes sooner takes its last messages with it
ALSA_DEVICE = "/dev/snd/seq"

_NOTE_OFF = [[0x80 | slot >> 7, slot & 127, 64] for slot in range(16 * 128)]
PANIC_CONTROLLERS = (64, 123, 120)      # sustain off, all notes off, all sound off


def note_on(slot: int, velocity: int) -> list[int]:
    """The message for slot = channel * 128 + pitch."""
    return [0x90 | slot >> 7, slot & 127, velocity]


def note_off(slot: int) -> list[int]:
    return _NOTE_OFF[slot]


def panic_messages() -> list[list[int]]:
    """What ends every sound on every channel."""
    return [[0xB0 | channel, controller, 0] for channel in range(16) for controller in PANIC_CONTROLLERS]


@dataclass(frozen=True)
class PortSpec:
    """Which port: `name` None is a virtual port named mlxgen, "none" is silence; `api` auto, core, alsa or
    jack.
    """

    name: str | None = None
    api: str = "auto"
    client: str = CLIENT_NAME


@dataclass
class FakePort:
    """Records what is sent: `sent` is a list of (second, message)."""

    now: object = time.monotonic
    name: str = "fake"
    sent: list = field(default_factory=list)

    def send(self, message: list[int]) -> None:
        self.sent.append((self.now(), list(message)))

    def close(self) -> None:
        pass


class NullPort:
    """Swallows everything: no port wanted, or the port is gone."""

    name = SILENT

    def send(self, message: list[int]) -> None:
        pass

    def close(self) -> None:
        pass


class RtPort:
    """A python-rtmidi output."""

    def __init__(self, midi_out, name: str):
        self._midi_out, self.name = midi_out, name
        self.send = midi_out.send_message

    def close(self) -> None:
        time.sleep(DRAIN_S)
        self._midi_out.close_port()
        self._midi_out.delete()


def match_name(wanted: str, available: list[str], what: str = "MIDI port") -> int:
    """Index of the port called `wanted`: the same name, or the only one that contains it, whatever the case.

    Raises ValueError that lists what exists.
    """
    if wanted in available:
        return available.index(wanted)
    close = [number for number, name in enumerate(available) if wanted.casefold() in name.casefold()]
    if len(close) == 1:
        return close[0]
    listing = ", ".join(repr(name) for name in available) or "none at all"
    problem = "is not there" if not close else f"fits {len(close)} ports"
    raise ValueError(f"{what} {wanted!r} {problem}; there are: {listing}")


def make_client(kind: str, api: str, client: str, *queue_size: int):
    """A python-rtmidi MidiIn or MidiOut on the first system that answers. ValueError if none does."""
    import rtmidi

    compiled = rtmidi.get_compiled_api()
    names = APIS if api == "auto" else {api: APIS.get(api)}
    if None in names.values():
        raise ValueError(f"MIDI system {api!r}: expected auto, {', '.join(APIS)}")
    problems = []
    for name, constant in names.items():
        number = getattr(rtmidi, constant)
        if number not in compiled:
            problems.append(f"{name}: not in this python-rtmidi")
            continue
        if name == "alsa" and not os.path.exists(ALSA_DEVICE):      # the library would write to the terminal
            problems.append(f"alsa: no {ALSA_DEVICE}")
            continue
        try:
            return getattr(rtmidi, kind)(number, client, *queue_size)
        except (rtmidi.RtMidiError, SystemError) as error:
            problems.append(f"{name}: {error}")
    raise ValueError(
        f"no MIDI system answers ({'; '.join(problems)}); --midi-port {SILENT} plays without one"
    )


def is_jack(client) -> bool:
    import rtmidi

    return client.get_current_api() == rtmidi.API_UNIX_JACK


def list_ports(api: str = "auto") -> dict[str, list[str]]:
    """{"inputs": names we can listen to, "outputs": names we can play to}."""
    result = {}
    for name, kind in (("inputs", "MidiIn"), ("outputs", "MidiOut")):
        client = make_client(kind, api, f"{CLIENT_NAME}-list")
        result[name] = client.get_ports()
        client.delete()
    return result


def open_output(spec: PortSpec, known: str = ""):
    """The output that `spec` names; of several, the one called `known`. ValueError for a wrong name, listing
    what exists.
    """
    if spec.name == SILENT:
        return NullPort()
    midi_out = make_client("MidiOut", spec.api, spec.client)
    if spec.name is None:
        midi_out.open_virtual_port(CLIENT_NAME)
        return RtPort(midi_out, CLIENT_NAME)
    available = midi_out.get_ports()
    try:
        number = match_name(known if known in available else spec.name, available, "MIDI output")
    except ValueError:
        midi_out.delete()
        raise
    midi_out.open_port(number, CLIENT_NAME)
    return RtPort(midi_out, available[number])


def open_input(spec: PortSpec, queue_size: int):
    """A MidiIn whose `get_message()` gives (message, seconds since the last) or None; `.delete()` ends it.

    Without a name it is a virtual port that others can play to.
    """
    midi_in = make_client("MidiIn", spec.api, f"{spec.client}-in", queue_size)
    midi_in.ignore_types(sysex=True, timing=False, active_sense=True)
    if spec.name is None:
        midi_in.open_virtual_port(f"{CLIENT_NAME}-in")
    else:
        midi_in.open_port(match_name(spec.name, midi_in.get_ports(), "MIDI input"), f"{CLIENT_NAME}-in")
    return midi_in
