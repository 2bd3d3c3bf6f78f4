"""The notes that a finding is about, by name: what a musician looks for on the page."""

from __future__ import annotations

from bisect import bisect_right

from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import spell
from mlxgen.scoring.measure import Finding


def _at(voice: list[Note], ticks: int) -> int:
    """Index of the last note of a voice that has begun at `ticks`; -1 before the first."""
    return bisect_right(voice, ticks, key=lambda note: note.start_ticks) - 1


def notes_of(piece: Piece, finding: Finding) -> str:
    """ "C4 to B4" for one voice, "G4 over C4 to A4 over D4" for two, the sounding chord from the bass up for
    all; "" where nothing sounds. The piece is the one that was scored, with its context before it."""
    ticks = finding.ticks
    if not finding.voices:
        sounding = {voice[at].pitch for voice in piece.voices
                    if (at := _at(voice, ticks)) >= 0 and voice[at].end_ticks > ticks}
        return " ".join(spell(pitch, piece.key).name for pitch in sorted(sounding))
    places = [(piece.voices[number - 1], _at(piece.voices[number - 1], ticks)) for number in finding.voices]
    if any(at < 0 for _, at in places):
        return ""
    now = [voice[at].pitch for voice, at in places]
    before = [_before(voice, at, ticks) for voice, at in places]
    here = " over ".join(spell(pitch, piece.key).name for pitch in now)
    if None in before or before == now:
        return here
    there = (spell(pitch, piece.key, after).name for pitch, after in zip(before, now, strict=True))
    return f"{' over '.join(there)} to {here}"


def _before(voice: list[Note], at: int, ticks: int) -> int | None:
    """The pitch just before `ticks` of a voice whose note `at` sounds there; None at its first note."""
    if voice[at].start_ticks < ticks:
        return voice[at].pitch
    return voice[at - 1].pitch if at else None
