"""Practice: reads a block of ids now and then, as a modulation would, to know what that takes at present."""

from __future__ import annotations

from mlxgen.perform.context import READ_IDS, Prepared
from mlxgen.perform.shared import Position

EVERY_S = 2.0


class Practice:
    """`work(position)` whenever there may be time for it. The first blocks, in which everything is new to the
    machine, are not counted; they come one after another, as many as the longest history has.
    """

    def __init__(self, session):
        self.session = session
        self._engine = None
        self._read = 0
        self._due_s = 0.0

    def work(self, position: Position) -> bool:
        """Read a block if it is time and the music a bar ahead."""
        session = self.session
        ids, began_s = session.context.ids[-READ_IDS:], session.now()
        if (began_s < self._due_s or len(ids) < READ_IDS
                or session.context.now_ticks - position.tick < session.bar):
            return False
        if self._engine is None:
            self._engine = session.context.open_engine(Prepared(0, ids[:1], (), 0, session.settings.seed))
        warm = self._read >= session.settings.history_ids
        if warm:
            self._engine.rewind(READ_IDS)
        self._engine.prefill(ids)
        self._read += READ_IDS
        if warm:
            session.pace.read(session.now() - began_s)
            self._due_s = session.now() + EVERY_S
        return True
