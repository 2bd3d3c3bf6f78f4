"""Where a piece can stop: cadences found in what was composed, and the last chord held to its bar's end.

An interior section may close with a half cadence (a dominant chord on a strong beat), the piece with a full
one (dominant to tonic in the bass, every voice in the tonic chord).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from mlxgen.music.encode import encode_events
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key, beat_ticks
from mlxgen.music.vocab import Vocab


class Cadence(NamedTuple):
    """A chord at `tick` on which music may stop. `kind`: PAC, IAC or HC; `weight`, 0 to 1, compares them."""

    tick: int
    kind: str
    weight: float


WEAK_BEAT = 0.4  # of a close on a beat that is neither the first nor the middle of its bar

_TRIADS = {"major": (0, 4, 7), "minor": (0, 3, 7)}


def sounding_at(voices: Sequence[Sequence[Note]], tick: int) -> list[int | None]:
    """The pitch of each voice at `tick`; None where it rests."""
    return [next((note.pitch for note in voice if note.start_ticks <= tick < note.end_ticks), None)
            for voice in voices]


def find_cadences(piece: Piece, key: Key, *, want: str = "full") -> list[Cadence]:
    """Every cadence in `key`, in time order. `want` is "full" (PAC, IAC) or "half" (HC).

    PAC: bass 5-1 with the leading tone before and the tonic on top; IAC: bass 5-1, 7-1 or 2-1 otherwise.
    Only chords on a beat count, and at least two voices must sound; each one that is silent makes the close
    weaker. A bar's first beat closes best, its middle nearly as well; on another beat the last chord would be
    a stub.
    """
    voices = piece.voices
    beat = beat_ticks(piece.meter)
    onsets = sorted({note.start_ticks for voice in voices for note in voice})
    found = []
    for before_tick, tick in pairwise(onsets):
        if tick % beat:
            continue
        chord, before = sounding_at(voices, tick), sounding_at(voices, before_tick)
        kind, weight = (_full if want == "full" else _half)(chord, before, key)
        full = sum(pitch is not None for pitch in chord)
        if kind and full >= min(2, len(voices)):
            place = tick % piece.bar_ticks
            stress = 1.0 if place == 0 else 0.9 if 2 * place == piece.bar_ticks else WEAK_BEAT
            found.append(Cadence(tick, kind, weight * full / len(voices) * stress))
    return found


def _degrees(chord: Sequence[int | None], key: Key) -> list[int | None]:
    return [None if pitch is None else (pitch - key.root) % 12 for pitch in chord]


def _full(chord, before, key: Key) -> tuple[str, float]:
    """("PAC" | "IAC", weight) if this is a close on the tonic, else ("", 0)."""
    now, then = _degrees(chord, key), _degrees(before, key)
    sounding = [degree for degree in now if degree is not None]
    earlier = [degree for degree in then if degree is not None]
    triads = (_TRIADS["major"], _TRIADS[key.mode])  # a minor piece may close in major
    if not sounding or not earlier or sounding[-1] != 0:
        return "", 0.0
    if not any(set(sounding) <= set(triad) for triad in triads):
        return "", 0.0
    full_chord = 1.0 if {3, 4} & set(sounding) else 0.85
    leading = 11 in earlier
    if earlier[-1] == 7 and leading:
        return ("PAC", full_chord) if now[0] == 0 else ("IAC", 0.85 * full_chord)
    if earlier[-1] in (2, 11) and leading:
        return "IAC", 0.7 * full_chord
    if earlier[-1] == 7 and set(earlier) <= {7, 2, 5, 10}:  # a dominant without its third
        return "IAC", 0.45 * full_chord
    return "", 0.0


def _half(chord, before, key: Key) -> tuple[str, float]:
    """("HC", weight) if this rests on the dominant chord, coming from another harmony."""
    now, then = _degrees(chord, key), _degrees(before, key)
    sounding = [degree for degree in now if degree is not None]
    if not sounding or sounding[-1] != 7 or not set(sounding) <= {7, 11, 2} or 11 not in sounding:
        return "", 0.0
    earlier = [degree for degree in then if degree is not None]
    if not earlier or earlier[-1] == 7:
        return "", 0.0
    return "HC", 1.0


def hold_chord(piece: Piece, tick: int) -> Piece:
    """The piece up to the chord at `tick`, which every voice that sounds then holds to the end of its bar."""
    end_ticks = (tick // piece.bar_ticks + 1) * piece.bar_ticks
    voices = []
    for voice in piece.voices:
        kept = [note for note in voice if note.start_ticks <= tick]
        if kept and kept[-1].end_ticks > tick:
            kept[-1] = kept[-1]._replace(duration_ticks=end_ticks - kept[-1].start_ticks)
        voices.append(kept)
    return Piece(voices, piece.key, piece.meter, piece.tempo_bpm, piece.title)


def encode_bars(piece: Piece, start_bar: int, end_bar: int, vocab: Vocab) -> list[int]:
    """The notes that begin in bars [start_bar, end_bar), counted from 0, as ids of whole bars.

    The last bar is written to its end: its beats and the time to the next bar line are there.
    """
    end_ticks = end_bar * piece.bar_ticks
    voices = [[note for note in voice if note.start_ticks < end_ticks] for voice in piece.voices]
    # a note at the next bar line makes the encoder walk there; its BAR and all after it are cut off again
    marker = Note(end_ticks, vocab.duration_bins[0], vocab.max_pitch)
    marked = Piece([voices[0] + [marker], *voices[1:]], piece.key, piece.meter)
    ids = encode_events(marked, vocab, start_ticks=start_bar * piece.bar_ticks)
    return ids[:len(ids) - 1 - ids[::-1].index(vocab["BAR"])]
