"""Pieces that would fool a judge: strict canons nobody listened to, loops, copies, and music more typical
than music."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from bench.corruptions import Random, joined, sections
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import TICKS_PER_QUARTER
from mlxgen.scoring.music import make_music


def make_copy(training: Sequence[Piece]) -> Callable[[Piece, Random], Piece]:
    """A training piece, transposed by up to a third, with nothing else changed."""
    def copied(piece: Piece, random: Random) -> Piece:
        source = training[int(random.integers(len(training)))]
        return source.transposed(int(random.integers(-4, 5)))
    return copied


def make_patchwork(training: Sequence[Piece], bars: int = 4) -> Callable[[Piece, Random], Piece]:
    """Spans of four bars from different training pieces, all in the key of the first: copied, and cut."""
    def patchwork(piece: Piece, random: Random) -> Piece:
        spans = []
        while len(spans) * bars < piece.length_bars:
            source = training[int(random.integers(len(training)))]
            moved = source.transposed((piece.key.root - source.key.root + 6) % 12 - 6)
            cut = [span for span in sections(moved, bars) if span.note_count]
            spans.append(cut[int(random.integers(len(cut)))])
        return replace(joined(spans, bars * piece.bar_ticks), key=piece.key)
    return patchwork


class TypicalFakes:
    """Chains of training beats: each next beat has followed the same four pitches, in that key, in some
    training piece, and of many chains the one with the most common steps is kept. Locally all real and
    likelier than Bach; going nowhere."""

    def __init__(self, training: Sequence[Piece], tries: int = 12):
        self.tries = tries
        self.following: dict[tuple, list[tuple]] = defaultdict(list)
        self.openings: list[tuple] = []
        for piece in training:
            moved = piece.transposed(-((piece.key.root + 6) % 12 - 6))
            beats = [self._beat(span) for span in sections(replace(moved, meter=(1, 4)), 1)]
            beats = [beat for beat in beats if beat is not None]
            self.openings.append((piece.key.mode, beats[0]))
            for left, right in pairwise(beats):
                self.following[(piece.key.mode, self._last(left))].append(right)

    @staticmethod
    def _beat(span: Piece) -> tuple | None:
        """The span's notes by voice, or None where a voice is silent at its end."""
        if any(not voice or voice[-1].end_ticks < TICKS_PER_QUARTER for voice in span.voices):
            return None
        return tuple(tuple(voice) for voice in span.voices)

    @staticmethod
    def _last(beat: tuple) -> tuple:
        return tuple(voice[-1].pitch for voice in beat)

    def __call__(self, piece: Piece, random: Random) -> Piece:
        count = max(8, piece.length_ticks // TICKS_PER_QUARTER)
        shift = (piece.key.root + 6) % 12 - 6
        chains = [replace(self._lay_out(self._chain(piece.key.mode, count, random), piece).transposed(shift),
                          key=piece.key) for _ in range(self.tries)]
        return min(chains, key=mean_surprisal)

    def _lay_out(self, beats: list[tuple], piece: Piece) -> Piece:
        voices: list[list[Note]] = [[] for _ in beats[0]]
        for at, beat in enumerate(beats):
            for voice, notes in zip(voices, beat, strict=True):
                for note in notes:
                    start = note.start_ticks + at * TICKS_PER_QUARTER
                    if voice and voice[-1].pitch == note.pitch and note.start_ticks == 0:
                        longer = start + note.duration_ticks - voice[-1].start_ticks
                        voice[-1] = voice[-1]._replace(duration_ticks=longer)
                    else:
                        voice.append(note._replace(start_ticks=start))
        return Piece(voices, meter=piece.meter)

    def _chain(self, mode: str, count: int, random: Random) -> list[tuple]:
        openings = [beat for own, beat in self.openings if own == mode]
        beats = [openings[int(random.integers(len(openings)))]]
        while len(beats) < count:
            choices = self.following.get((mode, self._last(beats[-1]))) or openings
            beats.append(choices[int(random.integers(len(choices)))])
        return beats


def mean_surprisal(piece: Piece) -> float:
    """Nats per event under the event model, mean of its channels: the one-sided judge that such fakes beat.
    """
    nats = make_music(piece).nats
    return float(np.mean([values.mean() for values in nats.values() if len(values)]))
