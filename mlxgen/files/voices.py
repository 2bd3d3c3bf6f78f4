"""Many notes in one track or part -> voices that each sound one note at a time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, groupby, pairwise

from mlxgen.music.piece import Note
from mlxgen.music.theory import TICKS_PER_QUARTER

GRID_TICKS = 60
LONG_SILENCE = 24  # semitones that no silence outweighs
LONG_AGO_TICKS = LONG_SILENCE * TICKS_PER_QUARTER


def on_grid(start_ticks: float, end_ticks: float, pitch: int) -> Note:
    """The note with its start and end moved to the nearest 32nd; at least one 32nd long."""
    start = round(start_ticks / GRID_TICKS) * GRID_TICKS
    end = round(end_ticks / GRID_TICKS) * GRID_TICKS
    return Note(start, max(GRID_TICKS, end - start), pitch)


def _trim_legato(notes: list[Note]) -> list[Note]:
    """Shorten notes that reach over the next onset by no more than a 32nd: slurs, not second voices."""
    onsets = sorted({note.start_ticks for note in notes})
    following = dict(pairwise(onsets))
    trimmed = []
    for note in notes:
        over = note.end_ticks - following.get(note.start_ticks, note.end_ticks)
        shorter = note.duration_ticks - over
        trimmed.append(note._replace(duration_ticks=shorter)
                       if 0 < over <= GRID_TICKS < shorter else note)
    return trimmed


def _fullest_chord(notes: list[Note]) -> list[int]:
    """The pitches, highest first, of the first moment at which most notes sound at once."""
    fullest: list[int] = []
    sounding: list[Note] = []
    for note in notes:
        sounding = [other for other in sounding if other.end_ticks > note.start_ticks] + [note]
        if len(sounding) > len(fullest):
            fullest = [other.pitch for other in sounding]
    return sorted(fullest, reverse=True)


def _distance(note: Note, last: Note) -> float:
    """How ill `note` continues `last`: semitones between them, and four for each quarter of silence."""
    silence = (note.start_ticks - last.end_ticks) / TICKS_PER_QUARTER
    return abs(note.pitch - last.pitch) + min(4 * silence, LONG_SILENCE)


def split_voices(notes: Iterable[Note]) -> list[list[Note]]:
    """Voices, highest first, none of which overlaps itself: as many as the fullest moment has notes.

    The fullest chord says where each voice lies before it is first heard. From the beginning on, the notes
    of each onset, from the top down, go to those free voices (in order, so that notes struck together never
    cross) from which they continue best: near in pitch, after little silence. So a line with one chord in it
    stays a line, and the chord's other notes stand alone. Overlaps of a 32nd are slurs and are trimmed
    first; a pitch struck twice at once is one note, the longer.
    """
    longest: dict[tuple[int, int], Note] = {}
    for note in notes:
        place = note.start_ticks, note.pitch
        if place not in longest or longest[place].duration_ticks < note.duration_ticks:
            longest[place] = note
    ordered = _trim_legato(sorted(longest.values(), key=lambda note: (note.start_ticks, -note.pitch)))
    last = [Note(-LONG_AGO_TICKS, 0, pitch) for pitch in _fullest_chord(ordered)]
    voices: list[list[Note]] = [[] for _ in last]
    for start_ticks, struck in groupby(ordered, key=lambda note: note.start_ticks):
        chord = list(struck)
        free = [number for number, note in enumerate(last) if note.end_ticks <= start_ticks]
        chosen = min(combinations(free, len(chord)), key=lambda numbers: sum(
            _distance(note, last[number]) for number, note in zip(numbers, chord, strict=True)))
        for number, note in zip(chosen, chord, strict=True):
            voices[number].append(note)
            last[number] = note
    return voices
