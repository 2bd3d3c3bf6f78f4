"""What a chain does next: which section, how far to go, and the ids it begins from.

A pure function of the settings and of the chunks composed so far, so that a resumed run takes the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlxgen.compose.ending import encode_bars
from mlxgen.compose.plan import Section
from mlxgen.compose.settings import LEAST_WINDOW, ChainSettings
from mlxgen.compose.stitch import Part, bar_count, context_of, stitch
from mlxgen.music.encode import encode_events, reencode
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import make_prefix
from mlxgen.music.theory import SCALES, Key, degree_to_pitch, pitch_to_degree
from mlxgen.music.vocab import Vocab

ENDING_SLACK_BARS = 3  # a section that counts bars may close this many bars late; early, see early_bars
ENDING_ROOM_BARS = 4   # bars left to a closing chunk: a close needs music before it


@dataclass(frozen=True)
class Chunk:
    """One finished chunk: whole bars of ids in `key`, and how they were chosen.

    forced       how many of the ids were stated (theme, recall, repeat), not drawn
    cadence      what it closes with: "PAC", "IAC", "HC" or ""
    candidates   a row each: number, score, dimensions, surprisal, tokens, bars, cadence
    """

    section: int
    key: Key
    ids: list[int]
    forced: int = 0
    closing: bool = False
    cadence: str = ""
    pick: int | None = None
    context_tokens: int = 0
    candidates: list[dict] = field(default_factory=list)

    @property
    def part(self) -> Part:
        return Part(self.ids, self.key)


@dataclass(frozen=True)
class Step:
    """The next chunk to compose. `goal_bars` is set when the section counts bars: what is left of it."""

    number: int
    section: int
    key: Key
    closing: bool
    last: bool
    goal_bars: int | None = None
    repeat: list[int] | None = None


def tokens_per_bar(settings: ChainSettings, chunks: Sequence[Chunk], vocab: Vocab) -> float:
    """Measured on what is composed; a guess before that."""
    bars = sum(bar_count(chunk.ids, vocab) for chunk in chunks)
    if bars < 2:
        return settings.tokens_per_bar()
    return sum(len(chunk.ids) for chunk in chunks) / bars


def next_step(settings: ChainSettings, chunks: Sequence[Chunk], vocab: Vocab) -> Step | None:
    """The chunk after `chunks`; None when the plan is done."""
    index = chunks[-1].section if chunks else 0
    own = [chunk for chunk in chunks if chunk.section == index]
    if own and _is_done(settings, own, vocab):
        index, own = index + 1, []
    sections = settings.plan.sections
    if index >= len(sections):
        return None
    section = sections[index]
    last = index == len(sections) - 1
    step = Step(len(chunks) + 1, index, section.key_from(settings.key), closing=True, last=last)
    if section.repeat is not None:
        source = next(number for number, other in enumerate(sections) if other.name == section.repeat)
        ids = [token for chunk in chunks if chunk.section == source for token in chunk.ids]
        key = next(chunk.key for chunk in chunks if chunk.section == source)
        return replace(step, repeat=ids, key=key)
    if section.chunks is not None:
        return replace(step, closing=len(own) == section.chunks - 1)
    left = section.bars - sum(bar_count(chunk.ids, vocab) for chunk in own)
    capacity = settings.chunk_tokens / tokens_per_bar(settings, chunks, vocab)
    return replace(step, closing=left <= capacity + ENDING_ROOM_BARS, goal_bars=left)


def _is_done(settings: ChainSettings, own: Sequence[Chunk], vocab: Vocab) -> bool:
    section = settings.plan.sections[own[-1].section]
    if section.repeat is not None:
        return True
    if section.chunks is not None:
        return len(own) >= section.chunks
    # a closing chunk that found no cadence and ran out of ids early is followed by another
    bars = sum(bar_count(chunk.ids, vocab) for chunk in own)
    return bars >= section.bars - (early_bars(section) if own[-1].closing else 0)


def early_bars(section: Section) -> int:
    """How many bars before its goal a section that counts bars may close: a quarter, at most three."""
    return min(ENDING_SLACK_BARS, section.bars // 4)


@dataclass(frozen=True)
class Prompt:
    """What the model reads before it draws: prefix, pinned theme, context, the next bar's opening.

    `opening` is the part that belongs to the new chunk: a stated theme, and the first bar's BAR BEAT_1.
    """

    prefix: list[int]
    context: list[int]
    opening: list[int]

    @property
    def ids(self) -> list[int]:
        return [*self.prefix, *self.context, *self.opening]


def make_prompt(settings: ChainSettings, chunks: Sequence[Chunk], step: Step, vocab: Vocab,
                room: int) -> Prompt:
    """The prompt of a chunk; `room` is how many ids it may have. ValueError if the prefix does not fit."""
    section = settings.plan.sections[step.section]
    conditioning = section.conditioning(settings.conditioning).with_defaults()
    prefix = make_prefix(conditioning, step.key, vocab)
    opening = _opening(settings, chunks, step, vocab)
    pinned = _theme_bars(settings.theme_piece(), vocab) if chunks else []
    if settings.window is not None and settings.window < len(prefix) + len(pinned) + LEAST_WINDOW // 2:
        pinned = []  # a window that holds little else than the theme would forget the music
    left = room - len(prefix) - len(opening)
    if left < 0:
        raise ValueError(f"chunk_tokens {settings.chunk_tokens}: leaves no room for the {len(prefix)} ids of "
                         f"the prefix and {len(opening)} of the opening; expected at most "
                         f"{settings.chunk_tokens + left}")
    context = _context(settings, chunks, step.key, vocab, min(settings.overlap, left))
    whole = sum(len(chunk.ids) for chunk in chunks) == len(context)
    if whole or len(pinned) + len(context) > left:
        pinned = []
    return Prompt([*prefix, *pinned], context, opening)


def _context(settings: ChainSettings, chunks: Sequence[Chunk], key: Key, vocab: Vocab,
             limit: int) -> list[int]:
    """The last bars composed, at most `limit` ids, spelled in `key`."""
    if not chunks or limit <= 0:
        return []
    spelled: list[int] = []
    for chunk in chunks:
        spelled += chunk.ids if chunk.key == key else reencode(chunk.ids, vocab, key, chunk.key)
    return context_of(spelled, limit, vocab)


def _opening(settings: ChainSettings, chunks: Sequence[Chunk], step: Step, vocab: Vocab) -> list[int]:
    """The first ids of the chunk: the theme, an earlier section's theme, or just a bar line."""
    section = settings.plan.sections[step.section]
    begins = not chunks or chunks[-1].section != step.section
    marked = section_ids(section, vocab)
    if not chunks and settings.theme:
        return [*marked, *_theme_opening(settings.theme_piece(), vocab)]
    if begins and section.recall is not None:
        return [*marked, *_recalled(settings, chunks, section.recall, section.recall_bars, step.key, vocab),
                *_bar_line(vocab)]
    return [*marked, *_bar_line(vocab)]


def section_ids(section: Section, vocab: Vocab) -> list[int]:
    """The SECTION_ token of a section, if the vocabulary has one for it: the token it asks for, else its
    name, or an abbreviation of at least three letters ("recapitulation": SECTION_RECAP).

    It stands before the first bar of every chunk of the section: the model may see no earlier one.
    """
    wanted = (section.token or section.name).upper().replace(" ", "_")
    fits = [name for name in vocab.family("SECTION_")
            if name == wanted or (len(name) >= 3 and wanted.startswith(name))]
    return [vocab[f"SECTION_{max(fits, key=len)}"]] if fits else []


def _bar_line(vocab: Vocab) -> list[int]:
    return [vocab[name] for name in ("BAR", "BEAT_1") if name in vocab]


def _theme_bars(theme: Piece | None, vocab: Vocab) -> list[int]:
    return [] if theme is None else encode_bars(theme, 0, theme.length_bars, vocab)


def _theme_opening(theme: Piece, vocab: Vocab) -> list[int]:
    """The theme up to its last attack: the music goes on from there, under the note that still sounds."""
    return encode_events(theme, vocab)


def _recalled(settings: ChainSettings, chunks: Sequence[Chunk], name: str, bars: int, key: Key,
              vocab: Vocab) -> list[int]:
    """The first bars of an earlier section, moved to `key`."""
    source = next(index for index, section in enumerate(settings.plan.sections) if section.name == name)
    own = [chunk.part for chunk in chunks if chunk.section == source]
    piece, _ = stitch(own, settings.meter, settings.voices, vocab)
    bars = min(bars, sum(bar_count(part.ids, vocab) for part in own))
    return encode_bars(move_to_key(piece, key, vocab), 0, bars, vocab)


def move_to_key(piece: Piece, key: Key, vocab: Vocab) -> Piece:
    """The piece on the same scale degrees of `key`, moved the shorter way, and back by an octave where that
    leaves the vocabulary's range."""
    rise = (key.root - piece.key.root) % 12
    rise -= 12 if rise > 6 else 0
    voices = []
    for voice in piece.voices:
        moved = [note._replace(pitch=_same_degree(note.pitch, piece.key, key, rise)) for note in voice]
        voices.append(_in_range(moved, vocab))
    return replace(piece, voices=voices, key=key)


def _same_degree(pitch: int, old: Key, new: Key, rise: int) -> int:
    if old.mode == new.mode:
        return pitch + rise
    octave, degree, alteration = pitch_to_degree(pitch, old)
    natural = degree_to_pitch(octave, degree, 0, old)
    raised = SCALES[new.mode][degree - 1] - SCALES[old.mode][degree - 1]
    # an altered degree keeps its sound (a leading tone stays one); a natural one follows the mode
    return pitch + rise if alteration else natural + raised + rise


def _in_range(voice: list[Note], vocab: Vocab) -> list[Note]:
    if not voice:
        return voice
    low, high = min(note.pitch for note in voice), max(note.pitch for note in voice)
    shift = 12 if low < vocab.min_pitch else -12 if high > vocab.max_pitch else 0
    return [note._replace(pitch=note.pitch + shift) for note in voice]
