"""generate-long: chunk after chunk, N candidates each on one shared context, the best one kept.

`compose` is an iterator of finished chunks. It knows nothing of files or terminals: the caller saves what
comes out, and hands it back in to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlxgen.compose.judge import Judgement, judge, make_take, pick, with_values
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.shards import Shards
from mlxgen.compose.steps import ENDING_SLACK_BARS, Chunk, make_prompt, next_step, tokens_per_bar
from mlxgen.compose.stitch import stitch
from mlxgen.music.piece import Piece
from mlxgen.music.prompt import make_prefix
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.candidates import candidates, stop_after_bars
from mlxgen.sampling.engine import Engine
from mlxgen.sampling.rules import RuleSet

ENDING_ROUNDS = 3  # a close that nobody found is looked for among this many times as many candidates


@dataclass(frozen=True)
class Progress:
    """Where a run stands. `tokens` have been drawn in this chunk, of at most `of_tokens`."""

    chunk: int
    section: str
    tokens: int
    of_tokens: int
    context_tokens: int
    best: float | None = None


Report = Callable[[Progress], None]


def candidate_seed(seed: int, chunk: int, number: int) -> int:
    """The seed of one candidate: the same on any machine and in any batch."""
    return int(np.random.SeedSequence([seed, chunk, number]).generate_state(1)[0])


def compose(model, vocab: Vocab, settings: ChainSettings, done: Sequence[Chunk] = (), *,
            shards: Shards | None = None, report: Report = lambda progress: None) -> Iterator[Chunk]:
    """Yield the chunks that follow `done`, until the plan is finished.

    Raises ValueError when the settings leave the model no room, or no candidate finishes a bar.
    """
    chunks = list(done)
    shards = shards or Shards()
    while (step := next_step(settings, chunks, vocab)) is not None:
        if step.repeat is not None:
            chunk = Chunk(step.section, step.key, step.repeat, forced=len(step.repeat), closing=True)
        else:
            chunk = _Attempt(model, vocab, settings, chunks, step, shards, report).run()
        chunks.append(chunk)
        yield chunk


def check_settings(settings: ChainSettings, vocab: Vocab, max_seq_len: int) -> None:
    """ValueError now for what would fail in the middle of a run: names the vocabulary lacks, no room."""
    for index, section in enumerate(settings.plan.sections):
        key = section.key_from(settings.key)
        make_prefix(section.conditioning(settings.conditioning).with_defaults(), key, vocab)
        settings.sampling_of(index)
    if settings.voices > vocab.max_voices:
        raise ValueError(f"form {settings.conditioning.form!r}: has {settings.voices} voices, "
                         f"the vocabulary {vocab.max_voices}")
    room = max_seq_len - settings.chunk_tokens
    make_prompt(settings, [], next_step(settings, [], vocab), vocab, room)


def stitched(settings: ChainSettings, chunks: Sequence[Chunk], vocab: Vocab) -> tuple[Piece, list[int]]:
    """The piece so far, in the home key, and the tick at which each chunk begins."""
    title = settings.plan.title or f"{settings.conditioning.form} in {settings.key.name}"
    piece, starts_ticks = stitch([chunk.part for chunk in chunks], settings.meter, settings.voices, vocab,
                                 settings.tempo_bpm, title)
    return piece, starts_ticks


class _Attempt:
    """One chunk: its prompt, its candidates, its pick."""

    def __init__(self, model, vocab, settings, chunks, step, shards, report):
        self.model, self.vocab, self.settings, self.step = model, vocab, settings, step
        self.shards, self.report = shards, report
        self.section = settings.plan.sections[step.section]
        self.max_tokens = self._max_tokens(chunks)
        room = model.config.max_seq_len - self.max_tokens
        self.prompt = make_prompt(settings, chunks, step, vocab, room)
        context = stitched(settings, chunks, vocab)[0] if chunks else None
        self.judgement = Judgement(step, self.section, settings.meter, settings.voices, context, vocab)
        self._drawn = 0

    def _max_tokens(self, chunks: Sequence[Chunk]) -> int:
        step, settings = self.step, self.settings
        if step.goal_bars is None or not step.closing:
            return settings.chunk_tokens
        bars = step.goal_bars + ENDING_SLACK_BARS + 1
        wanted = int(bars * tokens_per_bar(settings, chunks, self.vocab) * 1.25)
        return max(settings.chunk_tokens, min(wanted, self.model.config.max_seq_len // 2))

    def run(self) -> Chunk:
        engine = self._engine()
        rows: list[dict] = []
        takes: dict[int, list[int]] = {}
        wants_close = self.step.closing and (self.step.last or self.section.cadence != "none")
        for round_number in range(ENDING_ROUNDS if wants_close else 1):
            for found in self.shards.gather(self._round(engine, round_number)):
                rows += found["rows"]
                takes.update((int(number), ids) for number, ids in found["takes"].items())
            if any(row["cadence"] for row in rows):
                break
        if not rows:
            raise ValueError(f"chunk {self.step.number}: no candidate finished a bar in {self.max_tokens} "
                             f"ids; expected more chunk_tokens")
        rows = with_values(sorted(rows, key=lambda row: row["number"]))
        number = pick(rows, self.step)
        chosen = next(row for row in rows if row["number"] == number)
        self._tell(best=chosen["value"])
        return self._chunk(takes[number], rows, chosen)

    def _chunk(self, ids: list[int], rows: list[dict], chosen: dict) -> Chunk:
        cadence = chosen["cadence"]
        if cadence and self.settings.markers and f"CAD_{cadence}" in self.vocab:
            ids = [*ids, self.vocab[f"CAD_{cadence}"]]
        for row in rows:
            if row is not chosen:
                del row["findings"]
        return Chunk(self.step.section, self.step.key, ids, forced=len(self.prompt.opening),
                     closing=self.step.closing, cadence=cadence, pick=chosen["number"],
                     context_tokens=len(self.prompt.context), candidates=rows)

    def _engine(self) -> Engine:
        settings = self.settings
        last = self.step.last and self.step.closing
        rules = RuleSet(soft=frozenset(settings.soft_rules), eos="allow" if last else "mask")
        self._tell()
        engine = Engine(self.model, self.vocab, params=settings.sampling_of(self.step.section), rules=rules,
                        prefix=len(self.prompt.prefix))
        engine.prefill(self.prompt.ids)
        return engine

    def _round(self, engine: Engine, round_number: int) -> dict:
        """This process's candidates of one round, judged."""
        count = self.settings.num_candidates
        numbers = [round_number * count + index for index in self.shards.mine(count)]
        takes = []
        if numbers:
            seeds = [candidate_seed(self.settings.seed, self.step.number, number) for number in numbers]
            found = candidates(engine, len(numbers), self.max_tokens, self._stop(), seeds)
            made = [make_take(self.judgement, number, self.prompt.opening, candidate)
                    for number, candidate in zip(numbers, found, strict=True)]
            takes = [take for take in made if take is not None]
        return {"rows": judge(self.judgement, takes), "takes": {take.number: take.ids for take in takes}}

    def _stop(self):
        """Ends a row when it has the bars it may need; counts ids on the way, for the progress report."""
        goal = self.step.goal_bars
        enough = None
        if goal is not None:
            bars = goal + ENDING_SLACK_BARS if self.step.closing else goal
            enough = stop_after_bars(self.vocab, bars)

        def stop(ids: list[int]) -> bool:
            self._drawn += 1
            if self._drawn % 256 == 0:
                self._tell()
            return enough is not None and enough(ids)

        return stop

    def _tell(self, best: float | None = None) -> None:
        own = len(self.shards.mine(self.settings.num_candidates))
        self.report(Progress(self.step.number, self.section.name, self._drawn, own * self.max_tokens,
                             len(self.prompt.ids), best))
