"""What a prefix says about the music that follows, as far as rules ask: key, meter, form, length and more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from mlxgen.music.prompt import LENGTH_BARS, VOICES_OF_FORM, parse_meter
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

C_MAJOR = Key(0, "major")
ANY_LENGTH = (1, 1 << 30)
LABELS = ("imitation", "harmonic_rhythm", "harmonic_tension", "texture", "chromaticism")


@dataclass(frozen=True)
class Context:
    """The facts the rules need; what a prefix leaves unsaid is as the decoder takes it (C major, 4/4)."""

    key: Key = C_MAJOR
    meter: tuple[int, int] = (4, 4)
    form: str | None = None
    voices: int | None = None
    sequential: bool = False
    length_bars: tuple[int, int] = ANY_LENGTH  # fewest and most
    imitation: str | None = None  # none, low, high
    harmonic_rhythm: str | None = None  # slow, moderate, fast
    harmonic_tension: str | None = None  # low, moderate, high
    texture: str | None = None  # polyphonic, mixed, homophonic
    chromaticism: str | None = None  # low, moderate, high

    def for_grammar(self) -> Context:
        """Only what decides what may be written."""
        return replace(self.for_tables(), length_bars=ANY_LENGTH, imitation=None, harmonic_rhythm=None,
                       harmonic_tension=None)

    def for_tables(self) -> Context:
        """Without what is but an offset of the logits."""
        return replace(self, texture=None, chromaticism=None)

    def voice_count(self, vocab: Vocab) -> int:
        if self.voices is not None:
            return min(self.voices, vocab.max_voices)
        return min(VOICES_OF_FORM.get(self.form, vocab.max_voices), vocab.max_voices)


@lru_cache(maxsize=16)
def _facts(vocab: Vocab) -> dict[int, dict]:
    """{id: the fields of a Context that it sets}."""
    facts: dict[int, dict] = {}
    for suffix, token in vocab.family("KEY_").items():
        facts[token] = {"key": Key.parse(suffix)}
    for suffix, token in vocab.family("METER_").items():
        facts[token] = {"meter": parse_meter(suffix)}
    for suffix, token in vocab.family("FORM_").items():
        form = suffix.lower()
        facts[token] = {"form": form, "voices": VOICES_OF_FORM.get(form)}
    for suffix, token in vocab.family("MODE_").items():
        if suffix.endswith("PART") and suffix[:-4].isdigit():
            facts[token] = {"voices": int(suffix[:-4])}
    lengths = vocab.family("LENGTH_")
    fewest = 1
    for name, most in LENGTH_BARS.items():
        if name.upper() in lengths:
            last = name == next(reversed(LENGTH_BARS))
            facts[lengths[name.upper()]] = {"length_bars": (fewest, ANY_LENGTH[1] if last else most)}
        fewest = most + 1
    for suffix, token in vocab.family("ENCODE_").items():
        facts[token] = {"sequential": suffix == "SEQUENTIAL"}
    for field in LABELS:
        for suffix, token in vocab.family(f"{field.upper()}_").items():
            facts[token] = {field: suffix.lower()}
    facts[vocab["BOS"]] = {"form": None, "voices": None, "sequential": False, "length_bars": ANY_LENGTH,
                           **dict.fromkeys(LABELS)}
    return facts


def read_context(ids: Iterable[int], vocab: Vocab, before: Context | None = None) -> Context:
    """The context after `ids`, starting from `before`."""
    facts = _facts(vocab)
    context = before or Context()
    for token in ids:
        if token in facts:
            context = replace(context, **facts[token])
    if context.form is None and context.voices == 2:
        context = replace(context, form="2-part")
    return context
