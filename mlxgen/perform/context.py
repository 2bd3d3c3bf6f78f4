"""Context: an engine, its decoder and the performance's tick line, moved together and written down.

Everything that decides which ids come is an operation here, and each operation is handed to `journal` as a
dict. `replay.py` does the same operations again from the log, with the model or without one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlxgen.music.decode import Decoder
from mlxgen.music.piece import Note
from mlxgen.music.vocab import Vocab

Voiced = list[tuple[int, Note]]     # (voice 1.., note on the performance's tick line)
READ_IDS = 64                       # of a history are read at once: what the model computes in one block
IDS_PER_BEAT = 20                   # while nothing is known: four voices
JOURNAL_IDS = 32                    # drawn ids a line of the journal holds at most


@dataclass
class Prepared:
    """A context that can be gone on in: `pinned` ids, then a `history` whose first id stands at
    `start_ticks`. The first `prefix_ids` of the pinned ones are the conditioning; `pin_more` ids that come
    after all these never leave the engine's context either.
    """

    prefix_ids: int
    pinned: Sequence[int]
    history: Sequence[int]
    start_ticks: int
    seed: int
    pin_more: int = 0
    engine: object = None       # has read all that

    @property
    def ids(self) -> list[int]:
        return [*self.pinned, *self.history]


class Context:
    """`make_engine(pinned, seed)` gives an engine that pins its first `pinned` ids and has seen nothing yet.

    `now_ticks` never depends on where the history was cut: it counts from the beginning of the performance.
    """

    def __init__(self, make_engine: Callable, vocab: Vocab, journal: Callable[[dict], None], slack: int,
                 beat_ticks: int):
        self._make_engine, self.vocab, self._journal = make_engine, vocab, journal
        self.slack, self.beat_ticks = slack, beat_ticks
        self.engine = None
        self.pinned = 0                     # so many ids never leave the engine's context
        self.ids: list[int] = []            # since the cut, without the pinned prefix
        self.ticks: list[int] = []          # the clock after each of them
        self._ends: list[dict[int, int]] = []   # likewise: {voice: where its last note ends}
        self._snapshots: list = []          # decoder states before the last ids, at most `slack`
        self._drawn: list[int] = []         # not in the journal yet
        self.changes = 0                    # how often something that had been said was taken back
        self._bar = vocab["BAR"]

    @property
    def now_ticks(self) -> int:
        return self._origin + self.decoder.now_ticks

    @property
    def tentative(self) -> int:
        """How many ids can be taken back."""
        return len(self._snapshots)

    def open_engine(self, wanted: Prepared):
        """An engine of its own for it, which has read nothing yet; what is going on is not touched."""
        return self._make_engine(len(wanted.pinned) + wanted.pin_more, wanted.seed)

    def prepare(self, wanted: Prepared) -> None:
        """Read it, in blocks: who reads it again in other blocks has other last digits, and other draws."""
        wanted.engine = self.open_engine(wanted)
        for first in range(0, len(wanted.ids), READ_IDS):
            wanted.engine.prefill(wanted.ids[first:first + READ_IDS])

    def adopt(self, prepared: Prepared) -> None:
        """Go on in what was prepared."""
        self.flush()
        self.changes += 1
        self.engine, self._prefix_ids = prepared.engine, prepared.prefix_ids
        self.pinned = len(prepared.pinned) + prepared.pin_more
        self.decoder = Decoder(self.vocab, keep_notes=False)
        for token in prepared.pinned:
            self.decoder.feed(token)
        self._origin = prepared.start_ticks - self.decoder.now_ticks
        self.ids, self.ticks, self._ends, self._snapshots = [], [], [], []
        for token in prepared.history:
            self._read(token)
        entry = {name: value for name, value in vars(prepared).items() if name != "engine"}
        self._journal({"op": "reset", **entry})

    def replace_prefix(self, prefix: Sequence[int]) -> None:
        """Other conditioning in front of the same music, in the same key, meter and form."""
        self.flush()
        self.engine.replace_prefix(self._prefix_ids, prefix)
        self._prefix_ids = len(prefix)
        self._journal({"op": "prefix", "ids": list(prefix)})

    def step(self) -> tuple[int, Voiced]:
        """Draw one id: (id, the notes it completes)."""
        token = self.engine.step().ids[0]
        return token, self.drew(token)

    def drew(self, token: int) -> Voiced:
        """One id that the engine has drawn: the notes it completes."""
        self._drawn.append(token)
        if len(self._drawn) >= JOURNAL_IDS:
            self.flush()
        return self.take(token)

    def append(self, ids: Sequence[int], *, heard: bool = True) -> Voiced:
        """Ids that were not drawn: a theme, a last chord. `heard` False: somebody else plays them."""
        self.flush()
        self.engine.prefill(ids)
        self._journal({"op": "append", "ids": list(ids), "heard": heard})
        return [note for token in ids for note in self.take(token)]

    def take(self, token: int) -> Voiced:
        """Read one id that the engine has already: the notes it completes."""
        self._snapshots.append(self.decoder.snapshot())
        if len(self._snapshots) > self.slack:
            del self._snapshots[0]
        return self._read(token)

    def _read(self, token: int) -> Voiced:
        notes = [(voice, note._replace(start_ticks=note.start_ticks + self._origin))
                 for voice, note in self.decoder.feed(token)]
        before = self._ends[-1] if self._ends else {}
        self._ends.append({**before, **{voice: note.end_ticks for voice, note in notes}} if notes else before)
        self.ids.append(token)
        self.ticks.append(self.now_ticks)
        return notes

    def rewind_to(self, tick: int, latest: int | None = None) -> tuple[int, ...]:
        """Take back ids so that every note before `tick` stays and none from the new clock on; the voices
        whose notes end at the new clock now, sooner than was said.

        What stays ends with the id that brought the clock to `tick` or past it; where that leaps over
        `latest` it is replaced by a shorter step, and where every voice holds a note past `latest`, the
        notes struck last are shortened too. Ids that are too old to be taken back stay, so the clock may
        come out later than asked.
        """
        first = len(self.ids) - self.tentative
        keep = first
        while keep < len(self.ids) and (keep == 0 or self.ticks[keep - 1] < tick):
            keep += 1
        begin, ids, voices = keep, [], ()
        if latest is not None and keep > max(first, 1) and self.ticks[keep - 1] > latest:
            begin, ids, voices = self._sooner(first, keep, tick, latest)
        self.take_back(len(self.ids) - begin)
        if ids:
            self.append(ids)
        return voices

    def _sooner(self, first: int, keep: int, tick: int, latest: int) -> tuple[int, list[int], tuple]:
        """What stands from which id on, so that the clock stops in [tick, latest] and not where the TimeShift
        at keep - 1 takes it: (index, ids, voices whose notes are shortened).

        A place where a voice is free is best, the strongest of the bar first; else the notes struck last, or
        those before them, are made to end at one; else a beat, though nothing can begin there.
        """
        before, ends = self.ticks[keep - 2], self._ends[keep - 2].values()
        steps = [step for step in self.vocab.time_shift_bins if tick <= before + step <= latest]
        steps.sort(key=lambda step: (-((before + step) & -(before + step)), step))
        shift = {step: self.vocab[f"TimeShift_{step}"] for step in steps}
        free = [step for step in steps if min(ends, default=0) <= before + step]
        if free:
            return keep - 1, [shift[free[0]]], ()
        for start, struck in self._held(first, keep):
            for step in steps:
                if before + step - start in self.vocab.duration_bins:
                    shorter, begin = self.vocab[f"Dur_{before + step - start}"], min(struck)
                    ids = [shorter if index in struck else self.ids[index]
                           for index in range(begin, keep - 1)]
                    return begin, [*ids, shift[step]], tuple(sorted(struck.values()))
        on_beat = [step for step in steps if (before + step) % self.beat_ticks == 0]
        return (keep - 1, [shift[on_beat[0]]], ()) if on_beat else (keep, [], ())

    def _held(self, first: int, keep: int) -> list[tuple[int, dict[int, int]]]:
        """The last note of each voice before id keep - 1, by when it was struck, the latest first: (tick,
        {index of its duration: voice}). Durations before id `first` cannot be taken back.
        """
        held: dict[int, dict[int, int]] = {}
        missing = set(self._ends[keep - 2])
        for index in range(keep - 2, max(first, 1) - 1, -1):
            for voice in [voice for voice in missing
                          if self._ends[index - 1].get(voice) != self._ends[index][voice]]:
                held.setdefault(self.ticks[index], {})[index] = voice
                missing.discard(voice)
            if not missing:
                break
        return sorted(held.items(), reverse=True)

    def take_back(self, count: int) -> None:
        """Take back the last `count` ids, at most `tentative`."""
        if not 0 <= count <= self.tentative:
            raise ValueError(f"take back {count} ids: expected 0 to {self.tentative}")
        if count == 0:
            return
        self.flush()
        self.changes += 1
        self.engine.rewind(count)
        self.decoder.restore(self._snapshots[-count])
        del self._snapshots[-count:], self.ids[-count:], self.ticks[-count:], self._ends[-count:]
        self._journal({"op": "rewind", "count": count})

    def set_params(self, params) -> None:
        self.flush()
        self.engine.params = params
        self._journal({"op": "params", "temperature": params.temperature, "min_p": params.min_p,
                       "top_k": params.top_k, "top_p": params.top_p})

    def set_rules(self, rules) -> None:
        self.flush()
        self.engine.rules = rules
        self._journal({"op": "rules", "grammar": rules.grammar, "ranges": rules.ranges,
                       "soft": sorted(rules.soft), "eos": rules.eos, "bias": rules.bias})

    def history(self, max_ids: int, tick: int, start_ticks: int | None = None) -> tuple[list[int], int]:
        """(the last ids before `tick`, from a bar line on, its tick): from `start_ticks` on, where it is
        known and a bar line; else at most `max_ids`, unless the last bar alone is longer. They end with the
        id that brought the clock to `tick`.
        """
        ids = self.ids[:next((n for n, now in enumerate(self.ticks, 1) if now >= tick), len(self.ids))]
        lines = [index for index, token in enumerate(ids) if token == self._bar]
        if not lines:
            return [], tick
        first = next((index for index in lines if self.ticks[index] == start_ticks), None)
        if first is None:
            first = next((index for index in lines if len(ids) - index <= max_ids), lines[-1])
        return ids[first:], self.ticks[first]

    def ids_in(self, ticks: float) -> float:
        """About how many ids the next `ticks` will take, as the last ones did."""
        recent = self.ticks[-256:]
        passed = recent[-1] - recent[0] if recent else 0
        return ticks * (len(recent) - 1) / passed if passed else ticks * IDS_PER_BEAT / self.beat_ticks

    def ids_after(self, tick: float) -> int:
        """How many ids stand after `tick`."""
        return len(self.ticks) - bisect_right(self.ticks, tick)

    def forget(self, max_ids: int) -> None:
        """Drop the oldest ids, so that an endless performance stays small."""
        surplus = len(self.ids) - max(max_ids, self.slack + 1)
        if surplus > max_ids // 2:
            del self.ids[:surplus], self.ticks[:surplus], self._ends[:surplus]

    def flush(self) -> None:
        """Put what was drawn into the journal."""
        if self._drawn:
            self._journal({"op": "draw", "ids": self._drawn})
            self._drawn = []
