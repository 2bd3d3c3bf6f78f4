"""How a run is shown while it goes: a live line on a terminal, a line a chunk elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

from mlxgen.compose.attempt import Progress
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.steps import Chunk

_BAR_CELLS = 24


class RunView:
    """A context manager; `progress` and `chunk_done` are told what happens. `quiet` shows nothing."""

    def __init__(self, settings: ChainSettings, title: str = "", *, quiet: bool = False, processes: int = 1,
                 now=time.monotonic):
        self.settings, self.title = settings, title
        self.quiet, self.processes, self._now = quiet, processes, now
        self.started_s = self._chunk_started_s = now()
        self._chunk = 0
        self._first: tuple[float, int] | None = None  # when ids were first seen in this chunk, and how many
        self._tokens = 0
        self._best: float | None = None
        self._bars_done, self._chunks_done = 0, 0
        self._live = None

    def __enter__(self) -> RunView:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live("", console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        if self._live is not None:
            self._live.stop()

    def progress(self, progress: Progress) -> None:
        """A chunk has drawn some more ids."""
        if progress.chunk != self._chunk:
            self._chunk, self._chunk_started_s, self._first = progress.chunk, self._now(), None
        self._tokens = progress.tokens * self.processes
        if self._first is None and progress.tokens:
            self._first = self._now(), self._tokens
        if progress.best is not None:
            self._best = progress.best
        if self._live is not None:
            self._live.update(self.line(progress))

    def chunk_done(self, chunks: Sequence[Chunk]) -> None:
        """A chunk is finished and saved."""
        chunk = chunks[-1]
        if chunk.pick is None:
            return
        kept = next(row for row in chunk.candidates if row["number"] == chunk.pick)
        self._bars_done += kept["bars"]
        self._chunks_done += 1
        if self.quiet:
            return
        text = self._summary(chunk, kept, len(chunks))
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)

    def _summary(self, chunk: Chunk, kept: dict, number: int) -> str:
        section = self.settings.plan.sections[chunk.section].name
        name = "" if section == "piece" else f" ({section})"
        cadence = f", closes with {chunk.cadence}" if chunk.cadence else ""
        took_s = self._now() - self._chunk_started_s
        return (f"{self._where(number)}{name}: {kept['bars']} bars, score {kept['score']:.3f}, "
                f"best of {len(chunk.candidates)}{cadence}; "
                f"{self._tokens} ids in {took_s:.1f} s, {self._tokens / max(took_s, 1e-3):.0f}/s")

    def _where(self, number: int) -> str:
        total = _chunk_total(self.settings)
        place = f"chunk {number} of {total}" if total else f"chunk {number}"
        return f"{self.title}, {place}" if self.title else place

    def _rate(self) -> float:
        """Ids a second since the first were seen: reading the context is not counted."""
        if self._first is None:
            return 0.0
        elapsed_s = self._now() - self._first[0]
        return (self._tokens - self._first[1]) / elapsed_s if elapsed_s > 0 else 0.0

    def line(self, progress: Progress) -> str:
        """The live line: where, a bar, the rate, the best value so far, the time left."""
        share = min(1.0, progress.tokens / progress.of_tokens)
        best = f"  best {self._best:.3f}" if self._best is not None else ""
        rate = f" {self._rate():.0f} ids/s" if self._rate() else ""
        left = ""
        if share > 0.02:
            chunk_s = (self._now() - self._chunk_started_s) / share
            left = f"  about {_clock(chunk_s * (1 - share + self._chunks_left(progress.chunk)))} left"
        bar = "█" * int(share * _BAR_CELLS) + "░" * (_BAR_CELLS - int(share * _BAR_CELLS))
        return f"{self._where(progress.chunk)} {bar}{rate}{best}{left}"

    def _chunks_left(self, number: int) -> float:
        """Chunks after this one: counted, or, where sections count bars, estimated from those done."""
        total = _chunk_total(self.settings)
        if total is not None:
            return max(0, total - number)
        goal = sum(section.bars or 0 for section in self.settings.plan.sections)
        bars_a_chunk = (self._bars_done / self._chunks_done if self._chunks_done
                        else self.settings.chunk_tokens / self.settings.tokens_per_bar())
        return max(0.0, (goal - self._bars_done) / bars_a_chunk - 1)


def _clock(seconds: float) -> str:
    """75.2 -> "1:15"."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _chunk_total(settings: ChainSettings) -> int | None:
    """How many chunks the plan has, where it says so."""
    sections = settings.plan.sections
    if any(section.bars is not None for section in sections):
        return None
    return sum(section.chunks or 1 for section in sections)
