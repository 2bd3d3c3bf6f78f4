"""Completeness: does the music end, and as music ends? Only asked of a whole piece or a last chunk."""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music
from mlxgen.scoring.texture import SILENT


def _ending(music: Music) -> tuple[np.ndarray, int] | None:
    """(V,) pitches of the last slice in which anything sounds, and its index."""
    heard = np.flatnonzero(music.texture.sounding.any(axis=1))
    return (music.texture.pitch[heard[-1]], int(heard[-1])) if len(heard) else None


def home_key(music: Music) -> int:
    """The key (mode * 12 + tonic) heard for the longest time."""
    return int(np.bincount(music.keys, weights=music.texture.length, minlength=24).argmax())


def final_chord(music: Music) -> Measure:
    """What the last chord lacks of a close, 0..1: bass on the tonic of the key that rules the piece (a half;
    a quarter where it is the tonic of the last key only), and no pitch outside the tonic triad, major or
    minor (the other half).
    """
    ending = _ending(music)
    if ending is None:
        return NOTHING
    pitch, _ = ending
    pitch = pitch[pitch != SILENT]
    home, now = home_key(music) % 12, int(music.keys[-1]) % 12
    bass = int(pitch.min()) % 12
    lack = 0.0 if bass == home else 0.25 if bass == now else 0.5
    tonic = home if lack == 0.0 else now
    lack += 0.5 * float((~np.isin((pitch - tonic) % 12, (0, 3, 4, 7))).mean())
    return Measure(lack, 1, music.texture.onset[-1:] if lack else None)


def close_together(music: Music) -> Measure:
    """Share of the voices that do not sound to the end. 0..1."""
    ending = _ending(music)
    if ending is None:
        return NOTHING
    pitch, index = ending
    voices = music.texture.sounding_voices
    silent = voices[pitch[voices] == SILENT]
    where = np.full(len(silent), music.texture.onset[index])
    return Measure(len(silent), len(voices), where, silent[:, None])


def final_length(music: Music) -> Measure:
    """Beats for which the final sonority has been held, as log2 (mean of its voices). -2..4; real endings
    are long."""
    ending = _ending(music)
    if ending is None:
        return NOTHING
    notes = music.texture.notes
    end = int(music.texture.onset[ending[1]] + music.texture.length[ending[1]])
    final = notes.duration[notes.end == end]
    return Measure(float(np.log2(final / music.texture.beat_ticks).mean()), 1)


def length(music: Music) -> Measure:
    """log2 of the length in beats. Judged only below the corpus: a fragment is not a piece."""
    texture = music.texture
    if not texture.slice_count:
        return NOTHING
    span = float(texture.onset[-1] + texture.length[-1] - texture.onset[0])
    return Measure(float(np.log2(span / texture.beat_ticks)), 1)
