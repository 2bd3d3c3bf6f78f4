"""A soft rule of ours for the home key: the notes of the scale as often as in real music.

The model drifts: fugues in major took the lowered seventh twice as often as Bach's and the leading tone two
thirds as often, those in minor the raised sixth for the lowered, and were heard at home half of the time.
So every pitch class above the tonic is likelier by log (share in real pieces / share in the model's own),
whatever the octave; and a sign by what it alters on the whole. It is one table with tessitura.py's: a step
pays nothing for it. Chorales in minor gained leading tones by it, but not under either judge.
"""

from __future__ import annotations

import numpy as np

from mlxgen.music.theory import Key

# Shares of pitch classes above the tonic in training pieces, and in pieces that were drawn without the rule.
SHARES = {
    ("fugue", "major"): (
        (0.148, 0.012, 0.141, 0.006, 0.14, 0.102, 0.031, 0.153, 0.011, 0.13, 0.023, 0.103),
        (0.128, 0.008, 0.137, 0.012, 0.142, 0.126, 0.028, 0.166, 0.005, 0.128, 0.052, 0.068)),
    ("fugue", "minor"): (
        (0.157, 0.02, 0.12, 0.118, 0.027, 0.129, 0.018, 0.157, 0.078, 0.045, 0.094, 0.037),
        (0.156, 0.007, 0.131, 0.121, 0.027, 0.122, 0.027, 0.166, 0.045, 0.074, 0.084, 0.04)),
}
MOST = 1.0  # logits
LEAST = 0.003  # a share below this counts as this
ALTERED = {"major": (1, 3, 6, 8, 10), "minor": (1, 4, 6, 9, 11)}  # pitch classes that are written with a sign


def pitch_class_bias(form: str | None, mode: str) -> tuple[np.ndarray, float]:
    """(12,) logits by semitones above the tonic, and those of a sign; zeros where the rule says nothing."""
    if (form, mode) not in SHARES:
        return np.zeros(12), 0.0
    real, drawn = (np.maximum(shares, LEAST) for shares in SHARES[form, mode])
    altered = list(ALTERED[mode])
    sign = np.log(real[altered].sum() / drawn[altered].sum())
    return np.clip(np.log(real / drawn), -MOST, MOST), float(sign)


def make_home(form: str | None, key: Key, adds: np.ndarray, sings: np.ndarray,
              signs: np.ndarray) -> np.ndarray:
    """(8 * 256, V) logits by the voice being written (3 bits, 0: none) and what is spelled so far (8 bits).

    Of each id, (V,): the semitones it adds to what is spelled; whether it completes a pitch; whether it is a
    sign.
    """
    classes, sign = pitch_class_bias(form, key.mode)
    pitch = np.where(sings, np.arange(256)[:, None] + adds, 0)
    bias = np.where(signs, sign, np.where(sings, classes[(pitch - key.root) % 12], 0.0))
    table = np.tile(bias, (8, 1, 1))
    table[0] = 0.0  # no voice is being written
    return table.reshape(-1, len(adds)).astype(np.float16)
