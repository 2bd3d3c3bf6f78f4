"""A soft rule of ours: voices stay where the form's voices lie.

Keys are moved in training and pitches are written as degrees, so the model hardly knows how high a voice
lies: the means of whole chorales strayed twice as far as Bach's and lay a semitone or two lower. So a pitch
is the less likely the further it lies from the voice's usual ones: PULL of a normal distribution's logarithm.
"""

from __future__ import annotations

import numpy as np

# Mean and standard deviation of each voice's pitches in training pieces, highest voice first.
TESSITURAS = {
    "chorale": ((70.6, 3.6), (65.2, 3.2), (59.6, 3.3), (51.0, 4.6)),
    "fugue": ((72.2, 5.2), (65.7, 5.1), (57.7, 5.1), (50.5, 5.4)),
    "invention": ((70.4, 5.4), (54.6, 6.4)),
    "motet": ((69.9, 4.1), (65.1, 4.3), (61.1, 4.2), (55.5, 4.9)),
    "quartet": ((73.4, 6.2), (67.2, 6.0), (61.3, 5.8), (51.2, 7.6)),
    "sinfonia": ((72.2, 5.3), (64.5, 5.9), (52.6, 5.9)),
    "trio_sonata": ((71.7, 5.7), (64.7, 7.0), (49.5, 5.3)),
}
PULL = 0.35  # of the normal distribution's logarithm
MOST = 6.0  # logits
MIDDLE = 5  # semitones from an octave's tonic to its middle


def make_tessitura(form: str | None, adds: np.ndarray, sings: np.ndarray, opens: np.ndarray) -> np.ndarray:
    """(8 * 256, V) logits by the voice being written (3 bits, 0: none) and what is spelled so far (8 bits).

    Of each id, (V,): the semitones it adds to what is spelled; whether it completes a pitch or alters
    one; whether it begins one, with the tonic of an octave.
    """
    table = np.zeros((8, 256, len(adds)), dtype=np.float16)
    pitch = np.where(opens, MIDDLE, np.arange(256)[:, None]) + adds
    for voice, (mean, spread) in enumerate(TESSITURAS.get(form, ()), start=1):
        offsets = -np.minimum(PULL * ((pitch - mean) / spread)**2 / 2, MOST)
        table[voice] = np.where(sings | opens, offsets, 0.0)
    return table.reshape(-1, len(adds))
