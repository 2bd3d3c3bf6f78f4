"""The last chord, for music that was asked to end and did not find the way."""

from __future__ import annotations

from mlxgen.music.theory import Key

RANGES = {4: ((60, 81), (53, 74), (48, 69), (36, 60)), 3: ((60, 81), (50, 72), (36, 60)),
          2: ((57, 84), (36, 64))}
BASS, SOPRANO = range(36, 48), range(64, 82)    # an octave has every tone once; inner voices fit between
INNER_LOW = 52


def final_chord(key: Key, last_pitches: dict[int, int], voices: int) -> list[int]:
    """Pitches of a tonic triad, highest voice first: each voice goes to the nearest chord tone it may take.

    last_pitches: {voice 1..: MIDI pitch}; a voice that has not sounded yet starts from the middle of its
    range. The lowest voice takes the tonic, the highest the tonic or third; with an inner voice the third is
    always there. A piece in minor ends in minor.
    """
    third = 4 if key.mode == "major" else 3
    tonic, third, fifth = key.root, (key.root + third) % 12, (key.root + 7) % 12
    ranges = RANGES.get(voices, RANGES[4])

    def nearest(voice: int, tones: tuple[int, ...], pitches: range) -> int | None:
        low, high = ranges[min(voice, len(ranges)) - 1]
        last = min(high, max(low, last_pitches.get(voice, (low + high) // 2)))
        fitting = [pitch for pitch in pitches if pitch % 12 in tones]
        return min(fitting, key=lambda pitch: (abs(pitch - last), pitch), default=None)

    bass = nearest(voices, (tonic,), BASS)
    chord = [nearest(1, (tonic, third), SOPRANO)]
    for voice in range(2, voices):
        missing = tuple(tone for tone in (third, fifth) if tone not in {pitch % 12 for pitch in chord})
        low = INNER_LOW if voice == 2 else bass
        below = range(low, chord[-1])
        chord.append(
            nearest(voice, missing[:1] or (tonic,), below) or nearest(voice, (tonic, third, fifth), below)
        )
    return [*chord, bass]
