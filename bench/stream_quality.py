"""Does an endless stream stay as good as it was? `python -m bench.quality stream [--model FOLDER] [--tokens
N]`.

Held-out music (the test chorales of the JSB split; or --corpus FILES of scores) is concatenated to one
stretch and this is played over and over, one token at a time, through four ways of keeping the context
(bench/stream_contestants.py). Every pass brings the same notes, so a difference between passes is drift and
nothing else; the window is far shorter than a pass, so no way can remember the pass before. The pinned
prefix is the conditioning and opening of the first piece.

Slope: at each of the blocks of 1,000 tokens that make a pass, a straight line through its passes from the
second on; the mean of those slopes and its 95 % t interval, in nats per million tokens. Prints a table and
one JSON line; figures of each contestant are kept in --out and not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from bench.stream_contestants import CONTESTANTS, RingStream, Setting

BLOCK = 1000
T_95 = {5: 2.571, 10: 2.228, 15: 2.131, 19: 2.093, 20: 2.086, 30: 2.042}
ROOT = Path(__file__).resolve().parent.parent


def t_quantile(freedom: int) -> float:
    """Two-sided 95 %: the next smaller freedom of the table, at worst a little wide."""
    return T_95[max((known for known in T_95 if known <= freedom), default=5)]


def chorale(frames: list[list[int]]):
    """Rows of four pitches, a sixteenth each -> Piece; a repeated pitch is one note."""
    from mlxgen.music.piece import Note, Piece
    from mlxgen.music.theory import detect_key

    voices, weights = [], [0.0] * 12
    for line in zip(*frames, strict=True):
        notes: list[Note] = []
        for index, pitch in enumerate(line):
            if pitch < 0:  # a rest
                continue
            weights[pitch % 12] += 1
            if notes and notes[-1].pitch == pitch and notes[-1].end_ticks == index * 120:
                notes[-1] = notes[-1]._replace(duration_ticks=notes[-1].duration_ticks + 120)
            else:
                notes.append(Note(index * 120, 120, pitch))
        voices.append(notes)
    return Piece(voices, detect_key(weights))


def read_music(paths: list[Path]) -> list:
    """Pieces of score files, or the test chorales of a JSB frames file. ValueError when there is none."""
    pieces = []
    for path in paths:
        if path.suffix == ".json":
            pieces += [chorale(frames) for frames in json.loads(path.read_text())["test"]]
        else:
            from mlxgen.files.read import read_score

            pieces.append(read_score(path))
    if not pieces:
        raise ValueError("no held-out music: give scores with --corpus")
    return pieces


def make_stream(pieces: list, vocab, form: str, pass_tokens: int, tokens: int) -> tuple[np.ndarray, int]:
    """(ids, length of the conditioning): conditioning, then one pass of `pass_tokens` again and again.

    Pieces in the mode of the first one, so that the pinned key does not lie about half of them.
    """
    from mlxgen.music.encode import encode_events
    from mlxgen.music.prompt import Conditioning, make_prefix

    conditioning = make_prefix(Conditioning(form=form, style="bach", meter=(4, 4), encoding="interleaved"),
                               pieces[0].key, vocab)
    music: list[int] = []
    for piece in pieces:
        if piece.key.mode == pieces[0].key.mode:
            music += encode_events(piece, vocab)
    if len(music) < pass_tokens:
        raise ValueError(f"the music has {len(music)} tokens; a pass needs {pass_tokens}")
    repeated = np.resize(np.array(music[:pass_tokens], dtype=np.int32), tokens)
    return np.concatenate([np.array(conditioning, dtype=np.int32), repeated]), len(conditioning)


def resident_mb() -> float:
    status = Path("/proc/self/statm")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(how: str, model, ids: np.ndarray, setting: Setting, skip: int) -> dict[str, dict]:
    """Contestant -> NLL means, wall and CPU seconds and resident memory per block of the tokens from `skip`
    on.
    """
    runner, names = CONTESTANTS[how]
    parts: list[np.ndarray] = []
    done, wanted = 0, BLOCK
    clocks = [(time.perf_counter(), time.process_time(), resident_mb())]
    stream = runner(model, ids, setting)
    for part in stream:
        parts.append(part)
        done += len(part)
        while done >= wanted:
            clocks.append((time.perf_counter(), time.process_time(), resident_mb()))
            if wanted % 10_000 == 0:
                recent = np.concatenate(parts[-100:]).mean(axis=0)
                print(f"{how}: {wanted} tokens, {recent.round(4)} nats, {clocks[-1][2]:.0f} MB", flush=True)
            wanted += BLOCK
    # the first figure belongs to token `prefix`; blocks are cut so that passes line up
    aligned = np.full((len(ids) - skip, len(names)), np.nan)
    aligned[setting.prefix - skip:] = np.concatenate(parts)
    blocks = np.nanmean(aligned[: len(aligned) // BLOCK * BLOCK].reshape(-1, BLOCK, len(names)), axis=1)
    wall, cpu, resident = (np.array(column) for column in zip(*clocks, strict=True))
    costs = {"wall_s": np.diff(wall).tolist(), "cpu_s": np.diff(cpu).tolist(),
             "resident_mb": resident.tolist()}
    if isinstance(stream, RingStream):
        costs["speed_against_fresh"] = stream.against_fresh()
    return {name: {"nll": blocks[:, column].tolist()} | costs for column, name in enumerate(names)}


def slopes(blocks: np.ndarray, per_pass: int) -> dict:
    """Mean slope over the places of a pass, from the second pass on, nats per million tokens, and its
    interval.
    """
    passes = blocks[: len(blocks) // per_pass * per_pass].reshape(-1, per_pass)[1:]  # (passes, places)
    tokens = np.arange(len(passes)) * per_pass * BLOCK / 1e6
    tokens -= tokens.mean()
    each = (tokens[:, None] * passes).sum(axis=0) / (tokens**2).sum()  # (places,)
    half = t_quantile(per_pass - 1) * each.std(ddof=1) / np.sqrt(per_pass)
    return {"slope": float(each.mean()), "low": float(each.mean() - half), "high": float(each.mean() + half)}


def summarise(figures: dict, per_pass: int) -> dict:
    blocks = np.array(figures["nll"])
    tenth = len(blocks) // 10
    second, last = blocks[tenth: 2 * tenth].mean(), blocks[9 * tenth:].mean()
    wall, cpu = np.array(figures["wall_s"]), np.array(figures["cpu_s"])
    memory = figures["resident_mb"]
    return {
        "tokens": len(blocks) * BLOCK, "second_pass": float(blocks[per_pass: 2 * per_pass].mean()),
        "last_pass": float(blocks[-per_pass:].mean()),
        "second_tenth": float(second), "last_tenth": float(last),
        "change_percent": float(100 * (last / second - 1)), **slopes(blocks, per_pass),
        "tokens_per_s": float(BLOCK / np.median(wall)),
        "speed_ratio": float(np.median(wall[2:12]) / np.median(wall[-10:])),
        "cpu_speed_ratio": float(np.median(cpu[2:12]) / np.median(cpu[-10:])),
        "speed_against_fresh": figures.get("speed_against_fresh"),
        "memory_growth_mb": float(memory[-1] - memory[min(10, len(memory) - 1)]),
    }


def draw(results: dict[str, dict], per_pass: int, path: Path) -> None:
    """NLL against tokens, a thin line a contestant, means of each pass as dots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for index, (name, figures) in enumerate(results.items()):
        blocks = np.array(figures["nll"])
        blocks = blocks[: len(blocks) // per_pass * per_pass]
        axes.plot(np.arange(len(blocks)) + 0.5, blocks, color=f"C{index}", alpha=0.2, linewidth=0.7)
        means = blocks.reshape(-1, per_pass).mean(axis=1)
        axes.plot((np.arange(len(means)) + 0.5) * per_pass, means, color=f"C{index}", marker="o", label=name)
    axes.set(xlabel="thousand tokens", ylabel="NLL (nats a token)",
             title="The same held-out music again and again: a dot is a pass")
    axes.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.quality stream", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "weights" / "default")
    parser.add_argument("--corpus", type=Path, nargs="+",
                        default=[ROOT.parent / "shared" / "corpus" / "Jsb16thSeparated.json"])
    parser.add_argument("--form", default="chorale")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--peer-tokens", type=int, help="tokens for the others (default: --tokens)")
    parser.add_argument("--pass-tokens", type=int, default=20_000)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--prefix", type=int, default=64)
    parser.add_argument("--only", choices=CONTESTANTS, action="append")
    parser.add_argument("--out", type=Path, default=Path("runs/stream_quality"))
    parser.add_argument("--plot", type=Path)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    import mlxgen

    model, vocab = mlxgen.load(options.model)
    music = read_music(options.corpus)
    ids, skip = make_stream(music, vocab, options.form, options.pass_tokens, options.tokens)
    for tokens in (options.tokens, options.peer_tokens or options.tokens):
        if tokens < 3 * options.pass_tokens or tokens // BLOCK < 10:
            raise ValueError(f"{tokens} tokens: expected at least 10 blocks of {BLOCK} and three passes")
    setting = Setting(options.window, max(options.prefix, skip + 1))
    options.out.mkdir(parents=True, exist_ok=True)
    results, summary = {}, {}
    for how in options.only or CONTESTANTS:
        tokens = options.tokens if how == "ring" else options.peer_tokens or options.tokens
        kept = options.out / f"{how}_{tokens}_{setting.window}_{setting.prefix}.json"
        if not kept.exists():
            kept.write_text(json.dumps(run(how, model, ids[: skip + tokens], setting, skip)))
        results |= json.loads(kept.read_text())
    for name, figures in results.items():
        summary[name] = summarise(figures, options.pass_tokens // BLOCK)
    print(f"\n{'':14}{'tokens':>8}{'2nd pass':>10}{'last':>9}   nats per million tokens (95 %)  tokens/s")
    for name, row in summary.items():
        print(f"{name:14}{row['tokens']:8}{row['second_pass']:10.4f}{row['last_pass']:9.4f}"
              f"{row['slope']:12.1e} [{row['low']:.1e}, {row['high']:.1e}]{row['tokens_per_s']:12.0f}")
    if options.plot:
        draw(results, options.pass_tokens // BLOCK, options.plot)
    print(json.dumps({"bench": "stream_quality", "model": str(options.model.name), "tokens": options.tokens,
                      "window": setting.window, "prefix": setting.prefix, "contestants": summary}))
    return 0
