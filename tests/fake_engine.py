"""An engine without a model: it draws ids that obey the grammar, as a function of seed, position and
temperature.
"""

from __future__ import annotations

import random
from types import SimpleNamespace

from mlxgen.music.vocab import Vocab
from mlxgen.sampling.rules import RuleSet
from mlxgen.sampling.sampler import SamplingParams


class FakeEngine:
    """Four voices in eighths and sixteenths, in 4/4. What it draws depends on (seed, position, temperature
    and min-p, the pinned prefix, the last id): any of them changed, and other notes come.
    """

    def __init__(self, vocab: Vocab, pinned: int, seed: int, stuck: bool = False, chords: bool = False):
        self.vocab, self.pinned, self.seed, self.stuck, self.chords = vocab, pinned, seed, stuck, chords
        self.params, self.rules = SamplingParams(), RuleSet()
        self.ids: list[int] = []
        self.names = vocab.names
        self.rewound: list[int] = []

    def prefill(self, ids):
        assert len(ids), "prefill of nothing"
        self.ids += ids

    def rewind(self, count):
        self.rewound.append(count)
        del self.ids[len(self.ids) - count:]

    def replace_prefix(self, count, ids):
        self.ids[:count] = ids
        self.pinned += len(ids) - count

    def step(self):
        token = self.vocab[self._next_name()]
        self.ids.append(token)
        return SimpleNamespace(ids=[token], logprobs=[0.0])

    def _dice(self) -> random.Random:
        key = (
            self.seed,
            len(self.ids),
            self.params.temperature,
            self.params.min_p,
            self.rules.bias,
            tuple(self.ids[: self.pinned]),
            self.ids[-1],
        )
        return random.Random(repr(key))

    def _next_name(self) -> str:
        dice, last = self._dice(), self.names[self.ids[-1]]
        family = last.split("_")[0]
        if self.chords and family in ("DEG", "Dur", "BEAT", "TimeShift"):
            return self._next_of_chords(family)
        if self.stuck and family in ("Dur", "BEAT", "KEY"):
            return "VOICE_1"
        if family == "VOICE":
            return f"OCT_{dice.choice((3, 4, 5))}"
        if family == "OCT":
            return f"DEG_{dice.randint(1, 7)}"
        if family in ("DEG", "SHARP", "FLAT"):
            return f"Dur_{dice.choice((120, 240, 240, 480))}"
        if family == "BAR":
            return "BEAT_1"
        if family == "KEY":
            return "BAR"
        if family == "BEAT":
            return f"VOICE_{dice.randint(1, 3)}"
        if family == "Dur":
            voice = self._last_voice()
            if voice < 4 and dice.random() < 0.4:
                return f"VOICE_{voice + 1}"
            into = self._into_beat()
            if into in (0, 120):
                return f"TimeShift_{120 if into else dice.choice((120, 240))}"
            return f"TimeShift_{max(step for step in self.vocab.time_shift_bins if step <= 480 - into)}"
        if family == "TimeShift":
            into = self._into_beat()
            if into == 0:
                beat = self._beat()
                return "BAR" if beat == 4 else f"BEAT_{beat + 1}"
            return f"VOICE_{dice.randint(1, 3)}"
        raise AssertionError(last)

    def _next_of_chords(self, family: str) -> str | None:
        """Four voices strike every half note and hold it; a clock that stops elsewhere has a chord there."""
        into, beat = self._into_beat(), self._beat()
        left = 960 - ((beat - 1) % 2 * 480 + into)
        if family == "DEG":
            return f"Dur_{max(ticks for ticks in self.vocab.duration_bins if ticks <= left)}"
        if family == "BEAT":
            return "VOICE_1" if beat % 2 else "TimeShift_480"
        if family == "TimeShift":
            return "VOICE_1" if into else "BAR" if beat == 4 else f"BEAT_{beat + 1}"
        voice = self._last_voice()
        if voice < 4:
            return f"VOICE_{voice + 1}"
        return f"TimeShift_{max(step for step in self.vocab.time_shift_bins if step <= 480 - into)}"

    def _last_voice(self) -> int:
        return int(next(self.names[token] for token in reversed(self.ids)
                        if self.names[token].startswith("VOICE_"))[-1])

    def _into_beat(self) -> int:
        ticks = 0
        for token in reversed(self.ids):
            name = self.names[token]
            if name.startswith("BEAT_"):
                return ticks % 480
            if name.startswith("TimeShift_"):
                ticks += int(name.split("_")[1])
        return ticks % 480

    def _beat(self) -> int:
        return int(next(self.names[token] for token in reversed(self.ids)
                        if self.names[token].startswith("BEAT_"))[-1])
