"""RawScore -> Pieces: bars laid end to end, cut where the meter, the key signature or the grid changes.

A short first measure is an upbeat and ends its bar; a short measure elsewhere is completed by the next one,
or by rest where the next one is whole. Bars with notes off the grid (of 60 ticks: triplets, which upstream's
vocabulary cannot write) are left out, and the music on either side becomes pieces of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import SCALES, TICKS_PER_QUARTER, Key

from .readers import Measure, RawScore

# notated meter -> (factor on all note values, meter written): longer and shorter notations of one tactus
# become the six meters that the vocabulary names; 12/8 and 9/8 bars are written as two or three shorter
# ones.
METERS: dict[tuple[int, int], tuple[Fraction, tuple[int, int]]] = {
    (2, 4): (Fraction(1), (2, 4)),
    (3, 4): (Fraction(1), (3, 4)),
    (4, 4): (Fraction(1), (4, 4)),
    (6, 8): (Fraction(1), (6, 8)),
    (3, 8): (Fraction(1), (3, 8)),
    (2, 2): (Fraction(1), (2, 2)),
    (4, 8): (Fraction(1), (2, 4)),
    (12, 8): (Fraction(1), (6, 8)),
    (9, 8): (Fraction(1), (3, 8)),
    (8, 4): (Fraction(1), (4, 4)),
    (4, 2): (Fraction(1, 2), (4, 4)),
    (3, 2): (Fraction(1, 2), (3, 4)),
    (2, 1): (Fraction(1, 2), (4, 4)),
    (6, 4): (Fraction(1, 2), (6, 8)),
    (9, 4): (Fraction(1, 2), (3, 8)),
    (3, 1): (Fraction(1, 4), (3, 4)),
    (6, 2): (Fraction(1, 4), (6, 8)),
    (12, 4): (Fraction(1, 2), (6, 8)),
    (6, 16): (Fraction(2), (6, 8)),
    (9, 16): (Fraction(2), (3, 8)),
    (12, 16): (Fraction(2), (6, 8)),
    (24, 16): (Fraction(2), (6, 8)),
    (18, 16): (Fraction(2), (3, 8)),
}

# Krumhansl and Kessler's probe-tone ratings (1982), tonic first.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def estimate_key(voices: list[list[Note]], fifths: int | None = None, mode: str | None = None) -> Key:
    """The key whose Krumhansl-Kessler profile fits the durations best, leaning on what is notated.

    Added to the correlation: .25 for the tonic as the last bass note, .20 where the signature agrees (its
    major or minor; a modal signature one fifth away gets half), .10 for the notated mode.
    """
    weight = [0.0] * 12
    for voice in voices:
        for note in voice:
            weight[note.pitch % 12] += note.duration_ticks
    mean = sum(weight) / 12
    last = max((note for note in voices[-1]), key=lambda note: note.start_ticks, default=None)

    def fit(key: Key) -> float:
        profile = PROFILES[key.mode]
        centre = sum(profile) / 12
        pairs = [(weight[(key.root + step) % 12] - mean, profile[step] - centre) for step in range(12)]
        norm = (sum(x * x for x, _ in pairs) * sum(y * y for _, y in pairs)) ** 0.5
        value = sum(x * y for x, y in pairs) / norm if norm else 0.0
        value += 0.25 * (last is not None and last.pitch % 12 == key.root)
        if fifths is not None:
            distance = abs((key.fifths - fifths + 6) % 12 - 6)
            value += {0: 0.20, 1: 0.10}.get(distance, 0.0)
        return value + 0.10 * (mode == key.mode)

    return max((Key(root, name) for name in SCALES for root in range(12)), key=fit)


def _measure_is_on_grid(measure: Measure, factor: Fraction, grid_ticks: int) -> bool:
    unit = Fraction(grid_ticks, TICKS_PER_QUARTER)
    return all(
        (note.offset * factor) % unit == 0 and (note.duration * factor) % unit == 0
        for part in measure.parts
        for note in part
    )


def _runs(score: RawScore, grid_ticks: int) -> Iterator[list[Measure]]:
    """Maximal runs of measures of one meter and signature, on the grid, inside one movement."""
    run: list[Measure] = []
    for measure in score.measures:
        known = measure.meter in METERS
        usable = known and _measure_is_on_grid(measure, METERS[measure.meter][0], grid_ticks)
        if run and (not usable or (run[-1].meter, run[-1].fifths) != (measure.meter, measure.fifths)):
            yield run
            run = []
        if usable:
            run.append(measure)
            if measure.ends_section:
                yield run
                run = []
    if run:
        yield run


def _lay_out(run: list[Measure]) -> list[list[Note]]:
    """Measures -> voices in ticks: upbeat first, ties merged, bar lines on whole bars."""
    factor, _ = METERS[run[0].meter]
    nominal = Fraction(run[0].meter[0] * 4, run[0].meter[1])
    voices: list[list[Note]] = [[] for _ in run[0].parts]
    clock = nominal - run[0].length if run[0].length < nominal else Fraction(0)
    for number, measure in enumerate(run):
        if number and measure.length == nominal and clock % nominal:
            clock += nominal - clock % nominal
        for voice, part in zip(voices, measure.parts, strict=True):
            for raw in part:
                start = int((clock + raw.offset) * factor * TICKS_PER_QUARTER)
                note = Note(start, int(raw.duration * factor * TICKS_PER_QUARTER), raw.pitch)
                if raw.tied_from and voice and voice[-1].end_ticks == start and voice[-1].pitch == note.pitch:
                    voice[-1] = voice[-1]._replace(
                        duration_ticks=voice[-1].duration_ticks + note.duration_ticks
                    )
                else:
                    voice.append(note)
        clock += measure.length
    return voices


def trim_bars(piece: Piece) -> Piece:
    """Whole bars of silence before the first note are dropped."""
    first = min(note.start_ticks for voice in piece.voices for note in voice)
    return piece.between(first // piece.bar_ticks * piece.bar_ticks, piece.length_ticks + 1)


def is_clean(piece: Piece, grid_ticks: int = 60) -> bool:
    """Every voice monophonic, on the grid, with positive durations."""
    for voice in piece.voices:
        if any(note.duration_ticks <= 0 or note.start_ticks % grid_ticks for note in voice):
            return False
        if any(left.end_ticks > right.start_ticks for left, right in pairwise(voice)):
            return False
    return True


def split_score(
    score: RawScore,
    title: str,
    *,
    grid_ticks: int = 60,
    min_bars: int = 8,
    voices: tuple[int, ...] = (2, 3, 4),
    first_note_share: float = 0.03,
) -> Iterator[Piece]:
    """The usable pieces of one file. Parts that hold under `first_note_share` of the notes are dropped."""
    runs = [run for run in _runs(score, grid_ticks) if len(run) >= min_bars]
    for number, run in enumerate(runs, start=1):
        laid = _lay_out(run)
        total = sum(map(len, laid))
        kept = [voice for voice in laid if total and len(voice) >= first_note_share * total]
        if len(kept) not in voices:
            continue
        signature = Counter((measure.fifths, measure.mode) for measure in run).most_common(1)[0][0]
        name = title if len(runs) == 1 else f"{title} [{number}]"
        piece = Piece(kept, estimate_key(kept, *signature), METERS[run[0].meter][1], title=name)
        piece = trim_bars(piece)
        if piece.length_bars >= min_bars and is_clean(piece, grid_ticks):
            yield piece


def rescaled(piece: Piece) -> Piece | None:
    """A piece read elsewhere (MIDI) in one of the six meters; None where its meter has no such writing."""
    if piece.meter not in METERS:
        return None
    factor, meter = METERS[piece.meter]
    voices = [
        [Note(int(start * factor), int(duration * factor), pitch) for start, duration, pitch in voice]
        for voice in piece.voices
    ]
    return replace(piece, voices=voices, meter=meter)
