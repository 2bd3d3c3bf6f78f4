"""A decoder that lags behind the ids drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mlxgen.music.decode import Decoder


class Reader:
    """Feeds a decoder late, so that a step costs it nothing and a rewind is cheap.

    Ids wait in `_waiting` until someone asks for the decoder or they are too old to be taken back.
    """

    def __init__(self, decoder: Decoder, slack: int):
        self._decoder, self._slack = decoder, slack
        self._waiting: list[int] = []
        self._snapshots: deque = deque(maxlen=slack + 1)  # one before each id that was fed

    def take(self, ids: Sequence[int]) -> None:
        self._waiting += ids
        if len(self._waiting) > 4 * self._slack + 256:
            self._feed(len(self._waiting) - self._slack - 1)

    def give_back(self, count: int) -> None:
        kept = len(self._waiting) - count
        if kept >= 0:
            del self._waiting[kept:]
            return
        self._waiting.clear()
        for _ in range(-kept):
            snapshot = self._snapshots.pop()
        self._decoder.restore(snapshot)

    def decoder(self) -> Decoder:
        self._feed(len(self._waiting))
        return self._decoder

    def fork(self) -> Reader:
        twin = Reader(self._decoder.fork(), self._slack)
        twin._waiting, twin._snapshots = list(self._waiting), deque(self._snapshots, maxlen=self._slack + 1)
        return twin

    def _feed(self, count: int) -> None:
        for token in self._waiting[:count]:
            self._snapshots.append(self._decoder.snapshot())
            self._decoder.feed(token)
        del self._waiting[:count]
