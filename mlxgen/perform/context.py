"""Context: an engine, its decoder and the performance's tick line, moved together and written down.

Everything that decides which ids come is an operation here, and each operation is handed to `journal` as a
dict. `replay.py` does the same operations again from the log, with the model or without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlxgen.music.decode import Decoder
from mlxgen.music.piece import Note
from mlxgen.music.vocab import Vocab

Voiced = list[tuple[int, Note]]     # (voice 1.., note on the performance's tick line)
JOURNAL_IDS = 32                    # drawn ids a line of the journal holds at most


class Context:
    """`make_engine(pinned, seed)` gives an engine that pins its first `pinned` ids and has seen nothing yet.

    `now_ticks` never depends on where the history was cut: it counts from the beginning of the performance.
    """

    def __init__(self, make_engine: Callable, vocab: Vocab, journal: Callable[[dict], None], slack: int):
        self._make_engine, self.vocab, self._journal = make_engine, vocab, journal
        self.slack = slack
        self.engine = None
        self.ids: list[int] = []            # since the cut, without the pinned prefix
        self.ticks: list[int] = []          # the clock after each of them
        self._snapshots: list = []          # decoder states before the last ids, at most `slack`
        self._drawn: list[int] = []         # not in the journal yet
        self._bar = vocab["BAR"]

    @property
    def now_ticks(self) -> int:
        return self._origin + self.decoder.now_ticks

    @property
    def tentative(self) -> int:
        """How many ids can be taken back."""
        return len(self._snapshots)

    def reset(self, pinned: Sequence[int], history: Sequence[int], start_ticks: int, seed: int,
              pin_more: int = 0) -> None:
        """Begin anew with `pinned` and a `history` whose first id stands at `start_ticks`.

        `pin_more` ids after the pinned ones never leave the engine's context either.
        """
        self._flush_journal()
        self.engine = self._make_engine(len(pinned) + pin_more, seed)
        self.engine.prefill([*pinned, *history])
        self.decoder = Decoder(self.vocab, keep_notes=False)
        for token in pinned:
            self.decoder.feed(token)
        self._origin = start_ticks - self.decoder.now_ticks
        self.ids, self.ticks, self._snapshots = [], [], []
        for token in history:
            self.decoder.feed(token)
            self.ids.append(token)
            self.ticks.append(self.now_ticks)
        self._journal({"op": "reset", "pinned": list(pinned), "history": list(history),
                       "start_ticks": start_ticks, "seed": seed, "pin_more": pin_more})

    def step(self) -> tuple[int, Voiced]:
        """Draw one id: (id, the notes it completes)."""
        token = self.engine.step().ids[0]
        self._drawn.append(token)
        if len(self._drawn) >= JOURNAL_IDS:
            self._flush_journal()
        return token, self.take(token)

    def append(self, ids: Sequence[int], *, heard: bool = True) -> Voiced:
        """Ids that were not drawn: a theme, a last chord. `heard` False: somebody else plays them."""
        self._flush_journal()
        self.engine.prefill(ids)
        self._journal({"op": "append", "ids": list(ids), "heard": heard})
        return [note for token in ids for note in self.take(token)]

    def take(self, token: int) -> Voiced:
        """Read one id that the engine has already: the notes it completes."""
        self._snapshots.append(self.decoder.snapshot())
        if len(self._snapshots) > self.slack:
            del self._snapshots[0]
        notes = [(voice, note._replace(start_ticks=note.start_ticks + self._origin))
                 for voice, note in self.decoder.feed(token)]
        self.ids.append(token)
        self.ticks.append(self.now_ticks)
        return notes

    def rewind_to(self, tick: int, latest: int | None = None) -> int:
        """Take back ids so that every note before `tick` stays and none from the new clock on; the new clock.

        What stays ends with the id that brought the clock to `tick` or past it; where that leaps over
        `latest` it is replaced by a shorter step. Ids that are too old to be taken back stay too, so the
        clock may come out later than asked.
        """
        first = len(self.ids) - self.tentative
        keep = first
        while keep < len(self.ids) and (keep == 0 or self.ticks[keep - 1] < tick):
            keep += 1
        step = self._shorter_step(keep, tick, latest) if keep > first else None
        self.take_back(len(self.ids) - keep + (step is not None))
        if step is not None:
            self.append([self.vocab[f"TimeShift_{step}"]])
        return self.now_ticks

    def _shorter_step(self, keep: int, tick: int, latest: int | None) -> int | None:
        """Ticks of a TimeShift into [tick, latest] instead of the one at keep - 1, which goes further; None
        if it does not. Of several, the one to the strongest place of the bar.
        """
        if latest is None or keep < 2 or self.ticks[keep - 1] <= latest:
            return None
        before = self.ticks[keep - 2]
        steps = [step for step in self.vocab.time_shift_bins if tick <= before + step <= latest]
        return max(steps, key=lambda step: ((before + step) & -(before + step), -step), default=None)

    def take_back(self, count: int) -> None:
        """Take back the last `count` ids, at most `tentative`."""
        if not 0 <= count <= self.tentative:
            raise ValueError(f"take back {count} ids: expected 0 to {self.tentative}")
        if count == 0:
            return
        self._flush_journal()
        self.engine.rewind(count)
        self.decoder.restore(self._snapshots[-count])
        del self._snapshots[-count:], self.ids[-count:], self.ticks[-count:]
        self._journal({"op": "rewind", "count": count})

    def set_params(self, params) -> None:
        self._flush_journal()
        self.engine.params = params
        self._journal({"op": "params", "temperature": params.temperature, "min_p": params.min_p,
                       "top_k": params.top_k, "top_p": params.top_p})

    def set_rules(self, rules) -> None:
        self._flush_journal()
        self.engine.rules = rules
        self._journal({"op": "rules", "grammar": rules.grammar, "ranges": rules.ranges,
                       "soft": sorted(rules.soft), "eos": rules.eos, "bias": rules.bias})

    def history(self, max_ids: int) -> tuple[list[int], int]:
        """(the last ids from a bar line on, its tick): at most `max_ids`, unless the last bar alone is
        longer.
        """
        lines = [index for index, token in enumerate(self.ids) if token == self._bar]
        if not lines:
            return [], self.now_ticks
        first = next((index for index in lines if len(self.ids) - index <= max_ids), lines[-1])
        return self.ids[first:], self.ticks[first]

    def forget(self, max_ids: int) -> None:
        """Drop the oldest ids, so that an endless performance stays small."""
        surplus = len(self.ids) - max(max_ids, self.slack + 1)
        if surplus > max_ids // 2:
            del self.ids[:surplus], self.ticks[:surplus]

    def _flush_journal(self) -> None:
        if self._drawn:
            self._journal({"op": "draw", "ids": self._drawn})
            self._drawn = []

    def flush(self) -> None:
        """Put what was drawn into the journal."""
        self._flush_journal()
