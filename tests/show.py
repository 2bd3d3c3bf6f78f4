"""A performance without processes: session, player and fake engine on a clock that the test turns."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

from fake_engine import FakeEngine

from mlxgen.music.prompt import Conditioning
from mlxgen.perform.generator import PlayerLink
from mlxgen.perform.player import Player, PlayerSettings
from mlxgen.perform.ports import FakePort
from mlxgen.perform.replay import replay
from mlxgen.perform.session import Session
from mlxgen.perform.settings import SessionSettings
from mlxgen.perform.shared import Shared
from mlxgen.perform.wire import Order, unpack

VOCAB_FILE = Path(__file__).resolve().parent.parent / "weights" / "default" / "tokenizer.json"
CONTEXT = multiprocessing.get_context("spawn")
BEAT, BAR = 480, 1920
STEP_S, PREFILL_ID_S = 0.007, 0.0005        # what a step and a prefilled id cost at first


class Show:
    """A performance at 120 bpm whose clock moves by what things cost."""

    def __init__(self, vocab, stuck=False, chords=False, **options):
        self.now_s, self.vocab, self.stuck, self.chords = 50.0, vocab, stuck, chords
        self.step_s, self.prefill_id_s = STEP_S, PREFILL_ID_S
        self.shared = Shared(CONTEXT)
        self.port = FakePort(now=lambda: self.now_s)
        self.player = Player(self.port, self.shared, PlayerSettings(tempo_bpm=120, beat_ticks=BEAT),
                             now=lambda: self.now_s)
        settings = SessionSettings(**{"conditioning": Conditioning(form="fugue"), "seed": 3, **options})
        self.journal: list[dict] = []
        self.engines: list[FakeEngine] = []
        self.truncated: list[float] = []
        self.shortened: list[float] = []
        self.said: list[str] = []
        self.link = PlayerLink(self, 1, BEAT, lambda row: row[0] == "note" and self.said.append(row[1]))
        self.session = Session(self.make_engine, vocab, settings, self.link, self.journal.append,
                               now=lambda: self.now_s)
        self.header = {
            "conditioning": {k: v for k, v in vars(self.session.conditioning).items() if v is not None},
            "velocity": vars(settings.velocity),
        }

    def send(self, data):
        message = unpack(data)
        if isinstance(message, Order) and message.name == "truncate":
            self.truncated.append(message.values[0])
        if isinstance(message, Order) and message.name == "shorten":
            self.shortened.append(message.values[0])
        self.player.handle(message)
        return True

    def make_engine(self, pinned, seed):
        engine = FakeEngine(self.vocab, pinned, seed, self.stuck, self.chords)
        prefill, step = engine.prefill, engine.step

        def slow_prefill(ids):
            for _ in ids:
                self.now_s += self.prefill_id_s
                self.player.step()
            prefill(ids)

        def slow_step():
            self.now_s += self.step_s
            return step()

        engine.prefill, engine.step = slow_prefill, slow_step
        self.engines.append(engine)
        return engine

    @property
    def position(self):
        return self.shared.position(self.now_s)

    def run(self, seconds):
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.player.step()
            if not self.session.advance(self.position):
                self.now_s += 0.002
        self.player.step()

    def control(self, name, value=1, asked_tick=None):
        self.session.control(name, value, replace(self.position, asked_tick=asked_tick))

    def sent(self):
        """(tick in the score, pitch) of every note-on, from the ring of what was sent."""
        count = int(self.shared.get("sent_count"))
        rows = [(self.shared.sent_ticks[n], self.shared.sent_messages[n]) for n in range(count)]
        return [(round(tick), packed >> 8 & 127) for tick, packed in rows if packed & 0xF0 == 0x90]

    def sounded(self):
        """[(start, pitch, end)] of every note that was sent and has ended, in ticks of the score."""
        begun, notes = {}, []
        for number in range(int(self.shared.get("sent_count"))):
            tick, packed = self.shared.sent_ticks[number], self.shared.sent_messages[number]
            pitch, kind = packed >> 8 & 127, packed & 0xF0
            if pitch in begun and kind in (0x80, 0x90):
                notes.append((begun.pop(pitch), pitch, round(tick)))
            if kind == 0x90:
                begun[pitch] = round(tick)
        return notes

    def tape(self):
        self.session.context.flush()
        return replay([self.header, *self.journal], self.vocab)

    def replayed(self):
        """The same from the journal, up to the playhead."""
        return [
            (note.start_ticks, note.pitch)
            for note in self.tape().notes
            if note.start_ticks <= self.position.tick
        ]

    def messages(self):
        return [message for _, message in self.port.sent]
