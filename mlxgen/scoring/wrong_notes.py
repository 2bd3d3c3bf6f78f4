"""Wrong notes: what is rare in its line, in its chord and against the other voices at once.

A real piece has a leap here and a dissonance there; a note that is unlikely on every count is a mistake.
Adding the channels up before looking at the tail finds one altered note in twenty where each channel alone
does not.
"""

from __future__ import annotations

import numpy as np

from mlxgen.scoring.measure import NOTHING, Measure
from mlxgen.scoring.music import Music

VIEWS = ("melody", "next melody", "degree", "pair", "sonority", "harmony")


def note_views(music: Music) -> np.ndarray:
    """(N, 6) surprisal of each note as seen by each channel, NaN where a channel has no event at the note.

    Its own interval and the next one's, its degree, the motions of its voice against others, the sonority
    and, on a beat, the chord at its attack.
    """
    texture, notes, nats = music.texture, music.texture.notes, music.nats
    views = np.full((len(notes.start), len(VIEWS)), np.nan)
    follows = np.flatnonzero(~notes.first)
    views[follows, 0] = nats["melody"]
    views[follows - 1, 1] = nats["melody"]
    views[follows, 2] = nats["degree"]
    at = texture.note_slices
    pairs, voices = music.events["pair"], texture.voice_count
    slices = np.searchsorted(texture.onset, pairs.ticks)
    code = np.concatenate([slices * voices + pairs.voices[:, side] for side in (0, 1)])
    size = np.bincount(code, minlength=texture.slice_count * voices)
    total = np.bincount(code, weights=np.tile(nats["pair"], 2), minlength=texture.slice_count * voices)
    mean = np.where(size > 0, total / np.maximum(size, 1), np.nan)
    views[:, 3] = mean[at * voices + notes.voice]
    for column, channel in ((4, "sonority"), (5, "harmony")):
        by_slice = np.full(texture.slice_count, np.nan)
        ticks = music.events[channel].ticks
        index = np.minimum(np.searchsorted(texture.onset, ticks), texture.slice_count - 1)
        exact = texture.onset[index] == ticks
        by_slice[index[exact]] = nats[channel][exact]
        views[:, column] = by_slice[at]
    return views


def note_strangeness(music: Music) -> np.ndarray:
    """(N,) sum over the views of each note's surprisal in standard deviations of the family's notes."""
    if not len(music.texture.notes.start) or not music.texture.slice_count:
        return np.zeros(0)
    mean, spread = music.reference.note_views[music.family]
    return np.nan_to_num((note_views(music) - mean) / spread).sum(axis=1)


def wrong_notes(music: Music) -> Measure:
    """Strangeness above the corpus' 99th percentile, summed over notes, per note. 0..; real pieces about .03.

    The places are the notes above it, the strangest first.
    """
    strange = note_strangeness(music)
    if not len(strange):
        return NOTHING
    notes = music.texture.notes
    excess = np.maximum(strange - music.reference.note_rare[music.family], 0) * music.texture.new_notes
    index = np.flatnonzero(excess)
    return Measure(
        float(excess.sum()),
        music.texture.note_count,
        notes.start[index],
        notes.voice[index, None],
        excess[index],
    )
