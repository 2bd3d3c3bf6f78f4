"""The generator's process: loads the model and keeps a `Session` ahead of the playhead.

It hears controls from the supervisor over a pipe and tells it what it does; notes go straight to the player.
It never waits for the supervisor's screen: what would block is dropped.
"""

from __future__ import annotations

import gc
import select
import signal
import time
from dataclasses import dataclass, replace

from mlxgen.music.piece import Note
from mlxgen.music.theory import beat_ticks
from mlxgen.perform import mac
from mlxgen.perform.log import SessionLog
from mlxgen.perform.pace import slow_to
from mlxgen.perform.processes import GENERATOR, prefer, redirect_errors
from mlxgen.perform.session import Session
from mlxgen.perform.settings import SessionSettings
from mlxgen.perform.shared import Position, Shared
from mlxgen.perform.wire import MAX_NOTES, TimedNote, Writer, pack_notes, pack_order

IDLE_S = 0.01
STATUS_S = 0.2


@dataclass(frozen=True)
class GeneratorProcess:
    """All that the process is given."""

    model_folder: str
    settings: SessionSettings
    window: int
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

    def shorten(self, tick: int, voices: tuple[int, ...]) -> None:
        """The notes of these voices that began before `tick` and last longer end there."""
        self._order("shorten", tick, sum(1 << voice - 1 for voice in voices))

    def finish(self, tick: int) -> None:
        self._order("finish", tick)

    def flush(self) -> None:
        self.epoch += 1
        self._order("flush", self.epoch)
        self._order("beat", self.beat_ticks)
        self._tell(("truncate", 0))

    def say(self, text: str) -> None:
        """For the performer's eyes."""
        self._tell(("note", text))

    def _order(self, name: str, *values: float) -> None:
        self.writer.send(pack_order(self.epoch, name, *values))


def run_generator(given: GeneratorProcess) -> None:
    """Entry point of the process.

    One BLAS thread: the products of a step are too small for two, and a second one that spins beside a busy
    machine made prefills three times slower (4,100 ids a second against 1,200).
    """
    from mlxgen.model.blas import at_most_threads

    with at_most_threads(1):
        generate(given)


def generate(given: GeneratorProcess) -> None:
    """Load, then work until told to quit or until the supervisor is gone."""
    from mlxgen.perform.live import SLACK_IDS, make_engines

    redirect_errors(given.error_path)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prefer(GENERATOR)
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
        self._told_s = 0.0

    def tell(self, message: tuple) -> None:
        """To the supervisor, unless its pipe is full."""
        if select.select([], [self.given.supervisor], [], 0)[1]:
            self.given.supervisor.send(message)

    def run(self, session: Session, link: PlayerLink) -> None:
        supervisor = self.given.supervisor
        while True:
            for message in self.take_messages():
                if message[0] == "quit":
                    return
                self._serve(session, message, link)
            now_s = time.monotonic()
            position = self.position(link, now_s)
            if not session.advance(position):
                self.keep_warm()
                supervisor.poll(IDLE_S)
            if now_s - self._told_s > STATUS_S:
                self._told_s = now_s
                self.tell(("status", self.status(session, position)))

    def take_messages(self) -> list[tuple]:
        """All that waits. Of several turns of one knob only the last counts: the others' music would never
        be heard.
        """
        supervisor, messages = self.given.supervisor, []
        while supervisor.poll():
            messages.append(supervisor.recv())
        last = {message[:2]: number for number, message in enumerate(messages) if message[0] == "control"}
        return [message for number, message in enumerate(messages)
                if message[0] != "control" or last[message[:2]] == number]

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
                name, value, turned_s = values
                waited_s = max(0.0, time.monotonic() - turned_s)
                asked_tick = position.tick - position.rate * waited_s
                session.control(name, value, replace(position, asked_tick=asked_tick))
            elif kind == "hear":
                session.answer.hear([Note(*note) for note in values[0]], values[1], position)
        except ValueError as error:
            self.tell(("note", str(error)))

    def status(self, session: Session, position: Position) -> dict:
        figures, rate = session.pace.figures(), session.rate(position)
        return {
            **figures,
            "ahead_bars": max(0.0, session.context.now_ticks - position.tick) / session.bar,
            "slow_to_bpm": slow_to(session.context.ticks, figures["ids_per_s"], position.rate),
            "key": session.key.name,
            "coming_key": session.modulation.key.name if session.modulation else "",
            "listening": session.answer.listening,
            "commit_ticks": session.pace.first_notes_s * rate,
            "turn_ms": session.pace.first_notes_s * 1e3,
        }
