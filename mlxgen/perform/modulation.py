"""Modulation: from a bar line on the music is in another key.

What was played is spelled again in the new key (the same pitches, other degrees) and read into an engine of
its own, while the old one's notes stay promised. Only when that is done in time do they give way; a machine
that was too slow plays on in the old key, says so, and tries the next bar line with a shorter history.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlxgen.music.encode import reencode
from mlxgen.music.theory import Key
from mlxgen.perform.shared import Position

ASKED_S = 0.3       # a bar line nearer than this is left to the old key
LEAD_S = 0.5        # the reading is begun so long before the line, not sooner: other controls wait for it
LEAST_IDS = 128     # of history; a machine that reads less in that time begins sooner


@dataclass(frozen=True)
class Modulation:
    """To `key` at `tick`, a bar line."""

    tick: int
    key: Key

    def is_due(self, now_ticks: int, position: Position, lead_ticks: float) -> bool:
        return now_ticks >= self.tick and self.tick - position.tick <= lead_ticks


def lead_s(session) -> float:
    """How long before its bar line a modulation is begun."""
    reading_s = session.pace.prefill_s(session.context.pinned + LEAST_IDS)
    return max(LEAD_S, session.pace.first_notes_s + reading_s)


def ask_modulation(session, key: Key, position: Position) -> Modulation:
    """At the next bar line."""
    return Modulation(session.next_bar(position, ASKED_S), key)


def modulate(session, modulation: Modulation, position: Position) -> Modulation | None:
    """Do it; what is to be tried again at another bar line when there was too little time."""
    asked_s, key, pace = session.now(), modulation.key, session.pace
    left_s = (modulation.tick - position.tick) / session.rate(position) - pace.first_notes_s
    most_ids = min(session.settings.history_ids, pace.affordable_ids(left_s) - session.context.pinned)
    prepared = session.prepare(key, *_spell_again(session, modulation, most_ids))
    total = len(prepared.pinned) + len(prepared.history)
    began_s = session.now()
    left_s -= began_s - asked_s     # spelling takes its time as well

    def in_time(read: int) -> bool:
        if not read:
            return pace.prefill_s(total) <= left_s
        took_s = session.now() - began_s
        pace.prefilled(read, took_s)
        return took_s * total / read <= left_s

    if session.context.prepare(prepared, in_time) and session.now() - began_s <= left_s:
        session.rewind_to(modulation.tick, by="key")
        session.adopt(prepared, key)
        return None
    session.sink.say(f"{key.name}: no time to read the music again before this bar line, trying the next")
    late_by = (session.now() - asked_s) * session.rate(position)
    return Modulation(session.next_bar(position, lead_s(session), late_by), key)


def _spell_again(session, modulation: Modulation, most_ids: int) -> tuple[list[int], int]:
    """(at most `most_ids` of history in the new key, its first tick); another key may take more accidentals
    and so more ids.
    """
    allowed = most_ids
    for _ in range(3):
        history, start_ticks = session.context.history(allowed, modulation.tick)
        spelled = reencode(history, session.vocab, modulation.key, session.key)
        if len(spelled) <= most_ids:
            break
        allowed = min(len(history) - 1, len(history) * most_ids // len(spelled))
    return spelled, start_ticks
