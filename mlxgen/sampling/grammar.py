"""The grammar of the tokenizers as an automaton in two tables: what may follow, and where that leads.

A state says what was written last and where in the bar the clock stands. What a state cannot say, because it
would multiply the states, is kept in a register (registers.py): how long each voice still sounds, and whether
a subject is open in it. An id is allowed by its gate, an entry of the first table that names voices, a limit
and flags: where the shortest of what is left of these voices' notes is below the limit and the flags are set.

VOICE_n asks that nothing is left of voice n's note, so a voice never attacks while it sounds. TimeShift_t
asks about all voices: a shift that stops between two beats is allowed only if some voice can attack there.
SUBJECT_START asks about the voices still to come at this instant. So no state is without a way out.
The second table, moves, holds for every state and id the next state and what happens to the register.

Time is written as the encoder writes it: BAR and BEAT_n exactly when the clock reaches those lines, none
skipped; a gap is cut into the largest shifts first; voices ascend within an instant; a piece ends after a
note.
Every id leads somewhere from every state, also where it is not allowed: a context that no rule has seen
(a user's theme, triplets rounded by the encoder) is followed as the decoder follows it and found again at
its next BEAT.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from mlxgen.music.theory import pitch_to_degree
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.clock import FRESH, ON_LINE, Clock
from mlxgen.sampling.context import Context
from mlxgen.sampling.ranges import voice_range
from mlxgen.sampling.registers import MAX_VOICES, Layout, layout_of, pack_move, unit_of


@dataclass(frozen=True)
class Grammar:
    """Tables of one context. S states, V ids."""

    layout: Layout  # of gates, moves and the register
    gates: np.ndarray  # (S, V)
    gates_ask: np.ndarray  # (S, V): EOS only where a piece ends well
    stress: np.ndarray  # (S,) int32: 1 on the first and the middle beat of a bar, 2 in the beat before one
    moves: np.ndarray  # (S, V) int64, see pack_move
    start: int
    unit_ticks: int


class _Names:
    """The ids of a vocabulary by what they mean."""

    def __init__(self, vocab: Vocab, unit_ticks: int):
        def units(prefix):
            return {int(ticks) // unit_ticks: token for ticks, token in vocab.family(prefix).items()}

        self.shifts, self.durations = units("TimeShift_"), units("Dur_")
        self.voices = {int(n): token for n, token in vocab.family("VOICE_").items() if n.isdigit()}
        self.beats = {int(n): token for n, token in vocab.family("BEAT_").items()}
        self.octaves = {int(n): token for n, token in vocab.family("OCT_").items()}
        self.degrees = {int(n): token for n, token in vocab.family("DEG_").items()}
        self.pitches = {int(n): token for n, token in vocab.family("Pitch_").items()}
        self.accidentals = {sign: vocab[name] for name, sign in (("SHARP", 1), ("FLAT", -1)) if name in vocab}
        self.cadences = list(vocab.family("CAD_").values())
        self.sections = list(vocab.family("SECTION_").values())
        self.bar, self.eos, self.bos = vocab["BAR"], vocab["EOS"], vocab["BOS"]
        self.separator = vocab.get("VOICE_SEP")
        self.subject_start, self.subject_end = vocab.get("SUBJECT_START"), vocab.get("SUBJECT_END")


class _Builder:
    """Fills the tables, one layer a timeline: interleaved has one for all voices, sequential one a voice."""

    def __init__(self, vocab: Vocab, context: Context, ranges: bool):
        self.vocab, self.context = vocab, context
        self.unit_ticks, self.layout = unit_of(vocab), layout_of(vocab)
        self.ids = _Names(vocab, self.unit_ticks)
        self.clock = Clock(context.meter, self.ids.shifts, self.unit_ticks)
        self.rooms = self.clock.rooms()
        self.voices = min(context.voice_count(vocab), MAX_VOICES)
        self.layers = self.voices if context.sequential else 1
        self.pitches = {voice: self._pitches(voice, ranges) for voice in range(1, self.voices + 1)}
        self.places = self._name_places()
        self.controls = ["start", "open", "bar line", "bar line cad", "bar line section", "after bar", "end",
                         *(f"line {beat}" for beat in range(2, self.clock.beats + 1))]
        self.layer_size = len(self.controls) + self.clock.bar * len(self.places)
        size = self.layer_size * self.layers
        if size > 1 << 16:
            raise ValueError(f"meter {context.meter}: {size} grammar states; expected at most {1 << 16}")
        self.gates = np.zeros((size, len(vocab)), dtype=self.layout.gate_type)
        self.moves = np.zeros((size, len(vocab)), dtype=np.int64)

    # names of states

    def _layer_voices(self, layer: int) -> list[int]:
        return [layer + 1] if self.context.sequential else list(range(1, self.voices + 1))

    def _name_places(self) -> dict[tuple, int]:
        """{what was written last: index inside a block of one position}."""
        slots = range(1, 2 if self.context.sequential else self.voices + 1)
        names = [("after", slot) for slot in slots] + [("free", room) for room in self.rooms]
        names += [("subject", slot) for slot in (0, *slots)]
        for slot in slots:
            names += [("voice", slot), ("pitched", slot)]
            for octave in self.ids.octaves:
                names += [("octave", slot, octave, sign) for sign in (0, *self.ids.accidentals)]
        return {name: index for index, name in enumerate(dict.fromkeys(names))}

    def control(self, layer: int, name: str) -> int:
        return layer * self.layer_size + self.controls.index(name)

    def at(self, layer: int, position: int, *place) -> int:
        block = layer * self.layer_size + len(self.controls) + position * len(self.places)
        return block + self.places[place]

    def _line(self, layer: int, position: int) -> int:
        """The state in which the clock has reached the line at `position` and it is not written yet."""
        if position >= self.clock.bar:
            return self.control(layer, "bar line")
        return self.control(layer, f"line {position // self.clock.beat + 1}")

    # pitches

    def _pitches(self, voice: int, ranges: bool) -> set:
        """What a voice may sing: (octave, sign, degree) as the encoder spells it, or pitches."""
        low, high = voice_range(self.context, voice, self.vocab) if ranges else (
            self.vocab.min_pitch, self.vocab.max_pitch)
        if self.vocab.kind == "absolute":
            return set(range(low, high + 1))
        spelled = {pitch_to_degree(pitch, self.context.key) for pitch in range(low, high + 1)}
        return {(octave, sign, degree) for octave, degree, sign in spelled if octave in self.ids.octaves}

    # filling

    def build(self) -> Grammar:
        for layer in range(self.layers):
            for name in self.controls:
                position = 0 if not name.startswith("line") else (int(name[5:]) - 1) * self.clock.beat
                self._follow(self.control(layer, name), layer, position, 0)
            for position in range(self.clock.bar):
                for place in self.places:
                    self._follow_note(self.at(layer, position, *place), layer, position, place)
            self._allow_controls(layer)
            for position in range(self.clock.bar):
                self._allow_events(layer, position)
                self._allow_notes(layer, position)
        ask, stress = self.gates.copy(), np.zeros(len(self.gates), dtype=np.int32)
        beats = {0, *([self.clock.bar // 2] if self.clock.beats % 2 == 0 else [])}
        good = [self.at(self.layers - 1, position, "after", 1 if self.context.sequential else self.voices)
                for position in beats]
        for layer, position, place in product(range(self.layers), range(self.clock.bar), self.places):
            comes = (position // self.clock.beat + 1) * self.clock.beat % self.clock.bar
            stress[self.at(layer, position, *place)] = (position in beats) + 2 * (comes in beats)
        ask[:, self.ids.eos] = 0
        ends = [*good, *(self.control(layer, "end") for layer in range(self.layers))]
        ask[ends, self.ids.eos] = self.layout.gate()
        return Grammar(self.layout, self.gates, ask, stress, self.moves, self.control(0, "start"),
                       self.unit_ticks)

    def _allow(self, state: int, *tokens: int | None, gate: int | None = None) -> None:
        gate = self.layout.gate() if gate is None else gate
        self.gates[state, [token for token in tokens if token is not None]] = gate

    def _allow_controls(self, layer: int) -> None:
        ids = self.ids
        if self.context.sequential:
            self._allow(self.control(layer, "start"), ids.voices[layer + 1])
            self._allow(self.control(layer, "open"), ids.bar)
        else:
            self._allow(self.control(layer, "start"), ids.bar, *ids.sections)
            self._allow(self.control(layer, "open"), ids.bar)
        marks = [] if layer else ids.cadences
        sections = [] if layer else ids.sections
        self._allow(self.control(layer, "bar line"), ids.bar, *marks, *sections)
        self._allow(self.control(layer, "bar line cad"), ids.bar, *sections)
        self._allow(self.control(layer, "bar line section"), ids.bar)
        self._allow(self.control(layer, "after bar"), ids.beats.get(1))
        self._allow(self.control(layer, "end"), ids.eos)
        for beat in range(2, self.clock.beats + 1):
            self._allow(self.control(layer, f"line {beat}"), ids.beats.get(beat))

    def _allow_events(self, layer: int, position: int) -> None:
        """What may follow a finished note or a written line: attacks, shifts, marks, the end."""
        ids, sequential = self.ids, self.context.sequential
        slots = range(1, 2) if sequential else range(1, self.voices + 1)
        for place in [("free", room) for room in self.rooms] + [("after", slot) for slot in slots]:
            state = self.at(layer, position, *place)
            room, last = (place[1], 0) if place[0] == "free" else (FRESH, place[1])
            for shift, token in ids.shifts.items():
                reach = self.clock.reach(position, shift, room)
                gate = None if reach == ON_LINE else self.layout.gate(reach + 1, slots)
                self._allow(state, token, gate=gate)
            if last:
                final = not sequential or layer == self.layers - 1
                self._allow(state, ids.eos if final else ids.separator)
                self._allow(state, ids.subject_end, gate=self.layout.gate(flags=[last]))
            self._allow_attacks(state, layer, last)
            if last < len(slots):
                self._allow(state, ids.subject_start, gate=self.layout.gate(1, slots[last:]))
                self._allow_attacks(self.at(layer, position, "subject", last), layer, last)

    def _allow_attacks(self, state: int, layer: int, last: int) -> None:
        if not self.context.sequential:
            for voice in range(last + 1, self.voices + 1):
                self._allow(state, self.ids.voices[voice], gate=self.layout.gate(1, [voice]))
        elif last == 0:
            self._allow_first_of_pitch(state, layer + 1, gate=self.layout.gate(1, [1]))

    def _allow_first_of_pitch(self, state: int, voice: int, gate: int | None = None) -> None:
        sung = self.pitches[voice]
        if self.vocab.kind == "absolute":
            tokens = [self.ids.pitches[pitch] for pitch in sung]
        else:
            tokens = [self.ids.octaves[octave] for octave in {octave for octave, _, _ in sung}]
        self._allow(state, *tokens, gate=gate)

    def _allow_notes(self, layer: int, position: int) -> None:
        """What may follow inside a note: pitch, then duration."""
        for slot, voice in enumerate(self._layer_voices(layer), start=1):
            self._allow_first_of_pitch(self.at(layer, position, "voice", slot), voice)
            self._allow(self.at(layer, position, "pitched", slot), *self.ids.durations.values())
            if self.vocab.kind == "absolute":
                continue
            for octave, sign, degree in self.pitches[voice]:
                plain = self.at(layer, position, "octave", slot, octave, 0)
                signed = self.at(layer, position, "octave", slot, octave, sign)
                self._allow(signed, self.ids.degrees[degree])
                if sign:
                    self._allow(plain, self.ids.accidentals[sign])

    # where every id leads, allowed or not

    def _follow_note(self, state: int, layer: int, position: int, place: tuple) -> None:
        kind, *rest = place
        slot = rest[0] if kind in ("after", "voice", "pitched", "octave") else 0
        self._follow(state, layer, position, slot, room=rest[0] if kind == "free" else FRESH)
        moves = self.moves[state]
        if kind == "subject":
            for voice in self._layer_voices(layer):
                if not self.context.sequential:
                    here = self.at(layer, position, "voice", voice)
                    moves[self.ids.voices[voice]] = self.layout.mark(here, voice, True)
            if self.context.sequential:
                for octave, token in self.ids.octaves.items():
                    here = self.at(layer, position, "octave", 1, octave, 0)
                    moves[token] = self.layout.mark(here, 1, True)
                pitched = self.at(layer, position, "pitched", 1)
                moves[list(self.ids.pitches.values())] = self.layout.mark(pitched, 1, True)
        if kind == "octave":
            for sign, token in self.ids.accidentals.items():
                moves[token] = pack_move(self.at(layer, position, "octave", slot, rest[1], sign))

    def _follow(self, state: int, layer: int, position: int, slot: int, room: int = FRESH) -> None:
        """The moves of one state; `slot` is the voice named last at this instant (0: none)."""
        ids, row = self.ids, self.moves[state]
        named = slot or 1
        row[:] = pack_move(state)
        for octave, token in ids.octaves.items():
            row[token] = pack_move(self.at(layer, position, "octave", named, octave, 0))
        pitched = self.at(layer, position, "pitched", named)
        row[[*ids.degrees.values(), *ids.pitches.values()]] = pack_move(pitched)
        for units, token in ids.durations.items():
            row[token] = self.layout.attack(self.at(layer, position, "after", named), named, units)
        for units, token in ids.shifts.items():
            row[token] = pack_move(self._after_shift(layer, position, units, room), units)
        self._follow_lines(row, layer, position, slot)
        for voice, token in ids.voices.items():
            if self.context.sequential:
                row[token] = self.layout.reset(self.control(min(voice, self.layers) - 1, "open"))
            else:
                row[token] = pack_move(self.at(layer, position, "voice", min(voice, self.voices)))
        row[ids.eos] = pack_move(self.control(layer, "end"))
        row[ids.bos] = self.layout.reset(self.control(0, "start"))
        if ids.separator is not None:
            row[ids.separator] = self.layout.reset(self.control(min(layer + 1, self.layers - 1), "start"))

    def _after_shift(self, layer: int, position: int, units: int, room: int) -> int:
        line = self.clock.next_line(position)
        if position + units >= line:
            return self._line(layer, line)
        left = self.clock.room_after(units, room)
        return self.at(layer, position + units, "free", left if left in self.rooms else FRESH)

    def _follow_lines(self, row: np.ndarray, layer: int, position: int, slot: int) -> None:
        ids, free = self.ids, ("free", FRESH)
        after_bar = self.control(layer, "after bar") if 1 in ids.beats else self.at(layer, 0, *free)
        row[ids.bar] = pack_move(after_bar)
        for beat, token in ids.beats.items():
            where = (beat - 1) * self.clock.beat
            row[token] = pack_move(self.at(layer, where if where < self.clock.bar else position, *free))
        row[ids.cadences] = pack_move(self.control(layer, "bar line cad"))
        row[ids.sections] = pack_move(self.control(layer, "bar line section"))
        if ids.subject_start is not None:
            row[ids.subject_start] = pack_move(self.at(layer, position, "subject", slot))
        if ids.subject_end is not None and slot:
            row[ids.subject_end] = self.layout.mark(self.at(layer, position, "after", slot), slot, False)


def make_grammar(vocab: Vocab, context: Context, ranges: bool = True) -> Grammar:
    """The automaton of one key, meter, form and way of writing: some thousand states, kept."""
    return _build(vocab, context.for_grammar(), ranges)


@lru_cache(maxsize=64)
def _build(vocab: Vocab, context: Context, ranges: bool) -> Grammar:
    return _Builder(vocab, context, ranges).build()
