"""Do pieces end as planned? Every ready plan over many seeds, shortened, with few candidates.

A piece counts when its last chord, read back from its MIDI file, is the end of an authentic cadence in the
home key: dominant before it, tonic in the bass. Sections are cut to `--bars` bars at most, so that eighty
pieces are a matter of minutes. Ten keys in turn. With `--json FILE`, pieces that FILE holds already are not
composed again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import mlxgen.model  # noqa: F401  (binds the BLAS before mlx is imported)
from bench.common import describe_machine, finish, make_parser, print_table
from mlxgen.commands.options import make_sampling, make_soft_rules
from mlxgen.compose.chain import compose, stitched
from mlxgen.compose.ending import Cadence, find_cadences
from mlxgen.compose.plan import Plan, read_plan, ready_plans
from mlxgen.compose.settings import ChainSettings
from mlxgen.files.midi import read_midi, write_midi
from mlxgen.model.load import load
from mlxgen.music.piece import Piece
from mlxgen.music.prompt import Conditioning, parse_meter
from mlxgen.music.theory import Key

KEYS = ("G major", "D minor", "F major", "A minor", "D major", "E minor", "C major", "G minor", "Bb major",
        "B minor")
UNSAID = {"temperature": None, "min_p": None, "top_k": 0, "top_p": 1.0, "soft_rules": None}


def shorten(plan: Plan, bars: int) -> Plan:
    """No section longer than `bars` bars, no recall longer than half of that."""
    return replace(plan, sections=tuple(
        replace(section, bars=section.bars and min(section.bars, bars),
                recall_bars=min(section.recall_bars, max(1, bars // 2))) for section in plan.sections))


def planned_bars(plan: Plan) -> int:
    bars = {section.name: section.bars for section in plan.sections}
    return sum(section.bars or bars[section.repeat] for section in plan.sections)


def last_close(piece: Piece) -> Cadence | None:
    """The cadence in the piece's key that its last chord ends; None if it ends no cadence."""
    last_ticks = max(note.start_ticks for voice in piece.voices for note in voice)
    return next((found for found in find_cadences(piece, piece.key) if found.tick == last_ticks), None)


def settings_for(name: str, seed: int, options) -> ChainSettings:
    plan = read_plan(name)
    conditioning = Conditioning(form=plan.defaults["form"], style=plan.defaults["style"],
                                meter=parse_meter(plan.defaults.get("meter", "4/4")))
    return ChainSettings(
        conditioning=conditioning, key=Key.parse(KEYS[seed % len(KEYS)]), plan=shorten(plan, options.bars),
        overlap=options.overlap, chunk_tokens=options.chunk_tokens, num_candidates=options.candidates,
        seed=seed, sampling=make_sampling(UNSAID, conditioning.form, options.model),
        soft_rules=make_soft_rules(UNSAID, conditioning.form, options.model))


def run_one(model, vocab, name: str, seed: int, options) -> dict:
    settings = settings_for(name, seed, options)
    begun = time.perf_counter()
    chunks = list(compose(model, vocab, settings))
    piece, _ = stitched(settings, chunks, vocab)
    with tempfile.TemporaryDirectory() as folder:
        write_midi(piece, Path(folder) / "piece.mid")
        read = read_midi(Path(folder) / "piece.mid")
    close = last_close(read) if read.key == settings.key else None
    picked = [row for chunk in chunks for row in chunk.candidates if row["number"] == chunk.pick]
    return {"plan": name, "seed": seed, "key": settings.key.name, "close": close.kind if close else "",
            "weight": close.weight if close else 0.0, "bars": piece.length_bars,
            "planned_bars": planned_bars(settings.plan),
            "score": sum(row["score"] for row in picked) / len(picked),
            "seconds": time.perf_counter() - begun}


def main(arguments: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--plans", default=",".join(ready_plans()))
    parser.add_argument("--bars", type=int, default=6, help="of a section, at most")
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--overlap", type=int, default=384)
    parser.add_argument("--chunk-tokens", type=int, default=512)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no piece after so many")
    options = parser.parse_args(arguments)
    names, until_s = options.plans.split(","), time.monotonic() + 60 * options.minutes
    if options.quick:
        names, options.seeds, options.bars, options.candidates = names[:1], 1, 2, 2
    result = {"bench": "plans", "rows": []}
    if options.json and options.json.exists():
        result = json.loads(options.json.read_text(encoding="utf-8"))
    result["machine"] = describe_machine()
    model, vocab = load(options.model)
    done = {(row["plan"], row["seed"]) for row in result["rows"]}
    for seed in range(options.seeds):
        for name in names:
            if (name, seed) not in done and time.monotonic() < until_s:
                result["rows"].append(run_one(model, vocab, name, seed, options))
                print(result["rows"][-1], file=sys.stderr, flush=True)
                if options.json:
                    options.json.write_text(json.dumps(result) + "\n", encoding="utf-8")
    report(result["rows"])
    return finish(result, options.json)


def report(rows: list[dict]) -> None:
    table = []
    for name in dict.fromkeys(row["plan"] for row in rows):
        own = [row for row in rows if row["plan"] == name]
        kinds = {kind: sum(row["close"] == kind for row in own) for kind in ("PAC", "IAC", "")}
        table.append([name, f"{100 * (1 - kinds[''] / len(own)):.0f} %", *map(str, kinds.values()),
                      f"{sum(row['bars'] for row in own) / len(own):.1f}", str(own[0]["planned_bars"]),
                      f"{sum(row['score'] for row in own) / len(own):.3f}",
                      f"{sum(row['seconds'] for row in own) / len(own):.1f}"])
    print_table(["plan", "close at home", "PAC", "IAC", "none", "bars", "planned", "mean score",
                 "s a piece"], table)


if __name__ == "__main__":
    main(sys.argv[1:])
