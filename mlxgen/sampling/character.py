"""A soft rule of ours that is one offset an id, whatever has been drawn: it costs a step nothing.

`character`, for two words of the prompt that the model hardly learnt, texture and chromaticism: for every
step by which the word lies above or below what is usual for the form, voices (homophonic: they attack
together more often) or accidentals are that much likelier or less likely. Under the usual words nothing
changes.
"""

from __future__ import annotations

from mlxgen.music.prompt import VOICES_OF_FORM, Conditioning
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import Context

TEXTURES = ("polyphonic", "mixed", "homophonic")
AMOUNTS = ("low", "moderate", "high")
VOICE_STEP, ACCIDENTAL_STEP = 0.4, 0.6  # logits


def steps_above(words: tuple[str, ...], asked: str | None, usual: str | None) -> int:
    """How many words `asked` lies above `usual`; what is not said is in the middle, or as usual."""
    if asked is None:
        return 0
    return words.index(asked) - words.index(usual or words[1])


def usual_words(context: Context) -> Conditioning:
    """What a prompt of this form says when nothing else is asked for."""
    return Conditioning(form=context.form if context.form in VOICES_OF_FORM else None).with_defaults()


def character_bias(vocab: Vocab, context: Context) -> list[float]:
    """(V,) offsets."""
    usual = usual_words(context)
    voices = VOICE_STEP * steps_above(TEXTURES, context.texture, usual.texture)
    accidentals = ACCIDENTAL_STEP * steps_above(AMOUNTS, context.chromaticism, usual.chromaticism)
    named = {token for number, token in vocab.family("VOICE_").items() if number.isdigit()}
    return [voices if token in named else accidentals if name in ("SHARP", "FLAT") else 0.0
            for token, name in enumerate(vocab.names)]
