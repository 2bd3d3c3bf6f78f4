"""What each control does to a session: a row and a function each."""

from __future__ import annotations

from dataclasses import replace

from mlxgen.music.prompt import make_prefix
from mlxgen.music.theory import Key
from mlxgen.perform.material import density_bias
from mlxgen.perform.modulation import ASKED_S, Modulation
from mlxgen.perform.shared import Position

CADENCE_BARS = 8        # asked to end, the music gets this long to find its own ending


def turn_sampling(session, name: str, value: float, position: Position) -> None:
    session.params = replace(session.params, **{name: value})
    session.rewind_for(name, position)
    session.context.set_params(session.params)


def turn_density(session, name: str, value: float, position: Position) -> None:
    session.rules = replace(session.rules, bias=density_bias(value, session.vocab))
    session.rewind_for(name, position)
    session.context.set_rules(session.rules)


def turn_character(session, name: str, value: str, position: Position) -> None:
    """Another prefix in front of the same music."""
    changed = replace(session.conditioning, **{name: value})
    make_prefix(changed, session.key, session.vocab)
    session.conditioning = changed
    if session.answer.listening:
        session.answer.forget()         # nothing of ours is heard: it is read with the theme
        return
    session.rewind_for(name, position)
    session.prefix_is_stale = True      # of several turns at once, one replacement


def turn_key(session, _name: str, value: str, position: Position) -> None:
    """At a bar line; a knob that comes back to the present key takes back what was asked for."""
    key = Key.parse(value)
    make_prefix(session.conditioning, key, session.vocab)
    session.modulation = Modulation(session, key, position) if key != session.key else None


def recall_theme(session, _name: str, _value, position: Position) -> None:
    session.recall_tick = session.next_bar(position, ASKED_S)


def ask_end(session, _name: str, _value, position: Position) -> None:
    session.ask_end(session.next_bar(position, ASKED_S) + CADENCE_BARS * session.bar)


def panic(session, _name: str, _value, _position: Position) -> None:
    session.restart()


TURNS = {
    "temperature": turn_sampling,
    "min_p": turn_sampling,
    "density": turn_density,
    "style": turn_character,
    "texture": turn_character,
    "imitation": turn_character,
    "harmonic_rhythm": turn_character,
    "harmonic_tension": turn_character,
    "chromaticism": turn_character,
    "key": turn_key,
    "recall": recall_theme,
    "end": ask_end,
    "panic": panic,
}
