"""Candidates of a chunk -> what each is worth, and which one is kept.

Only new music is judged, behind the context it continues. A chunk that closes a section prefers candidates
with a place to stop; those are cut there and their last chord is held.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlxgen.compose.ending import Cadence, encode_bars, find_cadences, hold_chord
from mlxgen.compose.plan import CADENCE_DENSITIES, Section
from mlxgen.compose.steps import ENDING_ROOM_BARS, ENDING_SLACK_BARS, Step, early_bars
from mlxgen.compose.stitch import Part, bar_count, bar_openings, cut_last_bar, stitch, take_bars
from mlxgen.music.piece import Piece
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.candidates import Candidate
from mlxgen.scoring.boundary import seam_and_lines
from mlxgen.scoring.music import make_music
from mlxgen.scoring.score import score_music

SURPRISAL_WEIGHT = 0.25   # of a candidate's worth; the rest is the score of its notes
CADENCE_WEIGHT = 0.15     # how much the density of cadences counts in a section that asks for one
# A seam is to be a bar line like others: what it scores above three of four of the candidates' own bar lines
# costs that much of a candidate's worth. Replayed on 60 choices among 8: seams against the picked candidates'
# other bar lines AUC .53 -> .49, their mean score .707 -> .702.
SEAM_WEIGHT, SEAM_QUANTILE = 0.3, 0.75


@dataclass(frozen=True)
class Take:
    """A candidate made into whole bars. `nats` is -log p of each drawn id that was kept."""

    number: int
    ids: list[int]
    nats: list[float]
    drawn: int
    ended: str | None = None
    cadence: Cadence | None = None


@dataclass(frozen=True)
class Judgement:
    """What the candidates of one chunk are measured against; their tick 0 is `seam_ticks` of the context."""

    step: Step
    section: Section
    meter: tuple[int, int]
    voices: int
    context: Piece | None
    seam_ticks: int
    vocab: Vocab

    def piece(self, ids: Sequence[int]) -> Piece:
        """The new notes alone, the first bar line at tick 0."""
        return stitch([Part(ids, self.step.key)], self.meter, self.voices, self.vocab)[0]


def make_take(judgement: Judgement, number: int, opening: Sequence[int], candidate: Candidate) -> Take | None:
    """Cut a candidate to whole bars; to a cadence where the chunk closes. None if no bar is finished."""
    step, vocab = judgement.step, judgement.vocab
    drawn = candidate.ids[:-1] if candidate.ended == "eos" else candidate.ids
    ids = [*opening, *drawn]
    if candidate.ended != "eos":
        ids = cut_last_bar(ids, vocab)
    if step.goal_bars is not None and not step.closing:
        ids = take_bars(ids, max(1, step.goal_bars - ENDING_ROOM_BARS), vocab)
    if bar_count(ids, vocab) == 0:
        return None
    cadence = None
    if step.closing:
        ids, cadence = _close(judgement, ids)
    kept = max(1, min(len(ids) - len(opening), len(candidate.logprobs)))
    nats = [-logprob for logprob in candidate.logprobs[:kept]]
    return Take(number, list(ids), nats, len(candidate.ids), candidate.ended, cadence)


def best_close(judgement: Judgement, ids: Sequence[int]) -> Cadence | None:
    """The best place to stop in some whole bars, if there is one; its weight counts how near to the goal it
    lies.
    """
    step = judgement.step
    if judgement.section.cadence == "none" and not step.last:
        return None
    piece = judgement.piece(ids)
    fit = _closeness(judgement, bar_count(ids, judgement.vocab))
    want = "half" if judgement.section.cadence == "half" and not step.last else "full"
    found = [cadence._replace(weight=cadence.weight * fit(cadence.tick // piece.bar_ticks + 1))
             for cadence in find_cadences(piece, step.key, want=want)]
    return max((cadence for cadence in found if cadence.weight > 0), key=lambda cadence: cadence.weight,
               default=None)


def _close(judgement: Judgement, ids: list[int]) -> tuple[list[int], Cadence | None]:
    """The ids up to the best place to stop, its chord held; unchanged but for length if there is none."""
    step, vocab = judgement.step, judgement.vocab
    best = best_close(judgement, ids)
    if best is None:
        return take_bars(ids, step.goal_bars or bar_count(ids, vocab), vocab), None
    piece = judgement.piece(ids)
    bar = best.tick // piece.bar_ticks
    held = hold_chord(piece, best.tick)
    opening = bar_openings(ids, vocab)[bar]
    return [*ids[:opening], *encode_bars(held, bar, bar + 1, vocab)], best


def _closeness(judgement: Judgement, bars: int):
    """How well a close in bar n (from 1) fits: near the goal, or late in the chunk when nobody counts."""
    goal_bars = judgement.step.goal_bars
    if goal_bars is None:
        soon = 0.3 if judgement.context else 0.0  # half of a whole piece is not thrown away
        return lambda bar: soon if bar < bars / 2 else 0.7 + 0.3 * bar / bars
    early, late = max(1, goal_bars - early_bars(judgement.section)), goal_bars + ENDING_SLACK_BARS
    return lambda bar: 1 - 0.1 * abs(bar - goal_bars) if early <= bar <= late else 0.0


def judge(judgement: Judgement, takes: Sequence[Take]) -> list[dict]:
    """A row for each take: number, score, dimensions, seam and bar lines, surprisal, tokens, bars, cadence,
    findings."""
    last = judgement.step.last and judgement.step.closing
    rows = []
    for take in takes:
        piece = judgement.piece(take.ids)
        music = make_music(piece, judgement.context, last=last, surprisal=take.nats,
                           seam_ticks=judgement.seam_ticks if judgement.context else None)
        result = score_music(music)
        seam, lines = seam_and_lines(music)
        rows.append({
            "number": take.number, "score": _figure(result.composite),
            "dimensions": {name: _figure(value) for name, value in result.dimensions.items()},
            "seam": None if seam is None else _figure(seam), "bar_lines": [_figure(line) for line in lines],
            "surprisal": _figure(statistics.fmean(take.nats)), "tokens": take.drawn,
            "bars": bar_count(take.ids, judgement.vocab), "ended": take.ended,
            "cadence": take.cadence.kind if take.cadence else "",
            "cadence_weight": _figure(take.cadence.weight) if take.cadence else 0.0,
            "density": _density(judgement, piece),
            "findings": [[finding.bar, list(finding.voices), finding.rule, finding.detail]
                         for finding in result.findings[:20]],
        })
    return rows


def with_values(rows: Sequence[dict]) -> list[dict]:
    """The rows of all candidates, each with `typicality` and the `value` it is picked by.

    Surprisal counts on both sides: music more typical than what the model draws is as suspect as wild music.
    A seam costs what it stands out of the bar lines that the candidates write themselves.
    """
    if not rows:
        return []
    lines = [line for row in rows for line in row.get("bar_lines", ())]
    usual_line = float(np.quantile(lines, SEAM_QUANTILE)) if lines else 0.0
    middle = statistics.median(row["surprisal"] for row in rows)
    spread = statistics.median(abs(row["surprisal"] - middle) for row in rows) * 1.4826 + 0.02
    valued = []
    for row in rows:
        typical = math.exp(-((row["surprisal"] - middle) / spread) ** 2 / 8)
        value = (1 - SURPRISAL_WEIGHT) * row["score"] + SURPRISAL_WEIGHT * typical
        value *= 1 - CADENCE_WEIGHT * (1 - row["density"])
        if row.get("seam") is not None:  # there is none in a first chunk, or where nothing crosses it
            value *= math.exp(-SEAM_WEIGHT * max(0.0, row["seam"] - usual_line))
        valued.append({**row, "typicality": _figure(typical), "value": _figure(value)})
    return valued


def ranked(rows: Sequence[dict], step: Step) -> list[dict]:
    """The rows, best first: by value; where a chunk closes, those with a cadence before the others."""
    def worth(row):
        if not step.closing:
            return (0, row["value"], -row["number"])
        return (bool(row["cadence"]), row["value"] * (0.25 + 0.75 * row["cadence_weight"]), -row["number"])

    return sorted(rows, key=worth, reverse=True)


def _density(judgement: Judgement, piece: Piece) -> float:
    """Cadences found against those the section asks for, at most 1; 1 where it asks for nothing."""
    wanted = judgement.section.cadence_density
    if wanted is None or not piece.length_bars:
        return 1.0
    expected = piece.length_bars / CADENCE_DENSITIES[wanted]
    found = {cadence.tick // piece.bar_ticks for cadence in find_cadences(piece, judgement.step.key)}
    return _figure(min(1.0, len(found) / max(1.0, expected)))


def _figure(value: float) -> float:
    """Six decimals: what two machines agree on."""
    return round(float(value), 6)

