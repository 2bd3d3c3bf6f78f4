"""One chunk: its prompt, its candidates in one batch on one shared context, their worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlxgen.compose.judge import Judgement, best_close, judge, make_take, ranked, with_values
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.shards import Shards
from mlxgen.compose.steps import ENDING_SLACK_BARS, Chunk, Step, make_prompt, tokens_per_bar
from mlxgen.compose.stitch import bar_count, stitch
from mlxgen.model.ring import ANCHOR_STRIDE
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.candidates import candidates, stop_after_bars
from mlxgen.sampling.engine import Engine, EngineOptions
from mlxgen.sampling.rules import RuleSet

ENDING_ROUNDS = 3   # a good close that nobody found is looked for among this many times as many candidates
STRONG_CLOSE = 0.5  # the weight of a cadence that is worth keeping
GOOD_CLOSE = 0.7  # of one that is not waited past
_TELL_EVERY = 256  # ids between two reports


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


class Attempt:
    """Candidates for the next chunk after `chunks`. `shards` splits them over processes."""

    def __init__(self, model, vocab: Vocab, settings: ChainSettings, chunks: Sequence[Chunk], step: Step,
                 *, shards: Shards, report: Report):
        self.model, self.vocab, self.settings, self.step = model, vocab, settings, step
        self.shards, self.report = shards, report
        self.section = settings.plan.sections[step.section]
        self.wants_close = step.closing and (step.last or self.section.cadence != "none")
        self.max_tokens = self._max_tokens(chunks)
        self.prompt = make_prompt(settings, chunks, step, vocab, model.config.max_seq_len - self.max_tokens)
        context, seam_ticks = None, 0
        if chunks:
            context, _ = stitch([chunk.part for chunk in chunks], settings.meter, settings.voices, vocab)
            seam_ticks = sum(bar_count(chunk.ids, vocab) for chunk in chunks) * context.bar_ticks
        self.judgement = Judgement(step, self.section, settings.meter, settings.voices, context, seam_ticks,
                                   vocab)
        self._drawn = 0

    def _max_tokens(self, chunks: Sequence[Chunk]) -> int:
        step, settings = self.step, self.settings
        if step.goal_bars is None or not step.closing:
            return settings.chunk_tokens
        bars = step.goal_bars + self._slack_bars + 1
        wanted = int(bars * tokens_per_bar(settings, chunks, self.vocab) * 1.25)
        return max(settings.chunk_tokens, min(wanted, self.model.config.max_seq_len // 2))

    @property
    def _slack_bars(self) -> int:
        """Bars past the goal in which a close may still be found."""
        return ENDING_SLACK_BARS if self.wants_close else 0

    def _window(self) -> int:
        """Ids after the prefix that an id may see: all that there will be, or what the settings leave room
        for, the stride by which a sliding window may fall behind its prefix taken off."""
        prefix = len(self.prompt.prefix)
        needed = len(self.prompt.ids) - prefix + self.max_tokens
        limit = self.settings.window or self.model.config.max_seq_len
        if prefix + needed <= limit:
            return needed
        return max(1, limit - prefix - ANCHOR_STRIDE)

    def run(self) -> Chunk:
        """The best candidate as a chunk. ValueError if no candidate finishes a bar."""
        rows, takes = self.draw()
        return self.chunk(rows, takes, ranked(rows, self.step)[0]["number"])

    def draw(self) -> tuple[list[dict], dict[int, list[int]]]:
        """All candidates: a row each (see `judge`), and the ids of each by its number."""
        engine = self._engine()
        rows: list[dict] = []
        takes: dict[int, list[int]] = {}
        for round_number in range(ENDING_ROUNDS if self.wants_close else 1):
            for found in self.shards.gather(self._round(engine, round_number)):
                rows += found["rows"]
                takes.update((int(number), ids) for number, ids in found["takes"].items())
            if any(row["cadence_weight"] >= STRONG_CLOSE for row in rows):
                break
        if not rows:
            raise ValueError(f"chunk {self.step.number}: no candidate finished a bar in {self.max_tokens} "
                             f"ids; expected more chunk_tokens")
        rows = with_values(sorted(rows, key=lambda row: row["number"]))
        self._tell(best=max(row["value"] for row in rows))
        return rows, takes

    def chunk(self, rows: Sequence[dict], takes: dict[int, list[int]], number: int) -> Chunk:
        """Candidate `number` as a finished chunk."""
        chosen = next(row for row in rows if row["number"] == number)
        ids, cadence = takes[number], chosen["cadence"]
        if cadence and self.settings.markers and f"CAD_{cadence}" in self.vocab:
            ids = [*ids, self.vocab[f"CAD_{cadence}"]]
        kept = [row if row is chosen else {name: value for name, value in row.items() if name != "findings"}
                for row in rows]
        return Chunk(self.step.section, self.step.key, ids, forced=len(self.prompt.opening),
                     closing=self.step.closing, cadence=cadence, pick=number,
                     context_tokens=len(self.prompt.context), candidates=kept)

    def _engine(self) -> Engine:
        settings = self.settings
        last = self.step.last and self.step.closing
        ends = "length" if settings.timely else "allow"
        rules = RuleSet(soft=frozenset(settings.soft_rules), eos=ends if last else "mask")
        self._tell()
        engine = Engine(self.model, self.vocab, params=settings.sampling_of(self.step.section), rules=rules,
                        options=EngineOptions(window=self._window(), prefix=len(self.prompt.prefix), slack=1))
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
        """Ends a row when it has the bars it may need, or has closed well at the goal; counts ids on the way,
        for the progress report."""
        goal, bar = self.step.goal_bars, self.vocab["BAR"]
        enough = None if goal is None else stop_after_bars(self.vocab, goal + self._slack_bars)

        def stop(ids: list[int]) -> bool:
            self._drawn += 1
            if self._drawn % _TELL_EVERY == 0:
                self._tell()
            return enough is not None and ids[-1] == bar and (enough(ids) or self._has_closed(ids))

        return stop

    def _has_closed(self, ids: list[int]) -> bool:
        """Whether a closing row, at the end of a bar, has reached its goal with a good close behind it."""
        if not self.wants_close:
            return False
        bars = [*self.prompt.opening, *ids[:-1]]
        if bar_count(bars, self.vocab) < self.step.goal_bars:
            return False
        close = best_close(self.judgement, bars)
        return close is not None and close.weight >= GOOD_CLOSE

    def _tell(self, best: float | None = None) -> None:
        own = len(self.shards.mine(self.settings.num_candidates))
        self.report(Progress(self.step.number, self.section.name, self._drawn, own * self.max_tokens,
                             len(self.prompt.ids), best))
