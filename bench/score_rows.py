"""The rows of the scorer's bench: how a real piece is spoiled, what the composite must reach on chorales, and
which dimensions claim to notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import corruptions, faults
from mlxgen.music.piece import Piece
from mlxgen.scoring.metrics import (
    BOUNDARY,
    COMPLETENESS,
    CONTINUITY,
    COUNTERPOINT,
    STATISTICS,
    STRUCTURE,
    THEME,
    VOICE_LEADING,
)

Corruption = Callable[[Piece, corruptions.Random], Piece]


@dataclass(frozen=True)
class Row:
    """`make(pool)` is the corruption; the pool lends voices and second halves. `target` is the least AUC of
    the composite on chorales (None: reported only), `claimed` the dimensions that must be above .5."""

    make: Callable[[Sequence[Piece]], Corruption]
    target: float | None
    claimed: tuple[str, ...]


def _alone(corruption: Corruption) -> Callable[[Sequence[Piece]], Corruption]:
    return lambda pool: corruption


LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)  # of the corruptions whose level is ranked
PARTS = (VOICE_LEADING, COUNTERPOINT)
NOTES = (*PARTS, STATISTICS, STRUCTURE)

ROWS = {
    "pitches shuffled": Row(_alone(corruptions.shuffled), 0.99, (*NOTES, THEME, CONTINUITY)),
    "tenor a semitone up": Row(_alone(corruptions.tenor_semitone_up), 0.99, NOTES),
    "tenor a beat late": Row(
        _alone(corruptions.tenor_beat_late), 0.99, (*PARTS, STRUCTURE, COMPLETENESS)
    ),
    "inner voices swapped": Row(corruptions.make_inner_swap, 0.99, (*PARTS, STRUCTURE)),
    "parallel fifths 5 %": Row(_alone(corruptions.make_parallel_fifths(0.05)), 0.80, PARTS),
    "parallel fifths 15 %": Row(_alone(corruptions.make_parallel_fifths(0.15)), 0.95, PARTS),
    "jitter 5 %": Row(_alone(corruptions.make_jitter(0.05)), 0.95, NOTES),
    "jitter 10 %": Row(_alone(corruptions.make_jitter(0.10)), 0.99, NOTES),
    "jitter 20 %": Row(_alone(corruptions.make_jitter(0.20)), 0.995, NOTES),
    "2-bar loop": Row(_alone(corruptions.looped), 0.95, (STATISTICS, STRUCTURE, CONTINUITY)),
    "bars permuted": Row(
        _alone(corruptions.bars_permuted), 0.90, (*PARTS, STATISTICS, BOUNDARY, COMPLETENESS)
    ),
    "spliced": Row(corruptions.make_splice, None, (BOUNDARY, STRUCTURE)),
    "spliced, same key": Row(
        lambda pool: corruptions.make_splice(pool, same_key=True), None, (BOUNDARY, STRUCTURE)
    ),
    "registers jump": Row(_alone(corruptions.registers_jump), None, (VOICE_LEADING, CONTINUITY)),
    "cut short": Row(_alone(corruptions.cut_short), None, (COMPLETENESS,)),
    "opening exchanged": Row(corruptions.make_opening_exchanged, None, (THEME, BOUNDARY)),
    "jitter in the scale 5 %": Row(_alone(faults.make_scale_jitter(0.05)), None, PARTS),
    "rhythm jitter 10 %": Row(_alone(faults.make_rhythm_jitter(0.10)), None, (COUNTERPOINT, STATISTICS)),
    "notes left out 5 %": Row(_alone(faults.make_left_out(0.05)), None, (STATISTICS,)),
    "last chord astray": Row(_alone(faults.last_chord_astray), None, (COMPLETENESS,)),
    "last two bars astray": Row(_alone(faults.last_bars_astray), None, (COMPLETENESS, STRUCTURE, BOUNDARY)),
    "one bar astray": Row(_alone(faults.one_bar_astray), None, (BOUNDARY,)),
    "leading notes lowered": Row(_alone(faults.leading_notes_lowered), None, (STRUCTURE,)),
    "accidentals removed": Row(_alone(faults.accidentals_removed), None, (STRUCTURE,)),
    "second half astray": Row(_alone(faults.half_astray), None, (STRUCTURE, BOUNDARY)),
}
