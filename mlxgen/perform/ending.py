"""The last chord, for music that was asked to end and did not find the way."""

from __future__ import annotations

from mlxgen.music.theory import Key

RANGES = {4: ((60, 81), (53, 74), (48, 69), (36, 60)), 3: ((60, 81), (50, 72), (36, 60)), 2: ((57, 84), (36, 64))}


def final_chord(key: Key, last_pitches: dict[int, int], voices: int) -> list[int]:
    """Pitches of a tonic triad, highest voice first: each voice goes to the nearest chord tone it may take.

    last_pitches: {voice 1..: MIDI pitch}; a voice that has not sounded yet starts from the middle of its range.
    The lowest voice takes the tonic, the highest the tonic or third, and the third is always there. A piece in
    minor ends in minor.
    """
    third = 4 if key.mode == "major" else 3
    tones = (key.root, (key.root + third) % 12, (key.root + 7) % 12)
    ranges = RANGES.get(voices, RANGES[4])
    chord: list[int] = []
    ceiling = 128
    for voice in range(1, voices + 1):
        low, high = ranges[min(voice, len(ranges)) - 1]
        allowed = tones[:2] if voice == 1 else tones[:1] if voice == voices else _wanted(chord, tones)
        last = last_pitches.get(voice, (low + high) // 2)
        fitting = [pitch for pitch in range(low - 12, high + 1) if pitch % 12 in allowed and pitch < ceiling]
        chord.append(min(fitting, key=lambda pitch: (abs(pitch - last), pitch)))
        ceiling = chord[-1]
    return chord


def _wanted(chord: list[int], tones: tuple[int, int, int]) -> tuple[int, ...]:
    """For an inner voice: the third if nobody has it, then the fifth."""
    present = {pitch % 12 for pitch in chord}
    if tones[1] not in present:
        return tones[1:2]
    return tones[2:] if tones[2] not in present else tones[:1]
