"""Tiny random models and vocabularies for tests that must run without ../shared."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from mlxgen.model.blocks import expected_shapes
from mlxgen.model.config import ModelConfig
from mlxgen.model.transformer import Model
from mlxgen.music.vocab import Vocab

KEYS = """C_major C_minor Db_major Cs_minor D_major D_minor Eb_major Eb_minor E_major E_minor F_major F_minor
    Fs_major Fs_minor G_major G_minor Ab_major Gs_minor A_major A_minor Bb_major Bb_minor B_major B_minor"""
_NAMES = """PAD BOS EOS VOICE_1 VOICE_2 VOICE_3 VOICE_4 SUBJECT_START SUBJECT_END BAR
    BEAT_1 BEAT_2 BEAT_3 BEAT_4 BEAT_5 BEAT_6 MODE_2PART MODE_3PART MODE_4PART MODE_FUGUE
    STYLE_BACH STYLE_BAROQUE STYLE_RENAISSANCE STYLE_CLASSICAL
    FORM_CHORALE FORM_INVENTION FORM_FUGUE FORM_SINFONIA FORM_QUARTET FORM_TRIO_SONATA FORM_MOTET
    LENGTH_SHORT LENGTH_MEDIUM LENGTH_LONG LENGTH_EXTENDED
    METER_2_4 METER_3_4 METER_4_4 METER_6_8 METER_3_8 METER_ALLA_BREVE
    TEXTURE_HOMOPHONIC TEXTURE_POLYPHONIC TEXTURE_MIXED IMITATION_NONE IMITATION_LOW IMITATION_HIGH
    HARMONIC_RHYTHM_SLOW HARMONIC_RHYTHM_MODERATE HARMONIC_RHYTHM_FAST
    HARMONIC_TENSION_LOW HARMONIC_TENSION_MODERATE HARMONIC_TENSION_HIGH
    CHROMATICISM_LOW CHROMATICISM_MODERATE CHROMATICISM_HIGH
    ENCODE_INTERLEAVED ENCODE_SEQUENTIAL VOICE_SEP"""
BINS = (60, 120, 180, 240, 360, 480, 720, 960, 1440, 1920, 2880)
TRIPLETS = [*(f"Dur_{ticks}" for ticks in (80, 160, 320)),
            *(f"TimeShift_{ticks}" for ticks in (20, 40, 80, 160, 320))]


def make_vocab(kind: str = "scale_degree", more: Sequence[str] = ()) -> Vocab:
    """A vocabulary with every family of tokens, shaped like upstream's; `more` names at the end."""
    names = _NAMES.split() + [f"KEY_{key}" for key in KEYS.split()]
    if kind == "absolute":
        names += [f"Pitch_{pitch}" for pitch in range(36, 85)]
    else:
        names += [f"OCT_{octave}" for octave in range(2, 8)] + [f"DEG_{degree}" for degree in range(1, 8)]
        names += ["SHARP", "FLAT"]
    names += [f"Dur_{ticks}" for ticks in BINS] + [f"TimeShift_{ticks}" for ticks in BINS]
    names += ["FORM_SONATA", "CAD_PAC", "CAD_IAC", "CAD_HC", "CAD_DC", *more]
    return Vocab({"tokenizer_type": kind, "token_to_name": dict(enumerate(names)), "config": {}})


def make_model(vocab: Vocab, *, layers: int = 2, dim: int = 32, heads: int = 4, kv_heads: int = 2,
               pos_encoding: str = "pope", dtype: mx.Dtype = mx.float32, seed: int = 0,
               max_seq_len: int = 512) -> Model:
    """A model with random weights; the logits are wide enough that draws differ."""
    config = ModelConfig(vocab_size=len(vocab), embed_dim=dim, num_heads=heads, num_kv_heads=kv_heads,
                         num_layers=layers, ffn_dim=2 * dim, max_seq_len=max_seq_len,
                         pos_encoding=pos_encoding, weight_tying=False)
    shapes = expected_shapes(config)
    keys = mx.random.split(mx.random.key(seed), len(shapes))
    weights = {}
    for (name, shape), key in zip(sorted(shapes.items()), keys, strict=True):
        scale = (2.0 if "head" in name else 1.0) * shape[-1] ** -0.5
        weights[name] = mx.ones(shape) if "ln" in name else scale * mx.random.normal(shape, key=key)
    return Model(config, weights, dtype)
