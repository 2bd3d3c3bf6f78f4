"""SessionSettings: what a session is begun with."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlxgen.music.piece import Note
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key
from mlxgen.perform.velocity import VelocityShape
from mlxgen.sampling.rules import RuleSet
from mlxgen.sampling.sampler import SamplingParams


@dataclass(frozen=True)
class SessionSettings:
    conditioning: Conditioning = field(default_factory=Conditioning)
    key: Key = field(default_factory=lambda: Key(0, "minor"))
    params: SamplingParams = field(default_factory=SamplingParams)
    rules: RuleSet = field(default_factory=lambda: RuleSet(eos="mask"))
    seed: int = 0
    buffer_bars: float = 2.0
    bars: int | None = None         # end after so many
    theme: tuple[Note, ...] = ()
    velocity: VelocityShape = field(default_factory=VelocityShape)
    history_ids: int = 512          # the most that a new context is given to remember: some eight bars
    listen: bool = False            # somebody plays a theme first
    find_key: bool = False          # the key is the played theme's
