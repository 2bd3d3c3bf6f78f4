"""Random pieces for property tests, and the JSB chorales as pieces."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st
from vocabs import BINS

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import SCALES, Key

METERS = ((2, 4), (3, 4), (4, 4), (6, 8), (3, 8), (2, 2), (9, 8), (3, 2), (5, 4))
keys = st.builds(Key, st.integers(0, 11), st.sampled_from(sorted(SCALES)))


@st.composite
def voices(draw, bins=BINS, min_pitch=36, max_pitch=84, min_size=1) -> list[Note]:
    """One voice that never overlaps itself: rests and notes on the 60-tick grid."""
    notes, now_ticks = [], 0
    for rest_bins, duration_ticks, pitch in draw(
        st.lists(
            st.tuples(st.integers(0, 40), st.sampled_from(bins), st.integers(min_pitch, max_pitch)),
            min_size=min_size,
            max_size=12,
        )
    ):
        now_ticks += 60 * rest_bins if rest_bins > 20 else 0
        notes.append(Note(now_ticks, duration_ticks, pitch))
        now_ticks += duration_ticks
    return notes


@st.composite
def pieces(draw, max_voices=4, **options) -> Piece:
    """Pieces in any key and meter, every voice sounding, that the vocabularies can write exactly."""
    count = draw(st.integers(2, max_voices))
    return Piece([draw(voices(**options)) for _ in range(count)], draw(keys), draw(st.sampled_from(METERS)))


def jsb_chorales(shared: Path, part: str) -> list[Piece]:
    """The chorales of one part of the literature's split; equal neighbouring pitches are one held note.

    They come without a key: C major is put in, any key must do.
    """
    rows = json.loads((shared / "corpus" / "Jsb16thSeparated.json").read_text())[part]
    return [Piece([_held(column) for column in zip(*rows_of_one, strict=True)]) for rows_of_one in rows]


def _held(pitches) -> list[Note]:
    notes: list[Note] = []
    for step, pitch in enumerate(pitches):
        if pitch < 0:
            continue
        last = notes[-1] if notes else None
        if last and last.pitch == pitch and last.end_ticks == 120 * step:
            notes[-1] = last._replace(duration_ticks=last.duration_ticks + 120)
        else:
            notes.append(Note(120 * step, 120, int(pitch)))
    return notes
