"""Voice ranges: which pitches each voice of each form may sing or play. MIDI numbers, both ends included."""

from __future__ import annotations

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context

SOPRANO, ALTO, TENOR, BASS = (60, 84), (48, 72), (48, 69), (36, 60)
UPPER, LOWER = (55, 84), (36, 67)

# Upstream's decode-time ranges, highest voice first. A voice not listed here: UPPER for voice 1, else LOWER.
UPSTREAM_RANGES = {
    "2-part": (UPPER, LOWER),
    "sinfonia": (SOPRANO, ALTO, BASS),
    "chorale": (SOPRANO, ALTO, TENOR, BASS),
    "fugue": (SOPRANO, ALTO, TENOR, BASS),
    "sonata": (SOPRANO, ALTO, TENOR, BASS),
    "motet": (SOPRANO, ALTO, TENOR, BASS),
}

# The hard rules' ranges, highest voice first: what holds at least 99 of 100 notes of each voice in 382 Bach
# chorales and 300 contrapuntal keyboard and chamber works, cut to what the vocabulary writes (36-84).
# A form or voice not listed may use all of it.
VOICE_RANGES = {
    "2-part": ((55, 84), (36, 69)),
    "invention": ((55, 84), (36, 69)),
    "sinfonia": ((57, 84), (48, 79), (36, 69)),
    "trio_sonata": ((55, 84), (50, 84), (36, 64)),
    "chorale": ((59, 81), (52, 76), (47, 71), (36, 64)),
    "fugue": ((57, 84), (48, 79), (37, 72), (36, 67)),
    "quartet": ((55, 84), (55, 84), (48, 81), (36, 72)),
    "sonata": ((55, 84), (48, 81), (43, 76), (36, 67)),
    "motet": ((55, 81), (48, 76), (43, 72), (36, 67)),
}


def upstream_range(form: str | None, voice: int) -> tuple[int, int]:
    """Upstream's range of a voice (1 is the highest)."""
    ranges = UPSTREAM_RANGES.get(form, ())
    if voice <= len(ranges):
        return ranges[voice - 1]
    return UPPER if voice == 1 else LOWER


def voice_range(context: Context, voice: int, vocab: Vocab) -> tuple[int, int]:
    """The range the hard rules hold a voice to, inside what the vocabulary can write."""
    ranges = VOICE_RANGES.get(context.form, ())
    low, high = ranges[voice - 1] if voice <= len(ranges) else (vocab.min_pitch, vocab.max_pitch)
    return max(low, vocab.min_pitch), min(high, vocab.max_pitch)
