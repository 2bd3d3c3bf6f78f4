"""The generator's process: loads the model and keeps a `Session` ahead of the playhead.

It hears controls from the supervisor over a pipe and tells it what it does; notes go straight to the player.
It never waits for the supervisor's screen: what would block is dropped.
"""

from __future__ import annotations

import gc
import select
import signal
import time
from collections import deque
from dataclasses import dataclass

from mlxgen.music.piece import Note
from mlxgen.music.theory import TICKS_PER_QUARTER, beat_ticks
from mlxgen.perform import mac
from mlxgen.perform.log import SessionLog
from mlxgen.perform.processes import prefer_generator, redirect_errors
from mlxgen.perform.session import Session, SessionSettings
from mlxgen.perform.shared import Position, Shared
from mlxgen.perform.wire import MAX_NOTES, TimedNote, Writer, pack_notes, pack_order

IDLE_S = 0.01
STATUS_S = 0.2
SLACK_IDS = 512


@dataclass(frozen=True)
class GeneratorProcess:
    """All that the process is given."""

    model_folder: str
    settings: SessionSettings
    window: int | None
    shared: Shared
    notes: object           # writing end of the player's channel
    supervisor: object      # Connection
    log_path: str | None
    error_path: str
    epoch: int


class PlayerLink:
    """The session's sink: what it says becomes datagrams to the player, and rows for the screen."""

    def __init__(self, writer: Writer, epoch: int, beat_ticks: int, tell):
        self.writer, self.epoch, self.beat_ticks, self._tell = writer, epoch, beat_ticks, tell
        self._order("flush", epoch)
        self._order("beat", beat_ticks)

    def notes(self, horizon_tick: int, notes: list[TimedNote]) -> None:
        for first in range(0, len(notes) or 1, MAX_NOTES):
            part = notes[first:first + MAX_NOTES]
            complete = first + MAX_NOTES >= len(notes)
            self.writer.send(pack_notes(self.epoch, horizon_tick if complete else 0, part))
        if notes:
            self._tell(("notes", [tuple(note) for note in notes]))

    def start(self, delay_s: float = 0.05) -> None:
        self._order("start", 0, delay_s)

    def truncate(self, tick: int) -> None:
        self._order("truncate", tick)
        self._tell(("truncate", tick))

    def finish(self, tick: int) -> None:
        self._order("finish", tick)

    def flush(self) -> None:
        self.epoch += 1
        self._order("flush", self.epoch)
        self._order("beat", self.beat_ticks)
        self._tell(("truncate", 0))

    def _order(self, name: str, *values: float) -> None:
        self.writer.send(pack_order(self.epoch, name, *values))


def make_engines(model_folder: str, window: int | None):
    """(a function that makes an engine with so many pinned ids and a seed, the vocabulary)."""
    from mlxgen.model.load import load
    from mlxgen.sampling.engine import Engine

    model, vocab = load(model_folder)

    def make_engine(pinned: int, seed: int) -> Engine:
        return Engine(model, vocab, seed=seed, window=window, prefix=pinned, slack=SLACK_IDS,
                      keep_notes=False)

    return make_engine, vocab


def run_generator(given: GeneratorProcess) -> None:
    """Entry point of the process."""
    redirect_errors(given.error_path)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prefer_generator()
    make_engine, vocab = make_engines(given.model_folder, given.window)
    settings = given.settings
    worker = Worker(given)
    log = SessionLog(given.log_path, lambda text: worker.tell(("note", text)))
    beat = beat_ticks(settings.conditioning.with_defaults().meter)
    link = PlayerLink(Writer(given.notes), given.epoch, beat, worker.tell)
    log.write({"op": "begin", "seed": settings.seed, "epoch": given.epoch})
    session = Session(make_engine, vocab, settings, link, log.write, slack=SLACK_IDS)
    gc.collect()
    gc.freeze()
    try:
        worker.run(session, link)
    except (EOFError, BrokenPipeError, ConnectionError):
        pass        # the supervisor is gone; the player has seen it too and ends the notes
    finally:
        session.context.flush()
        log.close()


class Worker:
    """Serves controls and generates, one piece of work at a time."""

    def __init__(self, given: GeneratorProcess):
        self.given = given
        self.step_s: deque[float] = deque(maxlen=512)
        self.busy_s = self.busy_ids = 0.0
        self._told_s = 0.0

    def tell(self, message: tuple) -> None:
        """To the supervisor, unless its pipe is full."""
        if select.select([], [self.given.supervisor], [], 0)[1]:
            self.given.supervisor.send(message)

    def run(self, session: Session, link: PlayerLink) -> None:
        supervisor = self.given.supervisor
        while True:
            while supervisor.poll():
                message = supervisor.recv()
                if message[0] == "quit":
                    return
                self._serve(session, message, link)
            began_s = time.monotonic()
            position = self.position(link, began_s)
            if session.advance(position):
                self.step_s.append(time.monotonic() - began_s)
            else:
                self.keep_warm()
                supervisor.poll(IDLE_S)
            if began_s - self._told_s > STATUS_S:
                self._told_s = began_s
                self.tell(("status", self.status(session, position)))

    def keep_warm(self) -> None:
        """A GPU that rests for a moment slows down, and the next ids come late."""
        if mac.IS_MAC:
            import mlx.core as mx

            mx.eval(mx.zeros(1) + 1)

    def position(self, link: PlayerLink, now_s: float) -> Position:
        position = self.given.shared.position(now_s)
        if position.epoch != link.epoch or position.state == "waiting":
            return Position(0.0, 0.0, 0.0, "waiting", link.epoch)
        return position

    def _serve(self, session: Session, message: tuple, link: PlayerLink) -> None:
        kind, *values = message
        position = self.position(link, time.monotonic())
        try:
            if kind == "control":
                session.control(*values, position)
            elif kind == "hear":
                session.hear([Note(*note) for note in values[0]], values[1], position)
        except ValueError as error:
            self.tell(("note", str(error)))

    def status(self, session: Session, position: Position) -> dict:
        times = sorted(self.step_s)
        quantile = lambda share: times[min(int(share * len(times)), len(times) - 1)] * 1e3  # noqa: E731
        ticks = session.context.now_ticks - position.tick
        ids_per_s = len(times) / sum(times) if times else 0.0
        return {
            "ids": len(session.context.ids), "ahead_bars": ticks / session.bar,
            "ids_per_s": ids_per_s, "slow_to_bpm": slow_to(session.context.ticks, ids_per_s, position.rate),
            "p50_ms": quantile(0.5) if times else 0.0, "p95_ms": quantile(0.95) if times else 0.0,
            "p99_ms": quantile(0.99) if times else 0.0,
            "key": session.key.name, "finished": session.finished,
            "commit_ticks": session.settings.commit_beats * session.beat,
        }


def slow_to(ticks: list[int], ids_per_s: float, rate: float) -> float:
    """The tempo (bpm) that this machine keeps up with when it hardly keeps up with the present one, else 0.

    ticks: the clock after each id; rate: ticks a second at present. A fifth is left for prefills and rewinds.
    """
    recent = ticks[-256:]
    if len(recent) < 64 or not rate or recent[-1] == recent[0]:
        return 0.0
    affordable = ids_per_s * (recent[-1] - recent[0]) / (len(recent) - 1) * 0.8      # ticks a second
    return float(int(affordable * 60 / TICKS_PER_QUARTER)) if affordable < rate else 0.0
