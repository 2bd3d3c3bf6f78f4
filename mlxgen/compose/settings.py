"""Everything that decides a long piece. Same settings, model and version: the same piece."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from mlxgen.compose.plan import Plan, simple_plan
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key, bar_ticks
from mlxgen.sampling.rules import RuleSet
from mlxgen.sampling.sampler import SamplingParams

LEAST_WINDOW = 256  # two bars of four voices


@dataclass(frozen=True)
class ChainSettings:
    """What to compose and how hard to try.

    overlap        context a chunk sees, in ids; cut back to a bar line, and to what the model can hold
    chunk_tokens   new ids a candidate of a chunk may have
    window         ids that the model looks back on while it draws, the prefix and theme always among them;
                   None: as many as it can hold
    theme          voices of the opening, highest first; () for none
    markers        write CAD_ tokens at closes, for models that were trained on them
    timely         a piece of one chunk ends by itself inside the bars that its length token names
    """

    conditioning: Conditioning
    key: Key
    plan: Plan = field(default_factory=lambda: simple_plan(chunks=2))
    overlap: int = 512
    chunk_tokens: int = 512
    window: int | None = None
    num_candidates: int = 8
    sampling: SamplingParams = field(default_factory=SamplingParams)
    soft_rules: tuple[str, ...] = ()
    seed: int = 0
    theme: tuple[tuple[Note, ...], ...] = ()
    tempo_bpm: float = 80.0
    markers: bool = False
    timely: bool = False

    def __post_init__(self):
        for name, least in (("overlap", 1), ("chunk_tokens", 16), ("num_candidates", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)}: expected {least} or more")
        if self.window is not None and self.window < LEAST_WINDOW:
            raise ValueError(f"window {self.window}: expected {LEAST_WINDOW} or more")
        if not 10 <= self.tempo_bpm <= 400:
            raise ValueError(f"tempo {self.tempo_bpm}: expected 10 to 400 quarters a minute")
        if len(self.theme) > self.conditioning.voices:
            raise ValueError(f"theme has {len(self.theme)} voices; the form {self.conditioning.form} "
                             f"has {self.conditioning.voices}")
        RuleSet(soft=frozenset(self.soft_rules))
        for section in self.plan.sections:
            section.conditioning(self.conditioning)
            section.key_from(self.key)

    @property
    def meter(self) -> tuple[int, int]:
        return self.conditioning.with_defaults().meter

    @property
    def voices(self) -> int:
        return self.conditioning.voices

    def theme_piece(self) -> Piece | None:
        """The theme as a piece of this form's voices, or None."""
        if not self.theme:
            return None
        voices = [list(voice) for voice in self.theme] + [[] for _ in range(self.voices - len(self.theme))]
        return Piece(voices, self.key, self.meter, self.tempo_bpm)

    def sampling_of(self, section: int) -> SamplingParams:
        """The sampling of a section: its own temperature and min_p where it has them."""
        chosen = self.plan.sections[section]
        changes = {name: getattr(chosen, name) for name in ("temperature", "min_p")
                   if getattr(chosen, name) is not None}
        return replace(self.sampling, **changes)

    def tokens_per_bar(self) -> float:
        """A first guess, before anything is composed (117 measured upstream for four voices in 4/4)."""
        quarters = bar_ticks(self.meter) / 480
        return 6 * quarters * self.voices + 2 * quarters

    def to_dict(self) -> dict:
        """JSON-able; `from_dict` reads it back."""
        return {**asdict(self), "plan": self.plan.to_dict(), "key": self.key.name,
                "conditioning": asdict(self.conditioning), "sampling": asdict(self.sampling)}

    @classmethod
    def from_dict(cls, data: dict) -> ChainSettings:
        conditioning = dict(data["conditioning"])
        if conditioning.get("meter") is not None:
            conditioning["meter"] = tuple(conditioning["meter"])
        return cls(**{**data, "conditioning": Conditioning(**conditioning), "key": Key.parse(data["key"]),
                      "plan": Plan.from_dict(data["plan"]), "sampling": SamplingParams(**data["sampling"]),
                      "soft_rules": tuple(data["soft_rules"]),
                      "theme": tuple(tuple(Note(*note) for note in voice) for voice in data["theme"])})
