"""Music: what a metric is given. A texture, heard: its family, keys, events and their surprisal, each worked
out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any

import numpy as np

from mlxgen.music.piece import Piece
from mlxgen.scoring.event_model import Family
from mlxgen.scoring.events import Channel, make_events, roles
from mlxgen.scoring.fingerprint import chord_changes
from mlxgen.scoring.keys import local_keys
from mlxgen.scoring.reference import Reference, load_reference
from mlxgen.scoring.texture import Notes, Past, Texture, make_notes, make_past, make_texture

OPENING_BARS = 4
FAMILY_CHANNELS = ("rhythm", "pair")
DOUBT_NATS = 4.0  # families whose textures are within this of the likeliest's are asked for their events
TEXTURE_SHARE = 0.25  # of the texture's nats: less, and wrong notes turn chorales into quartets


@dataclass(frozen=True)
class Music:
    """`texture` with its reference. `opening` holds the notes of the context's first bars, None for a whole
    piece; `last` whether the music may be asked to end; `surprisal` (T,) nats per token under a model, or
    None."""

    texture: Texture
    reference: Reference
    opening: Notes | None = None
    last: bool = True
    surprisal: np.ndarray | None = None
    memo: dict = field(default_factory=dict, compare=False)  # what several metrics share

    @cached_property
    def family(self) -> int:
        """Index of the corpus family that this music belongs to: by rhythm and texture, and where those
        leave a doubt by the rhythm and the pair motion of its events too. (Chords are not asked: wrong notes
        would turn a chorale into a chromatic quartet.)"""
        behind = self.reference.texture_nats(texture_features(self.texture))
        families = np.flatnonzero(behind <= DOUBT_NATS)
        if len(families) == 1 or not len(self.events["melody"].ticks):
            return int(behind.argmin())
        nats = {
            int(family): {
                name: self.reference.model(family).dense[name].surprisal(self.events[name])
                for name in FAMILY_CHANNELS
            }
            for family in families
        }

        def unlike(family: int) -> float:
            values = (float(one.mean()) for one in nats[family].values() if len(one))
            return sum(values) + TEXTURE_SHARE * float(behind[family])

        likeliest = min(nats, key=unlike)
        self.memo["family nats"] = likeliest, nats[likeliest]
        return likeliest

    @property
    def model(self) -> Family:
        """The event model of the music's family."""
        return self.reference.model(self.family)

    @cached_property
    def keys(self) -> np.ndarray:
        """(S,) the key heard at each slice, mode * 12 + tonic."""
        return local_keys(self.texture, self.reference.profiles)

    @cached_property
    def events(self) -> dict[str, Channel]:
        return make_events(self.texture, self.keys)

    @cached_property
    def nats(self) -> dict[str, np.ndarray]:
        """Channel -> (K,) surprisal of each event, in the channel's order."""
        known, nats = self.memo.get("family nats", (None, None))
        return self.model.surprisal(self.events, nats if known == self.family else None)

    @cached_property
    def changes(self) -> tuple[np.ndarray, np.ndarray]:
        """Changes of chord as tokens, and their ticks: see fingerprint.py."""
        return chord_changes(self.texture)

    @cached_property
    def role(self) -> np.ndarray:
        """(N,) 0 for notes of the top voice, 1 inner, 2 lowest."""
        return roles(self.texture)

    @cached_property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """(3,) lowest and (3,) highest usual pitch of each role."""
        return self.reference.ranges[self.family, :, 0], self.reference.ranges[self.family, :, 1]


def once(function: Callable[[Music], Any]) -> Callable[[Music], Any]:
    """Asks `function` once of each music; several metrics share what it gives."""

    @wraps(function)
    def remembered(music: Music) -> Any:
        if function not in music.memo:
            music.memo[function] = function(music)
        return music.memo[function]

    return remembered


def texture_features(texture: Texture) -> np.ndarray:
    """(6,) what tells families apart and no wrong note can change: log attacks per beat and voice, the share
    of voices attacking together, the share of attacks off the beat, the share of silence, the number of
    voices, and the octaves between the lowest and the highest twentieth of the notes."""
    voices = texture.sounding_voices
    if not len(voices) or not texture.slice_count:
        return np.array([0.0, 1.0, 0.0, 0.0, 4.0, 3.0])
    attacks = texture.attack[:, voices]
    moments = attacks.any(axis=1)
    beats = max(float(texture.length.sum()) / texture.pulse_ticks, 1.0)
    count = float(attacks.sum())
    together = count / max(float(moments.sum()) * len(voices), 1.0)
    off_beat = float(attacks[texture.onset % texture.pulse_ticks != 0].sum()) / max(count, 1.0)
    heard = float((texture.sounding[:, voices] * texture.length[:, None]).sum()) / texture.pulse_ticks
    silent = 1.0 - heard / (beats * len(voices))
    density = np.log(max(count, 1.0) / beats / len(voices))
    low, high = np.quantile(texture.notes.pitch, (0.05, 0.95))
    return np.array([density, together, off_beat, silent, len(voices), (high - low) / 12])


@dataclass(frozen=True)
class Context:
    """What every candidate of a chunk shares: the past as arrays and the notes of the piece's first bars."""

    piece: Piece
    seam_ticks: int | None
    past: Past | None
    opening: Notes | None


_last_context: list[Context] = []  # fifty candidates in a row continue one context: its arrays are made once


def make_context(context: Piece, seam_ticks: int | None = None) -> Context:
    """The arrays of a context; the last one made is kept for the next call with the same Piece object."""
    if _last_context and _last_context[0].piece is context and _last_context[0].seam_ticks == seam_ticks:
        return _last_context[0]
    past = make_past(context, seam_ticks)
    opening = None
    if past is not None:
        opening = make_notes([rows[rows[:, 0] < OPENING_BARS * past.bar_ticks] for rows in past.voices])
    made = Context(context, seam_ticks, past, opening)
    _last_context[:] = [made]
    return made


def make_music(
    piece: Piece,
    context: Piece | None = None,
    *,
    last: bool = True,
    surprisal: Sequence[float] | None = None,
    reference: Reference | None = None,
    seam_ticks: int | None = None,
) -> Music:
    """The piece, or a chunk behind its context, ready for metrics. Raises ValueError as make_texture does."""
    before = None if context is None else make_context(context, seam_ticks)
    texture = make_texture(piece, before and before.past)
    opening = before.opening if before is not None and before.opening is not None else None
    tokens = None if surprisal is None else np.atleast_1d(np.asarray(surprisal, dtype=np.float64))
    if tokens is not None and not np.isfinite(tokens).all():
        raise ValueError("surprisal: expected finite numbers, nats per token")
    return Music(texture, reference or load_reference(), opening, last, tokens)
