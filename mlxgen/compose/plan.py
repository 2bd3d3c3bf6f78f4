"""Section plans: the large form of a piece, read from a TOML file.

    title = "Minuet and trio"
    form = "quartet"            # what the command line does not say, the plan may
    meter = "3/4"

    [[section]]
    name = "minuet"
    bars = 16                   # or chunks = 2
    cadence = "full"            # how it closes: "full", "half" or "none"

    [[section]]
    name = "trio"
    token = "B"                 # SECTION_B, where the vocabulary has it; else the name says which
    bars = 16
    key = "subdominant"         # from the home key, or a key by name: "A minor"
    texture = "homophonic"

    [[section]]
    name = "da capo"
    repeat = "minuet"           # the same bars again

Plans with a name of their own ship in `plans/`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key

READY = Path(__file__).parent / "plans"
CADENCES = ("full", "half", "none")
CADENCE_DENSITIES = {"low": 8, "medium": 6, "high": 4}  # bars between cadences, as upstream has it
_KINDS = {"bars": int, "chunks": int, "recall_bars": int, "temperature": (int, float), "min_p": (int, float)}
CHANGES = ("style", "texture", "imitation", "harmonic_rhythm", "harmonic_tension", "chromaticism")
_SPELLINGS = {"tension": "harmonic_tension", "harmonic-rhythm": "harmonic_rhythm"}

# relation to the home key -> (semitones above it when home is major, when minor, mode of the result)
_RELATIONS = {
    "home": ((0, "major"), (0, "minor")),
    "dominant": ((7, "major"), (7, "minor")),
    "subdominant": ((5, "major"), (5, "minor")),
    "relative": ((9, "minor"), (3, "major")),
    "parallel": ((0, "minor"), (0, "major")),
    "mediant": ((4, "minor"), (3, "major")),
    "submediant": ((9, "minor"), (8, "major")),
    "supertonic": ((2, "minor"), (2, "minor")),
    # where a second theme goes: the dominant of a major key, the relative major of a minor one
    "second": ((7, "major"), (3, "major")),
}


@dataclass(frozen=True)
class Section:
    """One section: how long, what changes against the rest of the piece, and how it closes.

    Exactly one of `bars`, `chunks`, `repeat` is set. `token` is its SECTION_ token, without that prefix, for
    vocabularies that have one (None: by its name). `recall` names an earlier section whose first
    `recall_bars` bars are stated again, in this section's key, before anything new.
    """

    name: str
    bars: int | None = None
    chunks: int | None = None
    repeat: str | None = None
    token: str | None = None
    key: str = "home"
    cadence: str = "none"
    cadence_density: str | None = None
    recall: str | None = None
    recall_bars: int = 4
    temperature: float | None = None
    min_p: float | None = None
    changes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        where = f"section {self.name!r}"
        if sum(value is not None for value in (self.bars, self.chunks, self.repeat)) != 1:
            raise ValueError(f"{where}: expected exactly one of bars, chunks, repeat")
        for name in ("bars", "chunks", "recall_bars"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{where}: {name} {value!r}: expected a whole number, 1 or more")
        if self.cadence not in CADENCES:
            raise ValueError(f"{where}: cadence {self.cadence!r}: expected one of {', '.join(CADENCES)}")
        if self.cadence_density not in (None, *CADENCE_DENSITIES):
            raise ValueError(f"{where}: cadence_density {self.cadence_density!r}: "
                             f"expected one of {', '.join(CADENCE_DENSITIES)}")
        if self.temperature is not None and not 0 < self.temperature <= 5:
            raise ValueError(f"{where}: temperature {self.temperature!r}: expected above 0, at most 5")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"{where}: min_p {self.min_p!r}: expected 0 to 1")

    def conditioning(self, base: Conditioning) -> Conditioning:
        """The piece's conditioning with this section's changes."""
        return replace(base, **self.changes)

    def key_from(self, home: Key) -> Key:
        """The section's key in a piece whose home is `home`."""
        return related_key(self.key, home)


@dataclass(frozen=True)
class Plan:
    """A list of sections, and defaults for what the command line leaves unsaid."""

    sections: tuple[Section, ...]
    title: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)  # form, key, style, meter

    def __post_init__(self):
        if not self.sections:
            raise ValueError("plan: no sections")
        seen: dict[str, Section] = {}
        for section in self.sections:
            if section.name in seen:
                raise ValueError(f"plan: two sections are called {section.name!r}")
            for use in ("recall", "repeat"):
                name = getattr(section, use)
                if name is not None and name not in seen:
                    known = ", ".join(seen) or "nothing yet"
                    raise ValueError(f"section {section.name!r}: {use} {name!r}: "
                                     f"earlier sections are {known}")
            seen[section.name] = section

    def to_dict(self) -> dict:
        return {"title": self.title, "defaults": dict(self.defaults),
                "sections": [{**asdict(section), "changes": dict(section.changes)}
                             for section in self.sections]}

    @classmethod
    def from_dict(cls, data: Mapping) -> Plan:
        return cls(tuple(Section(**row) for row in data["sections"]), data["title"], data["defaults"])


def related_key(relation: str, home: Key) -> Key:
    """"dominant" in D major -> A major; "A minor" -> itself. ValueError lists the relations."""
    if relation in _RELATIONS:
        semitones, mode = _RELATIONS[relation][home.mode == "minor"]
        return Key((home.root + semitones) % 12, mode)
    try:
        return Key.parse(relation)
    except ValueError:
        raise ValueError(f"key {relation!r}: expected a key such as 'A minor', "
                         f"or one of {', '.join(_RELATIONS)}") from None


def simple_plan(*, chunks: int | None = None, bars: int | None = None) -> Plan:
    """One section that closes with a full cadence: what is composed when there is no plan file."""
    return Plan((Section("piece", bars=bars, chunks=chunks, cadence="full"),))


def ready_plans() -> dict[str, Path]:
    """{name: file} of the plans that ship with the package."""
    return {path.stem: path for path in sorted(READY.glob("*.toml"))}


def read_plan(name_or_path: str | Path) -> Plan:
    """A ready plan by name, or a TOML file. ValueError names the file, the section and what was expected."""
    path = ready_plans().get(str(name_or_path), Path(name_or_path))
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"plan {str(name_or_path)!r}: no such file; ready plans are "
                         f"{', '.join(ready_plans())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML ({error})") from None
    try:
        return _make_plan(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _make_plan(data: dict) -> Plan:
    rows = data.pop("section", None)
    if not isinstance(rows, list) or not rows:
        raise ValueError("no [[section]]; expected at least one")
    title = str(data.pop("title", ""))
    unknown = set(data) - {"form", "key", "style", "meter"}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}; "
                         f"expected title, form, key, style, meter, [[section]]")
    sections = [_make_section(row, number) for number, row in enumerate(rows, start=1)]
    if sections[-1].cadence == "none" and sections[-1].repeat is None:
        sections[-1] = replace(sections[-1], cadence="full")
    return Plan(tuple(sections), title, {name: str(value) for name, value in data.items()})


def _make_section(row: dict, number: int) -> Section:
    row = {_SPELLINGS.get(name, name): value for name, value in row.items()}
    name = str(row.pop("name", f"section {number}"))
    changes = {change: str(row.pop(change)) for change in CHANGES if change in row}
    known = {item.name for item in fields(Section)} - {"name", "changes"}
    unknown = set(row) - known
    if unknown:
        raise ValueError(f"section {name!r}: unknown {', '.join(sorted(unknown))}; "
                         f"expected {', '.join(sorted(known | set(CHANGES)))}")
    for field_name, value in row.items():
        kind = _KINDS.get(field_name, str)
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = {int: "a whole number", str: "text"}.get(kind, "a number")
            raise ValueError(f"section {name!r}: {field_name} {value!r}: expected {wanted}")
    section = Section(name=name, changes=changes, **row)
    related_key(section.key, Key(0, "major"))  # a wrong name is found now, not when the section begins
    return section
