"""Smaller faults than corruptions.py plants: a few notes, or one place. Functions of the same form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.corruptions import Random
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import SCALES

ASTRAY = (-4, -2, 1, 2, 3, 5, 6)  # semitones; a fifth would be a half close
SHIFTS_TICKS = (-240, -120, 120, 240)
SHORTEST_TICKS = 60


def _moved(piece: Piece, semitones: int, wanted: Callable[[Note], bool]) -> Piece:
    """The piece with the wanted notes transposed."""
    return replace(
        piece,
        voices=[
            [note._replace(pitch=note.pitch + semitones) if wanted(note) else note for note in voice]
            for voice in piece.voices
        ],
    )


def last_chord_astray(piece: Piece, random: Random) -> Piece:
    """The notes that sound to the end, all transposed."""
    return _moved(piece, int(random.choice(ASTRAY)), lambda note: note.end_ticks >= piece.length_ticks)


def last_bars_astray(piece: Piece, random: Random) -> Piece:
    """The last two bars, transposed."""
    cut = piece.length_ticks - 2 * piece.bar_ticks
    return _moved(piece, int(random.choice(ASTRAY)), lambda note: note.start_ticks >= cut)


def half_astray(piece: Piece, random: Random) -> Piece:
    """The second half, transposed."""
    half = piece.length_ticks // 2 // piece.bar_ticks * piece.bar_ticks
    return _moved(piece, int(random.choice((-3, -2, -1, 1, 2, 3, 6))), lambda note: note.start_ticks >= half)


def one_bar_astray(piece: Piece, random: Random) -> Piece:
    """A bar that is neither first nor last, transposed by up to a minor third."""
    bar = int(random.integers(1, max(piece.length_bars - 1, 2)))
    semitones = int(random.choice((-3, -2, -1, 1, 2, 3)))
    return _moved(piece, semitones, lambda note: note.start_ticks // piece.bar_ticks == bar)


def leading_notes_lowered(piece: Piece, random: Random) -> Piece:
    """Every leading note of the piece's key a semitone down."""
    return _moved(piece, -1, lambda note: (note.pitch - piece.key.root) % 12 == 11)


def accidentals_removed(piece: Piece, random: Random) -> Piece:
    """Every note outside the piece's scale to the degree below it, or else the one above."""
    scale = [(piece.key.root + step) % 12 for step in SCALES[piece.key.mode]]
    lowered = _moved(
        piece, -1, lambda note: note.pitch % 12 not in scale and (note.pitch - 1) % 12 in scale
    )
    return _moved(lowered, 1, lambda note: note.pitch % 12 not in scale)


def make_scale_jitter(share: float) -> Callable[[Piece, Random], Piece]:
    """Each note, with probability `share`, to the next degree up or down of the piece's scale."""

    def scale_jitter(piece: Piece, random: Random) -> Piece:
        scale = [(piece.key.root + step) % 12 for step in SCALES[piece.key.mode]]

        def neighbour(pitch: int) -> int:
            step = int(random.choice((-1, 1)))
            pitch += step
            while pitch % 12 not in scale:
                pitch += step
            return pitch

        return replace(
            piece,
            voices=[
                [
                    note._replace(pitch=neighbour(note.pitch)) if random.random() < share else note
                    for note in voice
                ]
                for voice in piece.voices
            ],
        )

    return scale_jitter


def make_rhythm_jitter(share: float) -> Callable[[Piece, Random], Piece]:
    """Each attack, with probability `share`, an eighth or a sixteenth early or late; the note before it
    gives or takes the time."""

    def rhythm_jitter(piece: Piece, random: Random) -> Piece:
        return replace(piece, voices=[_unsteady(voice, share, random) for voice in piece.voices])

    return rhythm_jitter


def _unsteady(voice: list[Note], share: float, random: Random) -> list[Note]:
    made: list[Note] = []
    for note in voice:
        start = note.start_ticks
        if made and random.random() < share:
            start += int(random.choice(SHIFTS_TICKS))
            start = min(max(start, made[-1].start_ticks + SHORTEST_TICKS), note.end_ticks - SHORTEST_TICKS)
        if made and (made[-1].end_ticks == note.start_ticks or made[-1].end_ticks > start):
            made[-1] = made[-1]._replace(duration_ticks=start - made[-1].start_ticks)
        made.append(note._replace(start_ticks=start, duration_ticks=note.end_ticks - start))
    return made


def make_left_out(share: float) -> Callable[[Piece, Random], Piece]:
    """Each note, with probability `share`, is a rest; a voice keeps at least its first."""

    def left_out(piece: Piece, random: Random) -> Piece:
        voices = [
            [note for at, note in enumerate(voice) if random.random() >= share or at == 0]
            for voice in piece.voices
        ]
        return replace(piece, voices=voices)

    return left_out
