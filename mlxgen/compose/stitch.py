"""Chunks of ids -> one piece: where a chunk may be cut, and how notes meet at a seam.

A chunk is whole bars: its ids begin with a bar's opening and end just before the next one. So a seam is
always a bar line, and the bars of a piece are the bars of its chunks, in every meter. This file knows
nothing about models or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxgen.music.decode import Decoder
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import key_id
from mlxgen.music.theory import Key, bar_ticks
from mlxgen.music.vocab import Vocab


@dataclass(frozen=True)
class Part:
    """The ids of some whole bars, and the key that their degrees are counted in."""

    ids: Sequence[int]
    key: Key


def bar_openings(ids: Sequence[int], vocab: Vocab) -> list[int]:
    """Where each bar begins: the index of its BAR, or of a SECTION_ token written right before that BAR."""
    sections = set(vocab.family("SECTION_").values())
    bar = vocab["BAR"]
    return [index - 1 if index and ids[index - 1] in sections else index
            for index, token in enumerate(ids) if token == bar]


def bar_count(ids: Sequence[int], vocab: Vocab) -> int:
    """How many bars are opened."""
    bar = vocab["BAR"]
    return sum(token == bar for token in ids)


def cut_last_bar(ids: Sequence[int], vocab: Vocab) -> list[int]:
    """The ids without their last bar, which is taken to be unfinished. Empty if there is no other."""
    openings = bar_openings(ids, vocab)
    return list(ids[:openings[-1]]) if openings else []


def take_bars(ids: Sequence[int], bars: int, vocab: Vocab) -> list[int]:
    """The first `bars` bars (all of them if there are no more)."""
    openings = bar_openings(ids, vocab)
    return list(ids[:openings[bars]]) if bars < len(openings) else list(ids)


def context_of(ids: Sequence[int], limit: int, vocab: Vocab) -> list[int]:
    """The longest tail of at most `limit` ids that begins with a bar; empty if the last bar is longer."""
    for opening in bar_openings(ids, vocab):
        if len(ids) - opening <= limit:
            return list(ids[opening:])
    return []


def join_voice(notes: Sequence[Note]) -> list[Note]:
    """One voice without overlaps, in time order.

    A note that is struck again at its own pitch while it still sounds is one tied note; any other note
    that still sounds when the next begins ends there. Two notes at one instant: the longer one stays.
    """
    joined: list[Note] = []
    for note in sorted(notes, key=lambda note: (note.start_ticks, -note.duration_ticks)):
        if joined and joined[-1].end_ticks > note.start_ticks:
            held = joined[-1]
            if held.pitch == note.pitch:
                end_ticks = max(held.end_ticks, note.end_ticks)
                joined[-1] = held._replace(duration_ticks=end_ticks - held.start_ticks)
                continue
            if held.start_ticks == note.start_ticks:
                continue
            joined[-1] = held._replace(duration_ticks=note.start_ticks - held.start_ticks)
        joined.append(note)
    return joined


def decode_part(part: Part, meter: tuple[int, int], voices: int, vocab: Vocab) -> list[list[Note]]:
    """The notes of some whole bars, per voice, the first bar line at tick 0."""
    decoder = Decoder(vocab, key=part.key, meter=meter)
    found: list[list[Note]] = [[] for _ in range(voices)]
    for token in part.ids:
        for voice, note in decoder.feed(token):
            found[voice - 1].append(note)
    return found


def stitch(parts: Sequence[Part], meter: tuple[int, int], voices: int, vocab: Vocab,
           tempo_bpm: float = 80.0, title: str = "") -> tuple[Piece, list[int]]:
    """The parts one after another -> (piece in the first part's key, tick at which each part begins).

    Rests stay rests: a part is as long as its bars, whatever sounds in them.
    """
    if not parts:
        raise ValueError("nothing to stitch: no parts")
    found: list[list[Note]] = [[] for _ in range(voices)]
    starts_ticks: list[int] = []
    now_ticks = 0
    for part in parts:
        starts_ticks.append(now_ticks)
        for voice, notes in enumerate(decode_part(part, meter, voices, vocab)):
            found[voice] += [note._replace(start_ticks=note.start_ticks + now_ticks) for note in notes]
        now_ticks += bar_count(part.ids, vocab) * bar_ticks(meter)
    piece = Piece([join_voice(notes) for notes in found], key=parts[0].key, meter=meter,
                  tempo_bpm=tempo_bpm, title=title)
    return piece, starts_ticks


def stitch_ids(parts: Sequence[Part], vocab: Vocab) -> list[int]:
    """The parts as one stream of ids; a KEY_ token stands where the key changes."""
    ids: list[int] = []
    for before, part in zip([None, *parts], parts, strict=False):
        if before is not None and part.key != before.key:
            ids.append(key_id(part.key, vocab))
        ids += part.ids
    return ids
