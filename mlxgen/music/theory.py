"""Keys, scale degrees, spelling and meters: the arithmetic every other room leans on.

Degrees are relative to the tonic and octave numbers count tonics, not C's: in D major,
octave 5 degree 1 is D4 (MIDI 62) and octave 5 degree 7 is C sharp 5 (MIDI 73). The octave
is (pitch - tonic) // 12, so octave 5 begins at the tonic from C4 (MIDI 60) upwards.
Minor degrees are those of the natural minor scale.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

TICKS_PER_QUARTER = 480

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}

STEPS = "CDEFGAB"
STEP_PITCH_CLASS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ALTER = {"": 0, "#": 1, "s": 1, "♯": 1, "b": -1, "♭": -1, "##": 2, "x": 2, "bb": -2}

# The conventional spelling of each tonic, the one with the smaller key signature.
_TONIC_NAMES = {
    "major": ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"),
    "minor": ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"),
}
_FIFTHS_OF_STEP = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}

_KEY_PATTERN = re.compile(r"^\s*([A-Ga-g])(##|bb|[#sxb♯♭]?)[\s_-]*(.*?)\s*$")
_MODES = {"major": "major", "maj": "major", "M": "major", "dur": "major",
          "minor": "minor", "min": "minor", "m": "minor", "moll": "minor"}


class Key(NamedTuple):
    """A tonic pitch class (0-11, C = 0) and a mode, "major" or "minor"."""

    root: int
    mode: str

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read "C# minor", "Eb_major", "F#m" or "d minor".

        A bare letter is major when upper case and minor when lower case ("d"), as musicians write it.
        Raises ValueError with the text and the accepted forms.
        """
        match = _KEY_PATTERN.match(text)
        if match:
            step, accidental, mode_text = match.groups()
            if mode_text == "":
                mode = "minor" if step.islower() else "major"
            else:
                mode = _MODES.get(mode_text) or _MODES.get(mode_text.lower())
            if mode is not None:
                root = (STEP_PITCH_CLASS[step.upper()] + _ALTER[accidental]) % 12
                return cls(root, mode)
        raise ValueError(f"key {text!r}: expected a note name and a mode, such as 'C minor' or 'Eb major'")

    @property
    def tonic(self) -> str:
        """The tonic's conventional name: "C#", "Eb"."""
        return _TONIC_NAMES[self.mode][self.root]

    @property
    def name(self) -> str:
        """"C# minor"."""
        return f"{self.tonic} {self.mode}"

    @property
    def token_name(self) -> str:
        """The name inside a KEY_ token: "Cs_minor"."""
        return f"{self.tonic.replace('#', 's')}_{self.mode}"

    @property
    def fifths(self) -> int:
        """Sharps (positive) or flats (negative) of the key signature, -6 to 6."""
        major = _FIFTHS_OF_STEP[self.tonic[0]] + 7 * _ALTER[self.tonic[1:]]
        return major if self.mode == "major" else major - 3

    @property
    def scale(self) -> tuple[int, ...]:
        """The seven pitch classes of the scale, tonic first (natural minor)."""
        return tuple((self.root + interval) % 12 for interval in SCALES[self.mode])


C_MAJOR = Key(0, "major")


class Spelling(NamedTuple):
    """A written note: letter, alteration in semitones, and scientific octave (C4 = MIDI 60)."""

    step: str
    alter: int
    octave: int

    @property
    def name(self) -> str:
        sign = "#" * self.alter if self.alter > 0 else "b" * -self.alter
        return f"{self.step}{sign}{self.octave}"


@cache
def pitch_to_degree(pitch: int, key: Key) -> tuple[int, int, int]:
    """MIDI pitch -> (octave of tonics, degree 1-7, alteration 0 or 1) in `key`.

    A chromatic pitch is always the degree below it, raised: both scales have one a semitone lower.
    """
    octave, interval = divmod(pitch - key.root, 12)
    scale = SCALES[key.mode]
    if interval in scale:
        return octave, scale.index(interval) + 1, 0
    return octave, scale.index(interval - 1) + 1, 1


@cache
def degree_to_pitch(octave: int, degree: int, alteration: int, key: Key) -> int:
    """(octave of tonics, degree 1-7, alteration -1, 0, 1) -> MIDI pitch: undoes `pitch_to_degree`."""
    return octave * 12 + key.root + SCALES[key.mode][degree - 1] + alteration


def bar_ticks(meter: tuple[int, int]) -> int:
    """Length of one bar in ticks."""
    numerator, denominator = meter
    return numerator * TICKS_PER_QUARTER * 4 // denominator


def beat_count(meter: tuple[int, int]) -> int:
    """Beats in a bar: 6/8, 9/8 and 12/8 beat in dotted quarters; 3/8 beats in eighths."""
    numerator, denominator = meter
    compound = denominator == 8 and numerator > 3 and numerator % 3 == 0
    return numerator // 3 if compound else numerator


def beat_ticks(meter: tuple[int, int]) -> int:
    """Length of one beat in ticks."""
    return bar_ticks(meter) // beat_count(meter)
