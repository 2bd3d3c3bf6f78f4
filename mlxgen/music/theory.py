"""Keys, scale degrees, spelling and meters: the arithmetic every other room leans on.

Degrees are relative to the tonic and octave numbers count tonics, not C's: in D major,
octave 5 degree 1 is D4 (MIDI 62) and octave 5 degree 7 is C sharp 5 (MIDI 73). The octave
is (pitch - tonic) // 12, so octave 5 begins at the tonic from C4 (MIDI 60) upwards.
Minor degrees are those of the natural minor scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
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
_WORDS = {"sharp": "#", "flat": "b"}
_FIFTHS_OF_STEP = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}

_KEY_PATTERN = re.compile(r"^\s*([A-Ga-g])([\s_-]*(?:sharp|flat)|##|bb|[#sxb♯♭]?)[\s_-]*(.*?)\s*$")
_MODES = {"major": "major", "maj": "major", "M": "major", "dur": "major",
          "minor": "minor", "min": "minor", "m": "minor", "moll": "minor"}


class Key(NamedTuple):
    """A tonic pitch class (0-11, C = 0) and a mode, "major" or "minor"."""

    root: int
    mode: str

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read "C# minor", "Eb_major", "F#m", "B flat major" or "d minor".

        A bare letter is major when upper case and minor when lower case ("d"), as musicians write it.
        Raises ValueError with the text and the accepted forms.
        """
        match = _KEY_PATTERN.match(text)
        if match:
            step, accidental, mode_text = match.groups()
            accidental = _WORDS.get(accidental.strip(" _-"), accidental)
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


# Where chromatic intervals above the tonic are written: {interval: degree}. Counted in 150 Bach chorales and
# 23 classical quartets; those that resolve by a semitone towards the other neighbour are written on that one.
_CHROMATIC = {"major": {1: 1, 3: 3, 6: 4, 8: 5, 10: 7}, "minor": {1: 2, 4: 3, 6: 4, 9: 6, 11: 7}}
_RISING = {"major": {3: 2}, "minor": {1: 1}}
_FALLING = {"major": {8: 6}, "minor": {6: 5}}


@cache
def spell(pitch: int, key: Key, following: int | None = None) -> Spelling:
    """How a musician writes `pitch` in `key`: C sharp, not D flat, as the leading note of D minor.

    `following` is the next other pitch of the same voice; with it, a raised second rises (D sharp to E in
    C major) and a lowered sixth falls (A flat to G).
    """
    interval = (pitch - key.root) % 12
    scale = SCALES[key.mode]
    if interval in scale:
        degree = scale.index(interval) + 1
    else:
        by_motion = {1: _RISING, -1: _FALLING}.get(0 if following is None else following - pitch, {})
        degree = by_motion.get(key.mode, {}).get(interval) or _CHROMATIC[key.mode][interval]
    step = STEPS[(STEPS.index(key.tonic[0]) + degree - 1) % 7]
    alter = (pitch - STEP_PITCH_CLASS[step] + 6) % 12 - 6
    return Spelling(step, alter, (pitch - alter) // 12 - 1)


def spell_line(pitches: Sequence[int], key: Key | Sequence[Key]) -> list[Spelling]:
    """The spellings of one voice's pitches in time order, each seeing the next other pitch.

    `key` is the key of all of them, or a key for each.
    """
    keys = [key] * len(pitches) if isinstance(key, Key) else key
    spellings = []
    following = None
    for index in range(len(pitches) - 1, -1, -1):
        if index + 1 < len(pitches) and pitches[index + 1] != pitches[index]:
            following = pitches[index + 1]
        spellings.append(spell(pitches[index], keys[index], following))
    return spellings[::-1]


# Krumhansl & Kessler's probe-tone profiles (1982), tonic first.
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def _correlation(left: Sequence[float], right: Sequence[float]) -> float:
    left_mean, right_mean = sum(left) / len(left), sum(right) / len(right)
    left = [value - left_mean for value in left]
    right = [value - right_mean for value in right]
    scale = math.sqrt(sum(value * value for value in left) * sum(value * value for value in right))
    return sum(x * y for x, y in zip(left, right, strict=True)) / scale if scale else 0.0


def detect_key(weights: Sequence[float], fifths: int | None = None) -> Key:
    """The key that twelve pitch-class weights (C first; say, sounding ticks) fit best.

    Krumhansl and Schmuckler's method: the highest correlation with a key profile. With `fifths`, only the
    two keys of that signature compete. Equal weights give C major (or the signature's major key).
    """
    if len(weights) != 12:
        raise ValueError(f"{len(weights)} pitch-class weights: expected 12")
    keys = [Key(root, mode) for mode in SCALES for root in range(12)]
    if fifths is not None:
        keys = [Key(fifths * 7 % 12, "major"), Key((fifths * 7 + 9) % 12, "minor")]
    return max(keys, key=lambda key: _correlation(
        [weights[(key.root + interval) % 12] for interval in range(12)], _PROFILES[key.mode]))


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
