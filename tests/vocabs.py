"""The three upstream vocabularies, built without files: for tests in a clone that has no ../shared."""

from __future__ import annotations

from functools import cache

from mlxgen.music.vocab import Vocab

BINS = (60, 120, 180, 240, 360, 480, 720, 960, 1440, 1920, 2880)
_HEAD = [
    "PAD",
    "BOS",
    "EOS",
    "VOICE_1",
    "VOICE_2",
    "VOICE_3",
    "VOICE_4",
    "SUBJECT_START",
    "SUBJECT_END",
    "BAR",
    *(f"BEAT_{beat}" for beat in range(1, 7)),
    "MODE_2PART",
    "MODE_3PART",
    "MODE_4PART",
    "MODE_FUGUE",
    *(f"STYLE_{name}" for name in ("BACH", "BAROQUE", "RENAISSANCE", "CLASSICAL")),
    *(
        f"FORM_{name}"
        for name in ("CHORALE", "INVENTION", "FUGUE", "SINFONIA", "QUARTET", "TRIO_SONATA", "MOTET")
    ),
    *(f"LENGTH_{name}" for name in ("SHORT", "MEDIUM", "LONG", "EXTENDED")),
    *(f"METER_{name}" for name in ("2_4", "3_4", "4_4", "6_8", "3_8", "ALLA_BREVE")),
]
_CHARACTER = [
    *(f"TEXTURE_{name}" for name in ("HOMOPHONIC", "POLYPHONIC", "MIXED")),
    *(f"IMITATION_{name}" for name in ("NONE", "LOW", "HIGH")),
    *(f"HARMONIC_RHYTHM_{name}" for name in ("SLOW", "MODERATE", "FAST")),
    *(f"HARMONIC_TENSION_{name}" for name in ("LOW", "MODERATE", "HIGH")),
    *(f"CHROMATICISM_{name}" for name in ("LOW", "MODERATE", "HIGH")),
    "ENCODE_INTERLEAVED",
    "ENCODE_SEQUENTIAL",
    "VOICE_SEP",
]
_KEYS = [
    f"KEY_{tonic}_{mode}"
    for majors, minors in zip(
        ["C", "Db", "D", "Eb", "E", "F", "Fs", "G", "Ab", "A", "Bb", "B"],
        ["C", "Cs", "D", "Eb", "E", "F", "Fs", "G", "Gs", "A", "Bb", "B"],
        strict=True,
    )
    for tonic, mode in ((majors, "major"), (minors, "minor"))
]
_DEGREES = [
    *(f"OCT_{octave}" for octave in range(2, 8)),
    *(f"DEG_{degree}" for degree in range(1, 8)),
    "SHARP",
    "FLAT",
]
_TIMES = [f"{kind}_{ticks}" for kind in ("Dur", "TimeShift") for ticks in BINS]
_TAIL = ["FORM_SONATA", "CAD_PAC", "CAD_IAC", "CAD_HC", "CAD_DC"]

NAMES = {
    "scale_degree_125": [*_HEAD, *_CHARACTER, *_KEYS, *_DEGREES, *_TIMES, *_TAIL],
    "scale_degree_102": [*_HEAD, *_KEYS, *_DEGREES, *_TIMES],
    "absolute_159": [
        *_HEAD,
        *_CHARACTER,
        *_KEYS,
        *(f"Pitch_{pitch}" for pitch in range(36, 85)),
        *_TIMES,
        *_TAIL,
    ],
}


def vocab_data(which: str = "scale_degree_125", extra: tuple[str, ...] = ()) -> dict:
    """The parsed tokenizer.json of one of NAMES, with `extra` tokens appended."""
    names = [*NAMES[which], *extra]
    config = {"min_pitch": 36, "max_pitch": 84, "duration_bins": list(BINS), "time_shift_bins": list(BINS)}
    if which.startswith("scale_degree"):
        config |= {"min_octave": 2, "max_octave": 7}
    return {
        "tokenizer_type": which.rpartition("_")[0],
        "vocab_size": len(names),
        "config": config,
        "token_to_name": {str(token): name for token, name in enumerate(names)},
    }


@cache
def make_vocab(which: str = "scale_degree_125", extra: tuple[str, ...] = ()) -> Vocab:
    return Vocab(vocab_data(which, extra))
