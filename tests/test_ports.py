"""Ports by name, and on a real JACK server: virtual, wrong, gone and back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from jack import Synth, jack, wait_until  # noqa: F401

from mlxgen.perform.ports import NullPort, PortSpec, list_ports, match_name, open_output, panic_messages
from mlxgen.perform.watch import PortWatcher

NAMES = ["IAC Driver Bus 1", "IAC Driver Bus 2", "Synth A"]


def test_a_port_is_found_by_its_name_or_by_what_only_it_contains():
    assert match_name("IAC Driver Bus 2", NAMES) == 1
    assert match_name("synth", NAMES) == 2
    assert match_name("Bus 1", ["Bus 1", "Bus 10"]) == 0        # the whole name wins over a part


@pytest.mark.parametrize(("wanted", "problem"), [("nope", "is not there"), ("iac", "fits 2 ports")])
def test_a_wrong_name_lists_what_exists(wanted, problem):
    with pytest.raises(ValueError, match=problem) as error:
        match_name(wanted, NAMES)
    assert all(name in str(error.value) for name in NAMES)


def test_a_wrong_name_where_nothing_exists():
    with pytest.raises(ValueError, match="none at all"):
        match_name("nope", [])


def test_panic_is_48_messages():
    assert len({tuple(message) for message in panic_messages()}) == 48


def test_none_is_silence():
    assert isinstance(open_output(PortSpec("none")), NullPort)


def test_an_unknown_midi_system_is_named():
    pytest.importorskip("rtmidi")
    with pytest.raises(ValueError, match="'midi95'"):
        open_output(PortSpec(None, api="midi95"))


def test_without_a_server_the_reason_is_told(monkeypatch):
    pytest.importorskip("rtmidi")
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "mlxgen-there-is-no-such-server")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    with pytest.raises(ValueError, match="no MIDI system answers"):
        open_output(PortSpec(None, api="jack"))


def test_the_virtual_port_is_called_mlxgen_and_others_can_listen(jack):  # noqa: F811
    import rtmidi

    port = open_output(PortSpec(None, "jack"))
    listener = rtmidi.MidiIn(rtmidi.API_UNIX_JACK, "daw")
    names = listener.get_ports()
    assert any(name.split(":")[1] == "mlxgen" for name in names)
    received = []
    listener.set_callback(lambda event, _: received.append(event[0]))
    listener.open_port(next(number for number, name in enumerate(names) if "mlxgen" in name))
    port.send([0x90, 60, 70])
    wait_until(lambda: received == [[0x90, 60, 70]], 2)
    listener.delete()
    port.close()


def test_a_named_port_on_a_real_server(jack):  # noqa: F811
    synth = Synth()
    assert "synth:in" in list_ports("jack")["outputs"]
    port = open_output(PortSpec("synth", "jack"))
    assert port.name == "synth:in"
    port.send([0x90, 61, 1])
    wait_until(lambda: synth.messages == [[0x90, 61, 1]], 2)
    with pytest.raises(ValueError, match="'synth:in'"):
        open_output(PortSpec("wrong", "jack"))
    port.close()
    synth.close()


def test_the_watcher_sees_a_client_go_and_come_back(jack):  # noqa: F811
    synth = Synth()
    watcher = PortWatcher(PortSpec("synth", "jack"), "synth:in")
    assert watcher.poll()
    synth.close()
    assert wait_until(lambda: not watcher.poll(), 2) < 2
    synth = Synth()
    assert wait_until(watcher.poll, 2) < 2
    watcher.close()
    synth.close()


def test_the_watcher_sees_the_server_go_and_come_back(jack):  # noqa: F811
    holder = hold_virtual_port()
    watcher = PortWatcher(PortSpec(None, "jack"), "mlxgen")
    wait_until(watcher.poll, 40)
    jack.kill()
    wait_until(lambda: not watcher.poll(), 20)
    assert not watcher.system_answers
    holder.kill()
    jack.start()
    assert not watcher.poll()           # the server is back, the port is not
    assert watcher.system_answers
    holder = hold_virtual_port()
    wait_until(watcher.poll, 40)
    holder.kill()


def hold_virtual_port() -> subprocess.Popen:
    """Another process with it: libjack must not close a dead server's client after opening a new one."""
    program = ("import time; from mlxgen.perform.ports import PortSpec, open_output\n"
               "port = open_output(PortSpec(None, 'jack')); time.sleep(60)")
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
