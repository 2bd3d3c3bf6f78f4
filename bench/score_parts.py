"""A bench in parts: progress with the time left, and parts that are done kept in a file."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "mlxgen/music/*.py",
    "mlxgen/scoring/*",
    "bench/score_[!pg]*.py",  # not what prints, plots or composes
    "bench/adversaries.py",
    "bench/corruptions.py",
    "bench/faults.py",
    "bench/fang.py",
    "weights/recipe/event_corpus.py",
    "weights/recipe/sources.py",
)


def signature() -> int:
    """A checksum of everything that a part's figures depend on, the corpus apart."""
    check = 0
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                check = zlib.crc32(path.read_bytes(), check)
    return check


def kept_file(*names: object) -> Path:
    """Where a run of these options, by this code, keeps its parts."""
    title = "-".join(str(name) for name in (*names, f"{signature():08x}"))
    return Path(tempfile.gettempdir()) / f"mlxgen-score-bench-{title}.json"


class Parts:
    """`parts`: name -> (about how many seconds it takes, function that returns a piece of the result)."""

    def __init__(self, parts: Mapping[str, tuple[float, Callable[[], dict]]], kept: Path | None = None):
        self.parts, self.kept = parts, kept

    def run(self) -> dict:
        """All pieces of the result in one dictionary, as JSON holds them. Progress goes to stderr."""
        done = {}
        if self.kept is not None and self.kept.exists():
            done = json.loads(self.kept.read_text(encoding="utf-8"))
        spent = expected = 0.0
        result: dict = {}
        for number, (name, (seconds, part)) in enumerate(self.parts.items(), 1):
            known = name in done
            if not known:
                left = sum(cost for other, (cost, _) in list(self.parts.items())[number - 1:]
                           if other not in done) * (spent / expected if expected else 1.0)
                print(f"[{number}/{len(self.parts)}] {name}, about {left:.0f} s left", file=sys.stderr)
                started = time.monotonic()
                done[name] = json.loads(json.dumps(part()))
                spent, expected = spent + time.monotonic() - started, expected + seconds
                if self.kept is not None:
                    fresh = self.kept.with_suffix(".new")
                    fresh.write_text(json.dumps(done), encoding="utf-8")
                    fresh.replace(self.kept)
            result.update(done[name])
        return result
