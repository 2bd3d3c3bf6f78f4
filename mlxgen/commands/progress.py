"""How a run is shown while it goes: a live line on a terminal, a line a chunk elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

from mlxgen.compose.attempt import Progress
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.steps import Chunk


class RunView:
    """A context manager; `progress` and `chunk_done` are told what happens. `quiet` shows nothing."""

    def __init__(self, settings: ChainSettings, title: str = "", *, quiet: bool = False, processes: int = 1):
        self.settings, self.title = settings, title
        self.quiet, self.processes = quiet, processes
        self.started_s = time.monotonic()
        self._chunk_started_s = self.started_s
        self._drawing_since_s: float | None = None
        self._chunk, self._tokens = 0, 0
        self._best: float | None = None
        self._done_here = 0
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
            self._chunk, self._chunk_started_s = progress.chunk, time.monotonic()
            self._drawing_since_s = None
        if self._drawing_since_s is None and progress.tokens:
            self._drawing_since_s = time.monotonic()
        self._tokens = progress.tokens * self.processes
        self._best = progress.best
        if self._live is not None:
            self._live.update(self._line(progress))

    def chunk_done(self, chunks: Sequence[Chunk]) -> None:
        """A chunk is finished and saved."""
        self._done_here += 1
        if self.quiet or chunks[-1].pick is None:
            return
        text = self._summary(chunks)
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)

    def _summary(self, chunks: Sequence[Chunk]) -> str:
        chunk = chunks[-1]
        section = self.settings.plan.sections[chunk.section].name
        best = max(chunk.candidates, key=lambda row: row["number"] == chunk.pick)
        took_s = time.monotonic() - self._chunk_started_s
        name = "" if section == "piece" else f" ({section})"
        cadence = f", closes with {chunk.cadence}" if chunk.cadence else ""
        return (f"{self._where(len(chunks))}{name}: {best['bars']} bars, score {best['score']:.3f}, "
                f"best of {len(chunk.candidates)}{cadence}; "
                f"{self._tokens} ids in {took_s:.1f} s, {self._rate():.0f}/s")

    def _where(self, number: int) -> str:
        total = _chunk_total(self.settings)
        place = f"chunk {number} of {total}" if total else f"chunk {number}"
        return f"{self.title}, {place}" if self.title else place

    def _rate(self) -> float:
        since = self._drawing_since_s
        elapsed_s = time.monotonic() - since if since else 0.0
        return self._tokens / elapsed_s if elapsed_s > 0 else 0.0

    def _line(self, progress: Progress) -> str:
        share = progress.tokens / progress.of_tokens
        total = _chunk_total(self.settings)
        left = ""
        if share > 0.02:
            chunk_s = (time.monotonic() - self._chunk_started_s) / share
            chunks_left = max(0, (total or progress.chunk) - progress.chunk)
            left = f"  about {chunk_s * (1 - share + chunks_left):.0f} s left"
        best = f"  best {self._best:.3f}" if self._best is not None else ""
        bar = "█" * int(share * 24) + "░" * (24 - int(share * 24))
        return f"{self._where(progress.chunk)} {bar} {self._rate():.0f} ids/s{best}{left}"


def _chunk_total(settings: ChainSettings) -> int | None:
    """How many chunks the plan has, where it says so."""
    sections = settings.plan.sections
    if any(section.bars is not None for section in sections):
        return None
    return sum(section.chunks or 1 for section in sections)
