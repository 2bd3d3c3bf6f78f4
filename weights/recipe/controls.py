"""Does each word of the prompt move what it names? Two levels a control, all else equal.

The property that a level should raise is measured on pieces of both; Cohen's d of the second level over the
first with a bootstrap interval. Labels are measured as the corpus was labelled (imitation without repeated
notes, which swamp it in quartets). Style and form have no number of their own: the property is how much
nearer a piece is to real music of the second level than to real music of the first. A meter's bars add up by
the grammar, so its property is the pulse that is heard: how alike the attacks are three beats apart rather
than four.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlxgen.music.piece import Piece
from mlxgen.music.theory import TICKS_PER_QUARTER

from .corpus import read_rows
from .distances import RealMusic
from .generation import Order, generate_to, pieces_of
from .labels import LABELS, MOTIF_INTERVALS, imitation
from .samples import row_piece

REAL_PIECES = 60
TEMPERATURE, MIN_P, SOFT_RULES = 0.8, 0.03, "ours"  # of all forms alike, so that controls can be compared
BARS = 8
WHOLE_TOKENS = 2600
ENTRY_NOTES = 10
NEUTRAL = {
    "texture": "mixed",
    "imitation": "low",
    "harmonic_rhythm": "moderate",
    "harmonic_tension": "moderate",
    "chromaticism": "moderate",
    "length_bars": 32,
}
Measure = Callable[[Piece], float]
Real = Callable[[str], RealMusic]


class Control(NamedTuple):
    """Two levels as (form, words), the measure that should rise from one to the other, and when to stop."""

    low: tuple[str, dict]
    high: tuple[str, dict]
    measure: Callable[[Real], Measure]
    max_tokens: int = 700
    bars: int = BARS


def triple_pulse(piece: Piece) -> float:
    """Correlation of the weight of attacks three quarters apart less that four apart. 3/4 rises, 4/4 falls.

    The weight of a quarter is the length of the notes that begin in it, at most a half note each.
    """
    weights = np.zeros(-(-piece.length_ticks // TICKS_PER_QUARTER) + 1)
    for voice in piece.voices:
        for note in voice:
            if note.start_ticks % TICKS_PER_QUARTER == 0:
                weights[note.start_ticks // TICKS_PER_QUARTER] += min(note.duration_ticks, 960)
    weights = weights - weights.mean()
    spread = float((weights**2).mean())
    if len(weights) < 12 or spread == 0:
        return 0.0
    return float(((weights[3:] * weights[:-3]).mean() - (weights[4:] * weights[:-4]).mean()) / spread)


def nearness(low: str, high: str) -> Callable[[Real], Measure]:
    """How much nearer to real music of the form `high` than to that of `low`."""

    def make(real: Real) -> Measure:
        away, toward = real(low), real(high)
        return lambda piece: away.distance([piece]) - toward.distance([piece])

    return make


def moving_imitation(piece: Piece) -> float:
    """Answered motifs that move in half of their intervals: repeated notes, a quartet's pulse, are none."""
    return imitation(piece, least_moves=MOTIF_INTERVALS // 2)


def answered_entries(piece: Piece) -> float:
    """Share of the melodic intervals of the voices' first notes that are the first voice's, a semitone aside.

    In sixteenths any scale answers any other six intervals long; an exposition is told by how voices enter.
    """
    begun = sorted((voice for voice in piece.voices if len(voice) >= ENTRY_NOTES), key=lambda voice: voice[0])
    lines = [np.diff([note.pitch for note in voice[:ENTRY_NOTES]]) for voice in begun]
    if len(lines) < 2:
        return 0.0
    return float(np.mean([np.abs(line - lines[0]) <= 1 for line in lines[1:]]))


def label(form: str, field: str, bars: int = BARS, max_tokens: int = 700) -> Control:
    """The lowest word of a label against the highest."""
    low, _, high = LABELS[field].words
    measure = moving_imitation if field == "imitation" else LABELS[field].measure
    return Control((form, {field: low}), (form, {field: high}), lambda real: measure, max_tokens, bars)


# The form of each is one that has the words of that control in the training corpus.
CONTROLS: dict[str, Control] = {
    "style": Control(
        ("chorale", {"style": "bach"}), ("chorale", {"style": "renaissance"}), nearness("chorale", "motet")
    ),
    "form": Control(("chorale", NEUTRAL), ("fugue", NEUTRAL), nearness("chorale", "fugue"), 900),
    "texture": label("quartet", "texture"),
    "imitation": label("motet", "imitation", bars=12),
    "harmonic rhythm": label("chorale", "harmonic_rhythm"),
    "tension": label("chorale", "harmonic_tension"),
    "chromaticism": label("chorale", "chromaticism"),
    "length": Control(
        ("chorale", {"length_bars": 16}), ("chorale", {"length_bars": 32}),
        lambda real: lambda piece: float(piece.length_bars), WHOLE_TOKENS, bars=0,
    ),
    "meter": Control(
        ("quartet", {"meter": (4, 4)}), ("quartet", {"meter": (3, 4)}), lambda real: triple_pulse, bars=12
    ),
    "imitation, fugue": label("fugue", "imitation", bars=12, max_tokens=900),
    "imitation, fugue entries": label("fugue", "imitation", bars=12, max_tokens=900)._replace(
        measure=lambda real: answered_entries),
    "imitation, quartet": label("quartet", "imitation", bars=16, max_tokens=1200),
    "harmonic rhythm, motet": label("motet", "harmonic_rhythm"),
}  # fmt: skip


def effect(low: list[float], high: list[float], seed: int = 0) -> dict:
    """Cohen's d of high over low with a 95 % bootstrap interval, and both means."""

    def cohen(a: np.ndarray, b: np.ndarray) -> float:
        spread = ((a.var(ddof=1) + b.var(ddof=1)) / 2) ** 0.5
        return float((b.mean() - a.mean()) / spread) if spread > 0 else 0.0

    a, b, rng = np.array(low), np.array(high), np.random.default_rng(seed)
    draws = [cohen(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(1000)]
    return {
        "low_mean": round(float(a.mean()), 4),
        "high_mean": round(float(b.mean()), 4),
        "d": round(cohen(a, b), 2),
        "interval": [round(float(np.quantile(draws, share)), 2) for share in (0.025, 0.975)],
    }


def make_order(level: tuple[str, dict], control: Control) -> Order:
    form, words = level
    words = {name: list(word) if isinstance(word, tuple) else word for name, word in words.items()}
    eos = "allow" if control.bars else "length"  # excerpts are stopped, whole pieces end
    return Order(form, TEMPERATURE, MIN_P, SOFT_RULES, eos, control.max_tokens, control.bars, words)


def run_control(folder: Path, work: Path, out: Path, count: int, name: str) -> dict:
    """One control's two levels, `count` pieces each: both means, d, interval."""
    from mlxgen.model.load import load

    model, vocab = load(folder)
    control = CONTROLS[name]
    rows = read_rows(work)

    def real(form: str) -> RealMusic:
        own = [row for row in rows if row["form"] == form and row["split"] == "train"]
        return RealMusic(row_piece(row) for row in own[:REAL_PIECES])

    measure = control.measure(real)
    values = []
    for side, level in (("low", control.low), ("high", control.high)):
        path = out / f"conditioning.{folder.name}.{name.replace(', ', '-').replace(' ', '_')}.{side}.jsonl"
        made = generate_to(path, model, vocab, make_order(level, control), count)
        values.append([measure(piece) for piece in pieces_of(made, vocab) if piece.note_count >= 8])
    return {
        "from": f"{control.low[0]} {control.low[1]}" if control.low[1] is not NEUTRAL else control.low[0],
        "to": f"{control.high[0]} {control.high[1]}" if control.high[1] is not NEUTRAL else control.high[0],
        "pieces": [len(side) for side in values],
        **effect(*values),
    }
