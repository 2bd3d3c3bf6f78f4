"""Chunks -> one piece: every note once, ties over seams, rests kept, no overlaps, bars that add up."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from tiny import BINS, make_vocab

from mlxgen.compose.ending import encode_bars
from mlxgen.compose.stitch import (
    Part,
    bar_count,
    bar_openings,
    context_of,
    cut_last_bar,
    join_voice,
    stitch,
    stitch_ids,
    take_bars,
)
from mlxgen.music.decode import Decoder
from mlxgen.music.encode import reencode
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key, bar_ticks

METERS = ((2, 4), (3, 4), (4, 4), (6, 8), (3, 8), (2, 2))
KEYS = [Key(root, mode) for root in range(12) for mode in ("major", "minor")]


def random_voice(rng: random.Random, bars: int, meter, low: int, high: int) -> list[Note]:
    """Notes and rests one after the other; some reach over bar lines."""
    notes, now, end = [], rng.choice([0, 0, 240]), bars * bar_ticks(meter)
    while now < end:
        duration = rng.choice(BINS[:10])
        if rng.random() < 0.85:
            notes.append(Note(now, duration, rng.randint(low, high)))
        now += duration
    return notes


def random_piece(rng: random.Random, meter, bars: int) -> Piece:
    voices = [random_voice(rng, bars, meter, 60 - 7 * voice, 79 - 7 * voice)
              for voice in range(rng.randint(2, 4))]
    return Piece(voices, rng.choice(KEYS), meter)


def assert_no_overlaps(piece: Piece) -> None:
    for voice in piece.voices:
        for before, after in pairwise(voice):
            assert before.end_ticks <= after.start_ticks


@pytest.mark.parametrize("kind", ["scale_degree", "absolute"])
@pytest.mark.parametrize("meter", METERS)
def test_a_piece_cut_at_random_seams_comes_back_note_for_note(meter, kind):
    vocab, rng = make_vocab(kind), random.Random(f"{meter}{kind}")
    for _ in range(84):  # 6 meters x 2 vocabularies x 84 pieces: 1,008 pieces, two or more seams in each
        bars = rng.randint(4, 9)
        piece = random_piece(rng, meter, bars)
        ids = encode_bars(piece, 0, bars, vocab)
        assert bar_count(ids, vocab) == bars
        openings = bar_openings(ids, vocab)
        seams = sorted(rng.sample(range(1, bars), rng.randint(2, 3)))
        edges = [0, *seams, bars]
        parts = []
        for start, end in pairwise(edges):
            own = ids[openings[start]:openings[end] if end < bars else None]
            key = rng.choice([piece.key, rng.choice(KEYS)])
            parts.append(Part(own if key == piece.key else reencode(own, vocab, key, piece.key), key))
        whole, starts = stitch(parts, meter, len(piece.voices), vocab)
        assert whole.voices == piece.voices
        assert starts == [bar * piece.bar_ticks for bar in edges[:-1]]
        assert_no_overlaps(whole)
        decoder, found = Decoder(vocab, parts[0].key, meter), []
        for token in stitch_ids(parts, vocab):
            found += decoder.feed(token)
        assert sorted(found) == sorted((number, note) for number, voice in enumerate(piece.voices, start=1)
                                       for note in voice)


def sounding(notes: list[Note], length: int) -> list[int | None]:
    """What a listener hears in each 32nd: the newest note of the voice, or a tied one that goes on."""
    cells: list[int | None] = [None] * (length // 60)
    for note in sorted(notes, key=lambda note: (note.start_ticks, -note.duration_ticks)):
        start = note.start_ticks // 60
        held = cells[start]
        if held != note.pitch:
            cells[start:] = [None] * (len(cells) - start)
        for cell in range(start, min(len(cells), note.end_ticks // 60)):
            cells[cell] = note.pitch
    return cells


@pytest.mark.parametrize("meter", METERS)
def test_chunks_that_disagree_at_the_seam_never_overlap(meter):
    vocab, rng = make_vocab(), random.Random(f"seam {meter}")
    for _ in range(60):
        pieces = [random_piece(rng, meter, rng.randint(1, 4)) for _ in range(3)]
        voices = max(len(piece.voices) for piece in pieces)
        bars = [max(note.start_ticks for voice in piece.voices for note in voice) // piece.bar_ticks + 1
                for piece in pieces]
        parts = [Part(encode_bars(piece, 0, count, vocab), piece.key)
                 for piece, count in zip(pieces, bars, strict=True)]
        whole, starts = stitch(parts, meter, voices, vocab)
        assert_no_overlaps(whole)
        assert starts == [sum(bars[:index]) * bar_ticks(meter) for index in range(3)]
        for voice in range(voices):
            struck = [note._replace(start_ticks=note.start_ticks + start)
                      for piece, start in zip(pieces, starts, strict=True) if voice < len(piece.voices)
                      for note in piece.voices[voice]]
            length = max((note.end_ticks for note in struck), default=0)
            assert sounding(whole.voices[voice], length) == sounding(struck, length)


def test_a_note_struck_again_while_it_sounds_is_one_tied_note():
    assert join_voice([Note(1440, 960, 60), Note(1920, 960, 60)]) == [Note(1440, 1440, 60)]


def test_a_repeated_note_that_has_ended_stays_two_notes():
    notes = [Note(1440, 480, 60), Note(1920, 480, 60)]
    assert join_voice(notes) == notes


def test_a_held_note_ends_where_the_next_one_begins():
    joined = join_voice([Note(1440, 960, 60), Note(1920, 480, 62)])
    assert joined == [Note(1440, 480, 60), Note(1920, 480, 62)]


def test_of_two_notes_at_one_instant_the_longer_stays():
    assert join_voice([Note(0, 240, 60), Note(0, 480, 64)]) == [Note(0, 480, 64)]


def test_a_bar_of_rests_keeps_its_length():
    vocab = make_vocab()
    silent = Piece([[Note(0, 240, 60)], []], Key(0, "major"), (3, 4))
    parts = [Part(encode_bars(silent, 0, 4, vocab), silent.key)] * 2
    whole, starts = stitch(parts, (3, 4), 2, vocab)
    assert starts == [0, 4 * 1440]
    assert whole.voices[0] == [Note(0, 240, 60), Note(4 * 1440, 240, 60)]


def test_a_cut_keeps_whole_bars_only():
    vocab, rng = make_vocab(), random.Random(3)
    piece = random_piece(rng, (4, 4), 6)
    ids = encode_bars(piece, 0, 6, vocab)
    openings = bar_openings(ids, vocab)
    for end in range(openings[3] + 1, openings[4] + 1):
        assert cut_last_bar(ids[:end], vocab) == ids[:openings[3]]
    assert take_bars(ids, 2, vocab) == ids[:openings[2]]
    assert take_bars(ids, 99, vocab) == ids


def test_a_context_is_the_longest_tail_of_whole_bars_that_fits():
    vocab, rng = make_vocab(), random.Random(4)
    ids = encode_bars(random_piece(rng, (6, 8), 8), 0, 8, vocab)
    openings = bar_openings(ids, vocab)
    for limit in (10, len(ids) - openings[-1], len(ids) - openings[5] - 1, len(ids) - openings[2], 10_000):
        context = context_of(ids, limit, vocab)
        assert len(context) <= limit
        longer = [len(ids) - opening for opening in openings if len(context) < len(ids) - opening <= limit]
        assert not longer
        assert context == ids[len(ids) - len(context):]


def test_nothing_to_stitch_is_an_error():
    with pytest.raises(ValueError, match="no parts"):
        stitch([], (4, 4), 4, make_vocab())
