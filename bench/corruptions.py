"""Ways to spoil a real piece, each by a known amount, and pieces that only look like music.

Every function takes a Piece and a numpy Generator and returns a Piece; the same seed spoils the same notes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import SCALES, TICKS_PER_QUARTER

Random = np.random.Generator


def _with_voice(piece: Piece, index: int, voice: Sequence[Note]) -> Piece:
    voices = list(piece.voices)
    voices[index] = list(voice)
    return replace(piece, voices=voices)


def _tenor(piece: Piece) -> int:
    """The voice above the bass."""
    return max(len(piece.voices) - 2, 0)


def shuffled(piece: Piece, random: Random) -> Piece:
    """The pitches of each voice in random order; rhythm and range stay."""
    voices = []
    for voice in piece.voices:
        order = random.permutation(len(voice))
        voices.append([note._replace(pitch=voice[at].pitch) for note, at in zip(voice, order, strict=True)])
    return replace(piece, voices=voices)


def tenor_semitone_up(piece: Piece, random: Random) -> Piece:
    index = _tenor(piece)
    return _with_voice(piece, index, [note._replace(pitch=note.pitch + 1) for note in piece.voices[index]])


def tenor_beat_late(piece: Piece, random: Random) -> Piece:
    index = _tenor(piece)
    late = [note._replace(start_ticks=note.start_ticks + TICKS_PER_QUARTER) for note in piece.voices[index]]
    return _with_voice(piece, index, late)


def make_inner_swap(others: Sequence[Piece]) -> Callable[[Piece, Random], Piece]:
    """Inner voices (of three or fewer voices: the lowest) from another piece, cut to this one's length."""

    def inner_swap(piece: Piece, random: Random) -> Piece:
        other = _another(piece, others, random)
        count = len(piece.voices)
        inner = range(1, count - 1) if count > 3 else [count - 1]
        voices = list(piece.voices)
        for index in inner:
            if index < len(other.voices):
                voices[index] = [note for note in other.voices[index] if note.end_ticks <= piece.length_ticks]
        return replace(piece, voices=voices)

    return inner_swap


def _another(piece: Piece, others: Sequence[Piece], random: Random) -> Piece:
    """A piece of `others` that is not this one: of as many voices and the same meter where there is one,
    else of as many voices. Raises ValueError where there is neither."""
    alike = [other for other in others if len(other.voices) == len(piece.voices) and other is not piece]
    fitting = [other for other in alike if other.meter == piece.meter] or alike
    if not fitting:
        raise ValueError(f"{len(others)} other pieces: none has {len(piece.voices)} voices")
    return fitting[int(random.integers(len(fitting)))]


def make_parallel_fifths(share: float) -> Callable[[Piece, Random], Piece]:
    """At `share` of the moments where the bass takes a new pitch, the voice above follows it in fifths."""

    def parallel_fifths(piece: Piece, random: Random) -> Piece:
        index, bass = _tenor(piece), piece.voices[-1]
        moves = [at for at in range(1, len(bass)) if bass[at].pitch != bass[at - 1].pitch]
        count = max(1, round(share * len(moves))) if moves else 0
        voice = list(piece.voices[index])
        for at in random.choice(moves, size=count, replace=False) if moves else ():
            voice = _overwritten(
                voice, [note._replace(pitch=note.pitch + 7) for note in bass[at - 1 : at + 1]]
            )
        return _with_voice(piece, index, voice)

    return parallel_fifths


def _overwritten(voice: Sequence[Note], patch: Sequence[Note]) -> list[Note]:
    """`voice` with the span of `patch` replaced by it."""
    begin, end = patch[0].start_ticks, patch[-1].end_ticks
    kept = []
    for note in voice:
        if note.end_ticks <= begin or note.start_ticks >= end:
            kept.append(note)
            continue
        if note.start_ticks < begin:
            kept.append(note._replace(duration_ticks=begin - note.start_ticks))
        if note.end_ticks > end:
            kept.append(Note(end, note.end_ticks - end, note.pitch))
    return sorted([*kept, *patch])


def make_jitter(share: float) -> Callable[[Piece, Random], Piece]:
    """Each note, with probability `share`, one or two semitones higher or lower."""

    def jitter(piece: Piece, random: Random) -> Piece:
        voices = []
        for voice in piece.voices:
            hit = random.random(len(voice)) < share
            steps = random.choice([-2, -1, 1, 2], size=len(voice))
            voices.append(
                [
                    note._replace(pitch=note.pitch + int(step)) if moved else note
                    for note, moved, step in zip(voice, hit, steps, strict=True)
                ]
            )
        return replace(piece, voices=voices)

    return jitter


def sections(piece: Piece, bars: int = 1) -> list[Piece]:
    """The piece in spans of `bars` bars, notes cut at the bar lines."""
    span = bars * piece.bar_ticks
    count = -(-piece.length_ticks // span)
    cut = []
    for at in range(count):
        begin, end = at * span, (at + 1) * span
        voices = [
            [
                Note(
                    max(note.start_ticks, begin) - begin,
                    min(note.end_ticks, end) - max(note.start_ticks, begin),
                    note.pitch,
                )
                for note in voice
                if note.start_ticks < end and note.end_ticks > begin
            ]
            for voice in piece.voices
        ]
        cut.append(replace(piece, voices=voices))
    return cut


def joined(parts: Sequence[Piece], span_ticks: int) -> Piece:
    """Sections of equal length laid end to end; equal pitches that touch at a seam become one note only in
    whole pieces, never here."""
    voices = [
        [
            note._replace(start_ticks=note.start_ticks + at * span_ticks)
            for at, part in enumerate(parts)
            for note in part.voices[index]
        ]
        for index in range(len(parts[0].voices))
    ]
    return replace(parts[0], voices=voices)


def bars_permuted(piece: Piece, random: Random) -> Piece:
    bars = sections(piece)
    return joined([bars[at] for at in random.permutation(len(bars))], piece.bar_ticks)


def looped(piece: Piece, random: Random) -> Piece:
    """Two bars repeated for the length of the piece."""
    spans = sections(piece, 2)
    whole = spans[:-1] or spans
    span = whole[int(random.integers(len(whole)))]
    return joined([span] * len(spans), 2 * piece.bar_ticks)


def bar_lines(piece: Piece, margin_bars: int = 2) -> list[int]:
    """Ticks of the bar lines at least `margin_bars` from either end."""
    whole = piece.length_ticks // piece.bar_ticks
    return [bar * piece.bar_ticks for bar in range(margin_bars, whole - margin_bars + 1)]


def continued(piece: Piece, seam_ticks: int, other: Piece, from_ticks: int) -> Piece:
    """The first music up to its bar line `seam_ticks`, then the other from its bar line `from_ticks`."""
    head = [
        [
            note._replace(duration_ticks=min(note.duration_ticks, seam_ticks - note.start_ticks))
            for note in voice
            if note.start_ticks < seam_ticks
        ]
        for voice in piece.voices
    ]
    tail = other.between(from_ticks, other.length_ticks + 1).voices
    voices = [
        before + [note._replace(start_ticks=note.start_ticks + seam_ticks) for note in after]
        for before, after in zip(head, tail, strict=False)
    ]
    return replace(piece, voices=voices)


def make_splice(others: Sequence[Piece], same_key: bool = False) -> Callable[[Piece, Random], Piece]:
    """The first half of the piece, the second half of another one with as many voices and the same meter."""

    def splice(piece: Piece, random: Random) -> Piece:
        return splice_at_seam(piece, others, random, same_key)[0]

    return splice


def splice_at_seam(
    piece: Piece, others: Sequence[Piece], random: Random, same_key: bool = False
) -> tuple[Piece, int]:
    """(spliced piece, tick of its seam)."""
    other = _another(piece, others, random)
    if same_key:
        other = other.transposed((piece.key.root - other.key.root + 6) % 12 - 6)
    own, their = bar_lines(piece) or [piece.bar_ticks], bar_lines(other) or [other.bar_ticks]
    seam = own[len(own) // 2]
    return continued(piece, seam, other, their[len(their) // 2]), seam


def jump_at_seam(piece: Piece, random: Random, bars: int = 4) -> tuple[Piece, int] | None:
    """The piece with `bars` bars left out: (piece, tick of the seam), None where it is too short."""
    lines = [line for line in bar_lines(piece) if line + (bars + 1) * piece.bar_ticks <= piece.length_ticks]
    if not lines:
        return None
    seam = lines[int(random.integers(len(lines)))]
    return continued(piece, seam, piece, seam + bars * piece.bar_ticks), seam


def registers_jump(piece: Piece, random: Random) -> Piece:
    """From the middle on, one voice an octave lower or higher."""
    half = piece.length_ticks // 2 // piece.bar_ticks * piece.bar_ticks
    index, step = int(random.integers(len(piece.voices))), int(random.choice([-12, 12]))
    return _with_voice(
        piece,
        index,
        [note._replace(pitch=note.pitch + step * (note.start_ticks >= half)) for note in piece.voices[index]],
    )


def cut_short(piece: Piece, random: Random) -> Piece:
    """The piece up to a bar line in its second half: everything stops there."""
    bars = max(piece.length_ticks // piece.bar_ticks, 2)
    end = int(random.integers(bars // 2, bars)) * piece.bar_ticks
    voices = [
        [
            note._replace(duration_ticks=min(note.duration_ticks, end - note.start_ticks))
            for note in voice
            if note.start_ticks < end
        ]
        for voice in piece.voices
    ]
    return replace(piece, voices=voices)


def make_opening_exchanged(others: Sequence[Piece], bars: int = 4) -> Callable[[Piece, Random], Piece]:
    """The first four bars from another piece, in this one's key: nothing after them comes back to them."""

    def opening_exchanged(piece: Piece, random: Random) -> Piece:
        other = _another(piece, others, random)
        moved = other.transposed((piece.key.root - other.key.root + 6) % 12 - 6)
        seam = min(bars, max(piece.length_bars - 1, 1)) * piece.bar_ticks
        return continued(moved, seam, piece, seam)

    return opening_exchanged


def random_canon(piece: Piece, random: Random) -> Piece:
    """A random walk on the scale, imitated a bar later in each voice below: strict, and never listened to."""
    scale = SCALES[piece.key.mode]
    count = max(8, round(piece.note_count / max(len(piece.voices), 1)))
    steps = random.choice([-2, -1, -1, 0, 1, 1, 2], size=count)
    walk = np.clip(np.cumsum(steps), -5, 5)
    lengths = random.choice([240, 480, 480, 480, 960], size=count)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    voices = []
    for index in range(len(piece.voices)):
        base = 67 - 7 * index + (piece.key.root + 6) % 12 - 6
        voices.append(
            [
                Note(
                    int(start) + index * piece.bar_ticks,
                    int(length),
                    base + 12 * int(step // 7) + scale[int(step) % 7],
                )
                for start, length, step in zip(starts, lengths, walk, strict=True)
                if start + index * piece.bar_ticks < piece.length_ticks
            ]
        )
    return replace(piece, voices=voices)
