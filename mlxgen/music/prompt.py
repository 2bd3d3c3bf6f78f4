"""Conditioning: what the user asks for, as the ids that stand before the music.

The order of the prefix and the values filled in for what was not said are those the models were trained
and used with upstream. A field the vocabulary has no family of tokens for is left out; a value it lacks
is an error that lists what it has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

VOICES_OF_FORM = {"2-part": 2, "invention": 2, "sinfonia": 3, "trio_sonata": 3,
                  "chorale": 4, "quartet": 4, "sonata": 4, "fugue": 4, "motet": 4}

# The largest number of bars that each length token stands for; "extended" has no upper end.
LENGTH_BARS = {"short": 16, "medium": 32, "long": 64, "extended": 128}
ENCODINGS = ("interleaved", "sequential")

_DEFAULT_LENGTH = {"chorale": "short", "2-part": "medium", "invention": "medium", "sinfonia": "medium",
                   "trio_sonata": "medium", "fugue": "long", "quartet": "long", "sonata": "long",
                   "motet": "long"}
_IMITATIVE = {"texture": "polyphonic", "imitation": "high",
              "harmonic_tension": "high", "chromaticism": "high"}
_DEFAULT_CHARACTER = {
    "fugue": _IMITATIVE, "invention": _IMITATIVE, "sinfonia": _IMITATIVE,
    "chorale": {"texture": "homophonic", "imitation": "none", "harmonic_rhythm": "moderate",
                "harmonic_tension": "moderate", "chromaticism": "low"},
}


def parse_meter(meter: tuple[int, int] | str) -> tuple[int, int]:
    """(3, 4), "3/4", "3_4" and "alla_breve" -> (numerator, denominator). ValueError for anything else."""
    if isinstance(meter, str):
        if meter.lower().replace(" ", "_") == "alla_breve":
            return 2, 2
        parts = meter.replace("_", "/").split("/")
    else:
        parts = list(meter)
    try:
        numerator, denominator = (int(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"meter {meter!r}: expected two numbers, such as '3/4'") from None
    if not 1 <= numerator <= 32 or denominator not in (1, 2, 4, 8, 16, 32):
        raise ValueError(f"meter {meter!r}: expected 1 to 32 beats over 1, 2, 4, 8, 16 or 32")
    return numerator, denominator


def meter_token_name(meter: tuple[int, int]) -> str:
    """(3, 4) -> "3_4"; (2, 2) -> "alla_breve"."""
    return "alla_breve" if tuple(meter) == (2, 2) else f"{meter[0]}_{meter[1]}"


def voices_of(form: str) -> int:
    """How many voices a form has. ValueError names the forms."""
    if form not in VOICES_OF_FORM:
        raise ValueError(f"form {form!r}: expected one of {', '.join(VOICES_OF_FORM)}")
    return VOICES_OF_FORM[form]


def length_range(length_bars: int) -> tuple[int, int | None]:
    """The fewest and the most bars that the length token of so many bars names; None: no upper end."""
    name, limits = length_name(length_bars), list(LENGTH_BARS.values())
    below = [bars for bars in limits if bars < LENGTH_BARS[name]]
    return (below[-1] + 1 if below else 1), None if LENGTH_BARS[name] == limits[-1] else LENGTH_BARS[name]


def length_name(length_bars: int) -> str:
    """The length token's name for a number of bars: 16 -> "short"."""
    if length_bars < 1:
        raise ValueError(f"length_bars {length_bars}: expected 1 or more")
    return next((name for name, bars in LENGTH_BARS.items() if length_bars <= bars), "extended")


@dataclass(frozen=True)
class Conditioning:
    """What the music shall be. None means unsaid: `encode` leaves it out, `with_defaults` fills it in.

    `meter` may be given as (3, 4), "3/4", "3_4" or "alla_breve" and is kept as a pair.
    """

    form: str | None = None
    style: str | None = None
    length_bars: int | None = None
    meter: tuple[int, int] | str | None = None
    texture: str | None = None
    imitation: str | None = None
    harmonic_rhythm: str | None = None
    harmonic_tension: str | None = None
    chromaticism: str | None = None
    encoding: str | None = None

    def __post_init__(self):
        if self.meter is not None:
            object.__setattr__(self, "meter", parse_meter(self.meter))
        if self.form is not None:
            voices_of(self.form)
        if self.length_bars is not None:
            length_name(self.length_bars)
        if self.encoding is not None and self.encoding not in ENCODINGS:
            raise ValueError(f"encoding {self.encoding!r}: expected one of {', '.join(ENCODINGS)}")

    @property
    def voices(self) -> int:
        """Voices of the form (a form that is not said counts as "2-part")."""
        return voices_of(self.form or "2-part")

    def with_defaults(self) -> Conditioning:
        """The same, with every unsaid field that upstream fills in at generation filled in likewise."""
        form = self.form or "2-part"
        defaults = {"form": form, "style": "bach", "meter": (4, 4), "encoding": "interleaved",
                    "length_bars": LENGTH_BARS[_DEFAULT_LENGTH[form]], **_DEFAULT_CHARACTER.get(form, {})}
        unsaid = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return replace(self, **unsaid)


def _pick(vocab: Vocab, prefix: str, name: str | None, what: str) -> list[int]:
    """The id of prefix + name; nothing for None or for a family the vocabulary lacks altogether."""
    if name is None:
        return []
    family = vocab.family(prefix)
    if name.upper() in family:
        return [family[name.upper()]]
    if not family:
        return []
    known = ", ".join(suffix.lower() for suffix in family)
    raise ValueError(f"{what} {name!r}: this model's vocabulary has {known}")


def _voice_count(form: str | None, vocab: Vocab) -> list[int]:
    if form is None:
        return []
    name = "MODE_FUGUE" if form == "fugue" else f"MODE_{voices_of(form)}PART"
    return [vocab[name]] if name in vocab else []


def key_id(key: Key, vocab: Vocab) -> int:
    """The id of a KEY_ token. ValueError lists the keys of the vocabulary."""
    token = vocab.get(f"KEY_{key.token_name}")
    if token is None:
        known = ", ".join(name.replace("s_", "#_").replace("_", " ") for name in vocab.family("KEY_"))
        raise ValueError(f"key {key.name!r}: this model's vocabulary has {known or 'no keys'}")
    return token


def make_prefix(conditioning: Conditioning, key: Key, vocab: Vocab) -> list[int]:
    """The conditioning prefix, BOS to KEY: what was said, in the order the models know.

    Raises ValueError for a form, style, meter, character or key that the vocabulary lacks, listing what
    it has.
    """
    said = conditioning
    form = None if said.form == "2-part" else said.form  # two voices of no particular form: a count, no name
    length = None if said.length_bars is None else length_name(said.length_bars)
    meter = None if said.meter is None else meter_token_name(said.meter)
    rows = (("STYLE_", said.style, "style"), ("FORM_", form, "form"), None, ("LENGTH_", length, "length"),
            ("METER_", meter, "meter"), ("TEXTURE_", said.texture, "texture"),
            ("IMITATION_", said.imitation, "imitation"),
            ("HARMONIC_RHYTHM_", said.harmonic_rhythm, "harmonic rhythm"),
            ("HARMONIC_TENSION_", said.harmonic_tension, "harmonic tension"),
            ("CHROMATICISM_", said.chromaticism, "chromaticism"), ("ENCODE_", said.encoding, "encoding"))
    ids = [vocab["BOS"]]
    for row in rows:
        ids += _voice_count(said.form, vocab) if row is None else _pick(vocab, *row)
    return [*ids, key_id(key, vocab)]


def make_prompt(conditioning: Conditioning, key: Key, vocab: Vocab) -> list[int]:
    """The prefix with upstream's defaults filled in, and the first bar opened: ... KEY BAR BEAT_1.

    Sequential writing opens with VOICE_1 before the bar, as every sequence it was trained on does.
    """
    conditioning = conditioning.with_defaults()
    ids = make_prefix(conditioning, key, vocab)
    if conditioning.encoding == "sequential":
        ids.append(vocab["VOICE_1"])
    return [*ids, vocab["BAR"], *([vocab["BEAT_1"]] if "BEAT_1" in vocab else [])]
