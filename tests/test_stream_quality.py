"""The stream bench: its statistics find a drift, and its contestants agree while nothing is dropped."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import make_model

from bench.stream_contestants import RingStream, Setting, run_mlx_lm, run_recomputed
from bench.stream_quality import chorale, make_stream, slopes
from mlxgen.music.theory import Key


def blocks_with(drift_per_million: float) -> np.ndarray:
    """Ten passes of twenty blocks: the music's own ups and downs, a little noise, and a drift."""
    rng = np.random.default_rng(0)
    music = np.tile(rng.normal(0.7, 0.2, 20), 10)
    return music + rng.normal(0, 1e-3, 200) + drift_per_million * np.arange(200) / 1000


def test_a_drift_is_told_from_the_music():
    none, some = slopes(blocks_with(0.0), 20), slopes(blocks_with(0.05), 20)
    assert none["low"] < 0 < none["high"] and none["high"] - none["low"] < 0.02
    assert some["low"] < 0.05 < some["high"] and some["low"] > 0.03


def test_contestants_agree_until_something_is_dropped():
    pytest.importorskip("mlx_lm")
    model, _ = make_model("pope-gqa")
    ids = np.random.default_rng(1).integers(0, 23, 160).astype(np.int32)
    setting = Setting(window=40, prefix=20)
    ours, lm, again = (np.concatenate(list(run(model, ids, setting)))
                       for run in (RingStream, run_mlx_lm, run_recomputed))
    assert len(ours) == len(lm) == len(again) == 140
    assert np.abs(ours[:39] - lm[:39]).max() < 1e-4
    assert np.abs(ours[:39] - again[:39]).max() < 1e-4
    assert np.abs(ours[70:] - lm[70:]).max() > 1e-2  # later each has its own context


def test_frames_become_notes_and_rests():
    piece = chorale([[72, 60], [72, 60], [72, -1], [71, -1], [72, 60]])
    assert [tuple(note) for note in piece.voices[0]] == [(0, 360, 72), (360, 120, 71), (480, 120, 72)]
    assert [tuple(note) for note in piece.voices[1]] == [(0, 240, 60), (480, 120, 60)]


def test_every_pass_brings_the_same_tokens(shared):
    from mlxgen.music.vocab import Vocab

    vocab = Vocab.load(shared / "golden" / "tokenizer_scale_degree_125.json")
    pieces = [chorale([[67, 64, 60, 48]] * 16 + [[65, 62, 59, 43]] * 16) for _ in range(30)]
    assert pieces[0].key == Key(0, "major")
    ids, skip = make_stream(pieces, vocab, "chorale", 500, 2000)
    music = ids[skip:].reshape(4, 500)
    assert (music == music[0]).all() and len(set(music[0].tolist())) > 5
    with pytest.raises(ValueError, match="a pass needs 9000"):
        make_stream(pieces, vocab, "chorale", 9000, 18000)
