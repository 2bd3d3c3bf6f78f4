"""What a session does not draw: themes placed and moved, bars filled up, and what density means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mlxgen.music.encode import encode_events, pitch_ids
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab
from mlxgen.perform.ending import RANGES


def theme_shift(theme: Sequence[Note], from_key: Key, to_key: Key, voice: int, voices: int) -> int:
    """Semitones that bring a theme to another tonic (the nearer way) and into the register of `voice`."""
    to_tonic = (to_key.root - from_key.root + 6) % 12 - 6
    if not theme:
        return to_tonic
    low, high = RANGES.get(voices, RANGES[4])[voice - 1]
    mean = sum(note.pitch for note in theme) / len(theme) + to_tonic
    return to_tonic + 12 * round(((low + high) / 2 - mean) / 12)


def opening_line(opening: Sequence[tuple[int, Note]], bar_ticks: int) -> list[Note]:
    """A theme for music that was given none: the first entering voice's line, from its bar line on."""
    if not opening:
        return []
    entered = min(opening, key=lambda row: row[1].start_ticks)[0]
    line = [note for voice, note in opening if voice == entered]
    start = line[0].start_ticks // bar_ticks * bar_ticks
    return [note._replace(start_ticks=note.start_ticks - start) for note in line]


def ids_until(piece: Piece, tick: int, vocab: Vocab) -> list[int]:
    """The ids of a piece with the clock moved on to `tick`, a bar line, and that bar opened."""
    mark = Note(tick, vocab.duration_bins[0], 60)
    voices = [*piece.voices[:-1], [*piece.voices[-1], mark]]
    ids = encode_events(replace(piece, voices=voices), vocab)
    return ids[:len(ids) - len(pitch_ids(mark.pitch, piece.key, vocab)) - 2]


def density_bias(density: float, vocab: Vocab) -> tuple[tuple[int, float], ...]:
    """What density adds to the logits of each duration and time shift: above 0 short ones gain, below 0 long
    ones.

    A step of 1 is worth half a nat for each doubling, counted from the eighth note.
    """
    if density == 0:
        return ()
    families = [(token, int(ticks)) for prefix in ("Dur_", "TimeShift_")
                for ticks, token in vocab.family(prefix).items()]
    return tuple((token, -0.5 * density * math.log2(ticks / 240)) for token, ticks in families)
