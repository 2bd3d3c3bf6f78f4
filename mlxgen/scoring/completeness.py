"""Completeness: does the music end, and as music ends? Only asked of a whole piece or a last chunk."""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music
from mlxgen.scoring.texture import SILENT

STRANGE_NATS = 3.0  # one real piece in thirty ends less usually


def _ending(music: Music) -> tuple[np.ndarray, int] | None:
    """(V,) pitches of the last slice in which anything sounds, and its index."""
    heard = np.flatnonzero(music.texture.sounding.any(axis=1))
    return (music.texture.pitch[heard[-1]], int(heard[-1])) if len(heard) else None


def home_key(music: Music) -> int:
    """The key (mode * 12 + tonic) heard for the longest time."""
    return int(np.bincount(music.keys, weights=music.texture.length, minlength=24).argmax())


def final_chord(music: Music) -> Measure:
    """Surprisal of the last chord: its bass in the key that rules what comes before it, and whether it is a
    major or a minor triad. 0..8 nats: the tonic triad .2, a half close in minor about 2.5.

    Counted from how training pieces end (the channel `ending`); a wrong key at the end is a wrong last chord.
    Only from STRANGE_NATS up is it pointed at.
    """
    nats = music.nats["ending"]
    return Measure(float(nats.sum()), len(nats), music.events["ending"].ticks[nats > STRANGE_NATS])


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
