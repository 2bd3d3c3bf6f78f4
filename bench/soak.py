"""Soak: one stream without end. Does it slow down, does memory grow, does the music stay legal?

`--tokens` ids with a full window; speed in slices of `--slice` ids, resident memory at each. The figures: the
median speed of the last tenth over that of the tenth after the window filled, and the growth of memory
between these two. Every id is decoded, and a voice that overlaps itself or a bar of the wrong length ends it.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from bench.common import describe_machine, finish, make_parser, print_table


class Watch:
    """Follows the stream id by id: bars of one length, no voice attacked while it sounds."""

    def __init__(self, vocab, prompt: list[int]):
        from mlxgen.music.decode import Decoder
        from mlxgen.music.theory import bar_ticks

        self.decoder = Decoder(vocab, keep_notes=False)
        self.bar = vocab["BAR"]
        self.ends: dict[int, int] = {}
        self.notes = 0
        for token in prompt:
            self.decoder.feed(token)
        self.bar_ticks = bar_ticks(self.decoder.meter)

    def feed(self, token: int) -> None:
        began = self.decoder.bar_start_ticks
        for voice, note in self.decoder.feed(token):
            if note.start_ticks < self.ends.get(voice, 0):
                raise RuntimeError(f"voice {voice} attacks at {note.start_ticks} while it sounds")
            self.ends[voice] = note.end_ticks
            self.notes += 1
        if token == self.bar and self.decoder.bar_start_ticks - began != self.bar_ticks:
            raise RuntimeError(f"bar {self.decoder.bar - 1} has {self.decoder.bar_start_ticks - began} ticks")


def resident_mb() -> float:
    """Resident memory now; where the system does not say (not Linux), the peak so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main(arguments: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--slice", type=int, default=1000)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--prefix", type=int, default=64)
    options = parser.parse_args(arguments)
    if options.quick:
        options.tokens, options.slice, options.window, options.prefix = 600, 50, 128, 16

    from bench.ours import HARD, Ours
    from mlxgen.sampling.engine import Engine, EngineOptions

    ours = Ours(str(options.model))
    engine = Engine(ours.model, ours.vocab, rules=HARD, options=EngineOptions(
        window=options.window, prefix=options.prefix, keep_notes=False))
    prompt = ours._prompt(options.prefix + 1)
    engine.prefill(prompt)
    watch = Watch(ours.vocab, prompt)
    slices = []
    for _ in range(options.tokens // options.slice):
        begun, busy = time.perf_counter(), time.process_time()
        for _ in range(options.slice):
            watch.feed(engine.step().ids[0])
        slices.append({"position": engine.position,
                       "tokens_per_s": options.slice / (time.perf_counter() - begun),
                       "cpu_ms": 1e3 * (time.process_time() - busy) / options.slice,
                       "resident_mb": resident_mb()})
    filled = options.window + options.prefix
    full = next(place for place, part in enumerate(slices) if part["position"] > filled)
    tenth = max(1, len(slices) // 10)
    early, late = slices[full + 1: full + 1 + tenth], slices[-tenth:]

    def middle(parts, key):
        return statistics.median(part[key] for part in parts)

    result = {"bench": "soak", "machine": describe_machine(), "tokens": engine.position, "notes": watch.notes,
              "speed_ratio": middle(late, "tokens_per_s") / middle(early, "tokens_per_s"),
              "cpu_ratio": middle(late, "cpu_ms") / middle(early, "cpu_ms"),
              "memory_growth_mb": late[-1]["resident_mb"] - early[0]["resident_mb"], "slices": slices}
    print(result["machine"])
    print_table(["", "ids/s", "CPU ms/id", "resident MB"],
                [[label, *(f"{middle(parts, key):.2f}" for key in ("tokens_per_s", "cpu_ms", "resident_mb"))]
                 for label, parts in (("after the window filled", early), ("last tenth", late))])
    print(f"{watch.notes} notes, none overlapping; speed {result['speed_ratio']:.3f} of the early one, "
          f"memory {result['memory_growth_mb']:+.1f} MB")
    return finish(result, options.json)


if __name__ == "__main__":
    main(sys.argv[1:])
