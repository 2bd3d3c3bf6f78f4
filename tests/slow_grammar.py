"""The grammar said again, slowly, from its definition: names and ticks, no tables."""

from __future__ import annotations

from math import gcd

from mlxgen.music.encode import pitch_ids, time_shift_ids
from mlxgen.music.theory import bar_ticks, beat_ticks
from mlxgen.sampling.context import Context
from mlxgen.sampling.ranges import voice_range


class SlowGrammar:
    """Feed names after the prefix; `allowed()` is the set of names that may follow."""

    def __init__(self, vocab, context: Context, ranges: bool = True):
        self.vocab, self.context = vocab, context
        self.bar_ticks, self.beat_ticks = bar_ticks(context.meter), beat_ticks(context.meter)
        self.voices = context.voice_count(vocab)
        self.unit_ticks = gcd(*vocab.duration_bins, *vocab.time_shift_bins)
        self.spellings = {}
        for voice in range(1, self.voices + 1):
            low, high = voice_range(context, voice, vocab) if ranges else (vocab.min_pitch, vocab.max_pitch)
            names = {tuple(vocab.name(token) for token in pitch_ids(pitch, context.key, vocab))
                     for pitch in range(low, high + 1)}
            self.spellings[voice] = names
        self.voice = 0
        self.open: set[int] = set()
        self.state = "start"
        self.restart()

    def restart(self):
        self.now = 0  # ticks since the beginning of the bar
        self.until = {voice: 0 for voice in range(1, self.voices + 1)}  # ticks from the bar's beginning
        self.last = 0  # the voice that attacked last at this instant
        self.shifts: list[str] = []  # since the last note or line
        self.pitch: tuple[str, ...] = ()
        self.marked = ""

    # who may sing

    def singers(self):
        return [self.voice] if self.context.sequential else range(1, self.voices + 1)

    def free(self, voice, at=None):
        return self.until[voice] <= (self.now if at is None else at)

    def line(self):
        return (self.now // self.beat_ticks + 1) * self.beat_ticks

    def shift_ok(self, name):
        """Some gap that begins with the shifts so far and this one ends on a line or where one may attack."""
        begun = self.now - sum(int(shift[10:]) for shift in self.shifts)
        for end in range(self.now + self.unit_ticks, self.line() + 1, self.unit_ticks):
            written = [self.vocab.name(token) for token in time_shift_ids(end - begun, self.vocab)]
            if written[:len(self.shifts) + 1] == [*self.shifts, name] and (
                    end == self.line() or any(self.free(voice, end) for voice in self.singers())):
                return True
        return False

    # what may follow

    def allowed(self) -> set[str]:
        return getattr(self, "_after_" + self.state)() & set(self.vocab.ids)

    def _after_start(self):
        return {f"VOICE_{self.voice + 1}"} if self.context.sequential else {"BAR", *self._sections()}

    def _after_open(self):
        return {"BAR"}

    def _sections(self):
        return {name for name in self.vocab.ids if name.startswith("SECTION_")}

    def _after_line(self):
        if self.now < self.bar_ticks:
            return {f"BEAT_{self.now // self.beat_ticks + 1}"}
        lower = self.context.sequential and self.voice > 1
        marks = set() if lower or self.marked else {"CAD_PAC", "CAD_IAC", "CAD_HC", "CAD_DC"}
        sections = set() if lower or self.marked == "SECTION" else self._sections()
        return {"BAR"} | marks | sections

    def _after_bar(self):
        return {"BEAT_1"}

    def _attacks(self):
        if self.context.sequential:
            return {spelling[0] for spelling in self.spellings[self.voice]} if not self.last and self.free(
                self.voice) else set()
        return {f"VOICE_{voice}" for voice in range(self.last + 1, self.voices + 1) if self.free(voice)}

    def _after_event(self):
        names = {name for name in self.vocab.ids if name.startswith("TimeShift_") and self.shift_ok(name)}
        attacks = self._attacks()
        names |= attacks | ({"SUBJECT_START"} if attacks else set())
        if self.last:
            sounding = self.voice if self.context.sequential else self.last
            names |= {"EOS"} if not self.context.sequential or self.voice == self.voices else {"VOICE_SEP"}
            names |= {"SUBJECT_END"} if sounding in self.open else set()
        return names

    def _after_subject(self):
        return self._attacks()

    def _after_pitch(self):
        longer = {spelling[len(self.pitch)] for spelling in self.spellings[self.voice]
                  if spelling[:len(self.pitch)] == self.pitch and len(spelling) > len(self.pitch)}
        return longer or {f"Dur_{ticks}" for ticks in self.vocab.duration_bins}

    def _after_end(self):
        return {"EOS"}

    # what follows from it

    def feed(self, name: str) -> None:
        family, _, suffix = name.partition("_")
        whole = name in ("SUBJECT_START", "SUBJECT_END", "VOICE_SEP")
        getattr(self, "_on_" + (name if whole else family))(suffix)

    def _on_BAR(self, _):
        if self.state == "line":
            self.until = {voice: end - self.bar_ticks for voice, end in self.until.items()}
        self.now, self.state = 0, "bar"

    def _on_BEAT(self, _):
        self.last, self.shifts, self.marked, self.state = 0, [], "", "event"

    def _on_CAD(self, _):
        self.marked = "CAD"

    def _on_SECTION(self, _):
        self.marked, self.state = "SECTION", self.state if self.state == "line" else "open"

    def _on_TimeShift(self, ticks):
        self.now += int(ticks)
        self.last = 0
        self.shifts.append(f"TimeShift_{ticks}")
        if self.now % self.beat_ticks == 0:
            self.state = "line"

    def _on_VOICE(self, number):
        if self.context.sequential:
            self.voice, self.state = int(number), "open"
            self.restart()
        else:
            if self.state == "subject":
                self.open.add(int(number))
            self.voice, self.pitch, self.state = int(number), (), "pitch"

    def _on_pitch_part(self, name):
        if self.state == "subject":
            self.open.add(self.voice)
        self.pitch, self.state = (*(self.pitch if self.state == "pitch" else ()), name), "pitch"

    def _on_OCT(self, number):
        self._on_pitch_part(f"OCT_{number}")

    def _on_SHARP(self, _):
        self._on_pitch_part("SHARP")

    def _on_DEG(self, number):
        self._on_pitch_part(f"DEG_{number}")

    def _on_Pitch(self, number):
        self._on_pitch_part(f"Pitch_{number}")

    def _on_Dur(self, ticks):
        self.until[self.voice] = self.now + int(ticks)
        self.last = 1 if self.context.sequential else self.voice
        self.shifts, self.pitch, self.state = [], (), "event"

    def _on_SUBJECT_START(self, _):
        self.state = "subject"

    def _on_SUBJECT_END(self, _):
        self.open.discard(self.voice)

    def _on_VOICE_SEP(self, _):
        self.state = "start"
        self.open.clear()

    def _on_EOS(self, _):
        self.state = "end"
