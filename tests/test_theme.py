"""Themes written as text."""

from __future__ import annotations

import pytest

from mlxgen.music.theme import parse_theme


def test_the_readmes_theme():
    assert parse_theme("D4:q A4:e r:e Bb4:q. C5:h") == [
        (0, 480, 62),
        (480, 240, 69),
        (960, 720, 70),
        (1680, 960, 72),
    ]


def test_lengths_dots_ties_and_accidentals():
    notes = parse_theme("c4:w, F#3:h..  r:t ebb5:s+t c-1:e.")
    assert notes == [(0, 1920, 60), (1920, 1680, 54), (3660, 180, 74), (3840, 360, 0)]


@pytest.mark.parametrize(
    "text, says",
    [
        ("D4:q H4:q", "item 2, 'H4:q'"),
        ("D4", "item 1, 'D4'"),
        ("D:q", "'D:q'"),
        ("D4:x", "no length 'x'"),
        ("D4:q+", "no length ''"),
        ("D4:t.", "finer than a 32nd"),
        ("C9:q G#9:q", "item 2, 'G#9:q': outside MIDI"),
        ("", "has no notes"),
        ("r:q r:h", "has no notes"),
        ("D4:qq", "no length 'qq'"),
    ],
)
def test_the_item_at_fault_is_named(text, says):
    with pytest.raises(ValueError) as refusal:
        parse_theme(text)
    assert says in str(refusal.value)
