"""Vocab: token ids and names, read from a tokenizer.json. The file is the truth; no id is in code."""

from __future__ import annotations

import json
from pathlib import Path

KINDS = ("scale_degree", "absolute")


class Vocab:
    """Ids <-> names of one tokenizer.json, with the ranges and bins that it declares.

    `vocab["BAR"]` is an id (KeyError if absent), `vocab.get("BAR")` an id or None,
    `vocab.name(9)` a name, `"BAR" in vocab` a question. Raises ValueError on a file that is not
    a tokenizer, saying what is missing.
    """

    def __init__(self, data: dict, source: str = "tokenizer.json"):
        for field in ("tokenizer_type", "token_to_name", "config"):
            if field not in data:
                raise ValueError(f"{source}: no {field!r}; expected an upstream tokenizer.json")
        self.kind = data["tokenizer_type"]
        if self.kind not in KINDS:
            raise ValueError(f"{source}: tokenizer_type {self.kind!r}; expected one of {', '.join(KINDS)}")
        try:
            names = {int(token): str(name) for token, name in data["token_to_name"].items()}
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{source}: token_to_name must map ids to names ({error})") from None
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"{source}: ids must run from 0 to {len(names) - 1} without gaps")
        if len(set(names.values())) != len(names):
            raise ValueError(f"{source}: two ids share a name")
        declared = data.get("vocab_size", len(names))
        if declared != len(names):
            raise ValueError(f"{source}: vocab_size {declared}, but {len(names)} names")
        self.names: list[str] = [names[token] for token in range(len(names))]
        self.ids: dict[str, int] = {name: token for token, name in enumerate(self.names)}
        for name in ("BOS", "EOS", "BAR", "VOICE_1"):
            if name not in self.ids:
                raise ValueError(f"{source}: no token named {name}")
        self._read_ranges(data["config"], source)
        self.duration_bins = self._bins("Dur_", source)
        self.time_shift_bins = self._bins("TimeShift_", source)
        self.max_voices = sum(suffix.isdigit() for suffix in self.family("VOICE_"))
        self._data = data

    def _read_ranges(self, config: dict, source: str) -> None:
        """The declared pitch and octave ranges, every one of which must have its token."""
        ranges = {"min_pitch": 36, "max_pitch": 84, "min_octave": 2, "max_octave": 7}
        if not isinstance(config, dict):
            raise ValueError(f"{source}: config must be an object")
        for field, usual in ranges.items():
            if not isinstance(config.get(field, usual), int):
                raise ValueError(f"{source}: {field} {config[field]!r} is not a whole number")
            setattr(self, field, config.get(field, usual))
        if self.kind == "absolute":
            needed = [f"Pitch_{pitch}" for pitch in range(self.min_pitch, self.max_pitch + 1)]
        else:
            needed = [*(f"OCT_{octave}" for octave in range(self.min_octave, self.max_octave + 1)),
                      *(f"DEG_{degree}" for degree in range(1, 8)), "SHARP"]
        missing = [name for name in needed if name not in self.ids]
        if missing:
            raise ValueError(f"{source}: no token named {missing[0]}, which its config promises")

    def _bins(self, prefix: str, source: str) -> tuple[int, ...]:
        suffixes = [suffix for suffix in self.family(prefix) if suffix.isdigit()]
        if not suffixes:
            raise ValueError(f"{source}: no {prefix} tokens")
        return tuple(sorted(int(suffix) for suffix in suffixes))

    @classmethod
    def load(cls, path: str | Path) -> Vocab:
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON ({error})") from None
        if not isinstance(data, dict):
            raise ValueError(f"{path}: expected a JSON object, found {type(data).__name__}")
        return cls(data, str(path))

    def save(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(self._data, indent=2) + "\n", encoding="utf-8")

    def family(self, prefix: str) -> dict[str, int]:
        """{suffix: id} of all tokens that begin with `prefix`: family("KEY_")["C_major"]."""
        return {name[len(prefix):]: token for name, token in self.ids.items() if name.startswith(prefix)}

    def name(self, token: int) -> str:
        return self.names[token]

    def get(self, name: str) -> int | None:
        return self.ids.get(name)

    def __getitem__(self, name: str) -> int:
        return self.ids[name]

    def __contains__(self, name: str) -> bool:
        return name in self.ids

    def __len__(self) -> int:
        return len(self.names)
