"""Option sets that several commands share, and what they build.

`conditioning_options`, `sampling_options`, `theme_options` and `model_option` decorate a command; the `make_`
functions turn the collected values into the library's dataclasses. Values of open sets (forms, styles,
meters) are checked against the model's vocabulary, not here.
"""

from __future__ import annotations

from pathlib import Path

import click

DEFAULT_FORM = "chorale"
DEFAULT_KEY = "G major"
SCORE_SUFFIXES = (".mid", ".midi", ".musicxml", ".mxl", ".xml")

_CONDITIONING = (
    click.option("--mode", "--form", "-m", "form", metavar="FORM", default=None,
                 help="chorale, quartet, fugue, invention, sinfonia, trio_sonata, sonata, motet, 2-part.  "
                      f"[default: {DEFAULT_FORM}]"),
    click.option("--key", "-k", metavar="KEY", default=None,
                 help=f"A tonic and a mode: 'D major', 'C# minor', 'F#m'.  [default: {DEFAULT_KEY}]"),
    click.option("--style", metavar="STYLE", default=None,
                 help="bach, baroque, renaissance, classical.  [default: bach]"),
    click.option("--length", metavar="LENGTH", default=None,
                 help="The length that the model is told: short (16 bars), medium (32), long (64), extended, "
                      "or a number of bars.  [default: by form]"),
    click.option("--meter", metavar="METER", default=None,
                 help="4/4, 3/4, 2/4, 6/8, 3/8, alla_breve.  [default: 4/4]"),
    click.option("--texture", metavar="TEXTURE", default=None, help="homophonic, polyphonic, mixed."),
    click.option("--imitation", metavar="IMITATION", default=None, help="none, low, high."),
    click.option("--harmonic-rhythm", metavar="SPEED", default=None, help="slow, moderate, fast."),
    click.option("--tension", "harmonic_tension", metavar="TENSION", default=None,
                 help="low, moderate, high."),
    click.option("--chromaticism", metavar="AMOUNT", default=None, help="low, moderate, high."),
)

_SAMPLING = (
    click.option("--temperature", type=float, default=None,
                 help="Above 1 is bolder, below 1 safer.  [default: the model's for the form]"),
    click.option("--min-p", type=float, default=None,
                 help="Drop ids less likely than this fraction of the likeliest; 0 is off.  "
                      "[default: the model's]"),
    click.option("--top-k", type=int, default=0, show_default=True,
                 help="Keep the K likeliest ids; 0 is off."),
    click.option("--top-p", type=float, default=1.0, show_default=True,
                 help="Keep the likeliest ids that hold this much probability; 1 is off."),
    click.option("--soft-rules", metavar="RULE,...", default=None,
                 help="Soft rules to apply: names with commas, 'all', 'ours', 'upstream', 'none'.  "
                      "[default: the model's for the form]"),
    click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=None,
                 help="Same seed, settings and model: same music.  [default: a new one, shown]"),
)

_THEME = (
    click.option("--theme", metavar="FILE|NOTES", default=None,
                 help="How the piece opens: a MIDI or MusicXML file, or notes: 'D4:q A4:e r:e Bb4:q. C5:h'."),
    click.option("--theme-bars", type=click.IntRange(1), default=None,
                 help="Use only this many bars of the theme.  [default: all]"),
)

_MODEL = click.option("--model", "model_folder", type=click.Path(path_type=Path), default=None,
                      metavar="FOLDER", help="A model folder.  [default: the shipped model]")

CONDITIONING_NAMES = ("form", "style", "meter", "texture", "imitation", "harmonic_rhythm", "harmonic_tension",
                      "chromaticism", "encoding")


def conditioning_options(command):
    """What to compose: form, key, style, meter, texture and the other conditioning of the vocabulary."""
    return _decorated(command, _CONDITIONING)


def sampling_options(command):
    """How to draw: temperature, filters, soft rules, seed."""
    return _decorated(command, _SAMPLING)


def theme_options(command):
    """How the piece opens."""
    return _decorated(command, _THEME)


def model_option(command):
    """Which model folder."""
    return _MODEL(command)


def _decorated(command, options):
    for option in reversed(options):
        command = option(command)
    return command


def make_conditioning(values: dict, **extra):
    """The collected option values -> Conditioning. Raises ValueError on a value nothing can mean."""
    from mlxgen.music.prompt import Conditioning

    chosen = {name: values[name] for name in CONDITIONING_NAMES if values.get(name) is not None}
    chosen.setdefault("form", DEFAULT_FORM)
    if values.get("length") is not None:
        chosen["length_bars"] = length_bars(values["length"])
    return Conditioning(**{**chosen, **extra})


def length_bars(text: str) -> int:
    """'medium' or '24' -> bars. Raises ValueError with the text and the accepted words."""
    from mlxgen.music.prompt import LENGTH_BARS

    if text in LENGTH_BARS:
        return LENGTH_BARS[text]
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise ValueError(f"length {text!r}: expected {', '.join(LENGTH_BARS)} or a number of bars")


def make_sampling(values: dict, form: str, model_folder: Path):
    """The collected values -> SamplingParams; what was not given is the model's own choice for the form."""
    from mlxgen.sampling.sampler import SamplingParams

    defaults = _defaults_of(form, model_folder)
    chosen = {}
    for name in ("temperature", "min_p"):
        value = values.get(name)
        if value is None:
            value = defaults.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{model_folder}: generation: {name} {value!r}; expected a number")
        if value is not None:
            chosen[name] = value
    return SamplingParams(top_k=values["top_k"], top_p=values["top_p"], **chosen)


def _defaults_of(form: str, model_folder: Path) -> dict:
    """What the model folder says of how to draw: of the form where it says that, else of all forms."""
    from mlxgen.model.load import load_generation_defaults

    defaults = load_generation_defaults(model_folder)
    return {**defaults, **_object(_object(defaults, "forms", model_folder), form, model_folder)}


def _object(data: dict, name: str, model_folder: Path) -> dict:
    found = data.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"{model_folder}: generation: {name} {found!r}; expected an object")
    return found


def make_soft_rules(values: dict, form: str, model_folder: Path) -> tuple[str, ...]:
    """The soft rules that were asked for, else the model's own for the form."""
    text = values["soft_rules"]
    if text is None:
        text = _defaults_of(form, model_folder).get("soft_rules", "none")
        if not isinstance(text, str):
            raise ValueError(f"{model_folder}: generation: soft_rules {text!r}; expected text")
    return soft_rules(text)


def soft_rules(text: str | None) -> tuple[str, ...]:
    """'all', 'upstream', 'none' or names with commas -> names. Unknown names are found by RuleSet."""
    from mlxgen.sampling import rules

    return tuple(sorted(rules.soft_rules(text or "none")))


def is_score_file(text: str) -> bool:
    """Whether a theme is a file's name; otherwise it is notes."""
    return Path(text).suffix.lower() in SCORE_SUFFIXES


def read_theme(text: str, bars: int | None = None):
    """A file's path or notes as text -> Piece. Raises ValueError that says what was expected."""
    from mlxgen.music.piece import Piece

    if is_score_file(text):
        from mlxgen.files.read import read_score

        piece = read_score(Path(text))
    else:
        from mlxgen.music.theme import parse_theme

        piece = Piece([parse_theme(text)])
    piece = piece if bars is None else piece.between(0, bars * piece.bar_ticks)
    if piece.note_count == 0:
        raise ValueError(f"theme {text!r}: no notes in it")
    return piece


def place_theme(theme, voices: int) -> tuple[tuple, ...]:
    """The theme's voices, from the top; a single voice goes where its notes lie, others are silent."""
    if len(theme.voices) > 1 or voices == 1:
        return tuple(tuple(voice) for voice in theme.voices)
    notes = tuple(theme.voices[0])
    middle = sum(note.pitch for note in notes) / len(notes)
    centres = [72 - 24 * voice / (voices - 1) for voice in range(voices)]  # C5 on top, C3 at the bottom
    nearest = min(range(voices), key=lambda voice: abs(centres[voice] - middle))
    return tuple(notes if voice == nearest else () for voice in range(nearest + 1))


def default_model_folder() -> Path:
    """The shipped model: inside the installed package, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "weights" / "default"
    return installed if installed.is_dir() else package.parent / "weights" / "default"


def new_seed() -> int:
    """A seed nobody chose."""
    import secrets

    return secrets.randbelow(2**31)
