"""Guard: looks after a performance's processes, its port and its recording, and says what went wrong.

When the generator dies the notes are ended and another is started; when the player dies the watcher ends the
notes from a port of its own; a port that is gone is opened again by name; a full disk stops the recording,
never the music.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mlxgen.music.theory import bar_ticks
from mlxgen.perform.record import Recorder
from mlxgen.perform.troupe import Troupe

WATCH_S = 0.25
RECORD_S = 1.0
REOPEN_S = 0.5
RESTARTS_A_MINUTE = 3
SILENT_S = 10.0         # a generator that says nothing for so long while its music plays is stuck
LOOK_S = 0.5            # of which at most so much counts between two looks: a machine that slept is not stuck


class Guard:
    """`look()` once a tick. `session_now()` and `player_now()` say with what a new process shall go on;
    `order` gives the player one, `note` tells the performer.
    """

    def __init__(self, troupe: Troupe, meter: tuple[int, int], order: Callable, note: Callable[[str], None]):
        self.troupe, self.shared = troupe, troupe.shared
        self.bar = bar_ticks(meter)
        self._order, self._note = order, note
        self.session_now = self.player_now = None       # functions, given by the conductor
        self.gave_up = False
        self.recorder: Recorder | None = None
        self._restarts_s: list[float] = []
        self._looked_s, self._silent_s = time.monotonic(), 0.0
        self._watched_s = self._recorded_s = self._reopened_s = 0.0
        self._port_was_gone = False
        self._troubles = {"underruns": 0, "stalls": 0}  # as counted when last told

    def begin_recording(self, tempo_bpm: float, meter: tuple[int, int]) -> None:
        path = self.troupe.settings.record
        if path is not None:
            self.recorder = Recorder(str(path), self.shared)
            self.recorder.begin(tempo_bpm, meter)

    def heard_generator(self) -> None:
        """It has said something."""
        self._silent_s = 0.0

    def look(self) -> bool:
        """True when a player was replaced: the music begins again."""
        now_s = time.monotonic()
        self._end_a_stuck_generator(now_s)
        self._tell_troubles(now_s)
        replaced = self._look_after_processes(now_s)
        if now_s - self._watched_s >= WATCH_S:
            self._watched_s = now_s
            self._watch_port(now_s)
        if now_s - self._recorded_s >= RECORD_S:
            self._recorded_s = now_s
            self.record()
        return replaced

    def _tell_troubles(self, now_s: float) -> None:
        """An underrun, and a player that was kept from running, are said when they happen."""
        for name, before in self._troubles.items():
            count = int(self.shared.get(name))
            if count > before:
                self._troubles[name] = count
                bar = int(self.shared.position(now_s).tick // self.bar) + 1
                self._note(f"{name[:-1]} in bar {bar}, {count} so far")

    def _end_a_stuck_generator(self, now_s: float) -> None:
        """Its successor is started when it is gone."""
        self._silent_s += min(now_s - self._looked_s, LOOK_S)
        self._looked_s = now_s
        if self.shared.position(now_s).state not in ("playing", "holding"):
            self._silent_s = 0.0        # it may have to load its model, or there is nothing to say
        elif self._silent_s > SILENT_S:
            self._note(f"generator has not answered for {SILENT_S:g} s: ending it")
            self.troupe.generator.kill()
            self.troupe.generator.join()
            self._silent_s = 0.0

    def _look_after_processes(self, now_s: float) -> bool:
        if not self.troupe.generator.is_alive():
            self._generator_died(now_s)
        if self.troupe.player.is_alive():
            return False
        self.troupe.panic_elsewhere()
        self._note(f"player ended ({self.troupe.player.exitcode}): all notes off, starting another")
        self.troupe.start_player(self.player_now(), takes_over=True)
        return True

    def _generator_died(self, now_s: float) -> None:
        self._order("panic")
        how = self.troupe.generator.exitcode
        self._restarts_s = [then for then in self._restarts_s if now_s - then < 60] + [now_s]
        if len(self._restarts_s) > RESTARTS_A_MINUTE:
            self._note(f"generator ended again ({how}): all notes off, giving up")
            self.gave_up = True
            return
        self._note(f"generator ended ({how}): all notes off, starting another")
        self.troupe.start_generator(self.session_now())

    def _watch_port(self, now_s: float) -> None:
        if not self.troupe.watcher.is_alive():
            self.troupe.start_watcher()
        open_now, name = bool(self.shared.get("port_open")), self.shared.port_name
        if open_now and not self.shared.get("port_seen"):
            self._note(f"port {name!r} is gone: playing on in silence")
            self._order("port", 0)
        elif not open_now and now_s - self._reopened_s >= REOPEN_S:
            self._reopened_s = now_s
            self._order("port", 1)
        elif open_now and self._port_was_gone:
            self._note(f"port {name!r} is back")
        self._port_was_gone = not self.shared.get("port_open")

    def record(self) -> None:
        """What was sent since the last time into the file."""
        if self.recorder is None:
            return
        try:
            self.recorder.flush()
        except OSError as error:
            self._note(f"recording stopped: {error.strerror}; {self.recorder.path} is whole up to here")
            self.recorder.close()
            self.recorder = None

    def close(self) -> None:
        self.record()
        if self.recorder is not None:
            self.recorder.close()
