"""The player's process: opens the port, waits for deadlines, and panics when its parent is gone.

Nothing in the loop writes a file or a line; garbage collection is off. What goes wrong is put into shared
memory, and what the JACK library says on standard error goes to a file.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import select
import signal
import time
from dataclasses import dataclass

from mlxgen.perform.player import Player, PlayerSettings
from mlxgen.perform.ports import SILENT, NullPort, PortSpec, note_off, open_output, panic_messages
from mlxgen.perform.processes import lock_memory, raise_priority, redirect_errors
from mlxgen.perform.record import Recorder
from mlxgen.perform.shared import Shared
from mlxgen.perform.wire import Order, make_channel, read_all

MAX_SPIN_S = 0.002


@dataclass(frozen=True)
class PlayerProcess:
    """All that the process is given."""

    spec: PortSpec
    settings: PlayerSettings
    shared: Shared
    notes: object           # reading end of the generator's channel
    orders: object          # reading end of the supervisor's channel
    ready: object           # Connection: ("port", "") or ("error", why the port could not be opened)
    error_path: str
    record_path: str | None
    takes_over: bool = False    # a player before this one was killed


def run_player(given: PlayerProcess) -> None:
    """Entry point of the process."""
    redirect_errors(given.error_path)
    signal.signal(signal.SIGINT, signal.SIG_IGN)      # the terminal's Ctrl-C is the supervisor's to answer
    stop, woken = make_channel()
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)      # what it writes to `woken` is what counts
    try:
        port = open_output(given.spec, given.shared.port_name)
        given.shared.port_name = port.name
    except ValueError as error:
        if not given.takes_over:
            given.ready.send(("error", str(error)))
            return
        port = NullPort()           # play on in silence until the port is back
    raise_priority()
    lock_memory()
    given.shared.set("port_open", float(not isinstance(port, NullPort) or given.spec.name == SILENT))
    player = Player(port, given.shared, given.settings)
    if given.takes_over:
        end_sounding(player)
    given.ready.send(("port", ""))
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        orphaned = _loop(player, given, stop)
    finally:
        player.panic()
    if orphaned and given.record_path:
        Recorder(given.record_path, given.shared).finish()
    player.sounding.port.close()


def _loop(player: Player, given: PlayerProcess, stop) -> bool:
    """Play until told to quit, by an order or a signal. True when the parent died."""
    parent = multiprocessing.parent_process().sentinel
    channels = [given.orders, given.notes, parent, stop]
    spin = Spin()
    while True:
        deadline_s = player.step()
        readable = spin.wait(deadline_s, channels)
        if not readable:
            continue
        if parent in readable:
            return True
        if stop in readable:
            return False
        for channel in readable:
            for message in read_all(channel):
                if isinstance(message, Order) and message.name == "quit":
                    return False
                if isinstance(message, Order) and message.name == "port":
                    change_port(player, given.spec, opened=bool(message.values[0]))
                player.handle(message)


class Spin:
    """Waits for a deadline: sleeps, interruptible, until shortly before it, then spins, at most 2 ms.

    How shortly is learned from how late the system's sleep has been; it is forgotten over a few hundred
    waits.
    """

    def __init__(self):
        self.spin_s = 0.0005

    def wait(self, deadline_s: float, channels: list) -> list:
        """The channels that can be read, or [] once the deadline is reached."""
        if deadline_s == math.inf:
            return select.select(channels, [], [])[0]
        wake_s = deadline_s - self.spin_s
        left_s = wake_s - time.monotonic()
        if left_s > 0:
            readable = select.select(channels, [], [], left_s)[0]
            if readable:
                return readable
            overslept_s = time.monotonic() - wake_s
            self.spin_s = min(MAX_SPIN_S, max(0.0002, 2 * overslept_s, self.spin_s * 0.99))
        while time.monotonic() < deadline_s:
            pass
        return []


def change_port(player: Player, spec: PortSpec, opened: bool) -> None:
    """The port is gone (play on into nothing) or is to be opened again under its name."""
    player.release_all()
    outlet = player.sounding
    if opened:
        old, outlet.port = outlet.port, NullPort()
        old.close()
        try:
            outlet.port = open_output(spec, player.shared.port_name)
        except ValueError:
            return          # not there yet: the supervisor will say so again
        player.shared.port_name = outlet.port.name
        for message in panic_messages():
            outlet.port.send(message)
        player.shared.set("port_open", 1)
        player.shared.set("port_seen", 1)
    else:
        player.shared.set("port_open", 0)
        outlet.port.close()
        outlet.port = NullPort()


def end_sounding(player: Player) -> None:
    """What a killed player left sounding, ended and forgotten."""
    for channel, pitch in player.shared.sounding_notes():
        player.shared.sounding[channel * 128 + pitch] = 0
        player.sounding.port.send(note_off(channel * 128 + pitch))
    player.panic()
