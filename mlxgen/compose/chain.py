"""generate-long: chunk after chunk, N candidates each on one shared context, the best one kept.

`compose` is an iterator of finished chunks. It knows nothing of files or terminals: the caller saves what
comes out, and hands it back in to go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlxgen.compose.attempt import Attempt, Report
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.shards import Shards
from mlxgen.compose.steps import Chunk, make_prompt, next_step
from mlxgen.compose.stitch import stitch
from mlxgen.music.piece import Piece
from mlxgen.music.prompt import make_prefix
from mlxgen.music.vocab import Vocab

VOICE_NAMES = {"quartet": ("Violin I", "Violin II", "Viola", "Cello"),
               "trio_sonata": ("Violin I", "Violin II", "Bass")}


def compose(model, vocab: Vocab, settings: ChainSettings, done: Sequence[Chunk] = (), *,
            shards: Shards | None = None, report: Report = lambda progress: None) -> Iterator[Chunk]:
    """Yield the chunks that follow `done`, until the plan is finished.

    Raises ValueError when the settings leave the model no room, or no candidate finishes a bar.
    """
    check_settings(settings, vocab, model.config.max_seq_len)
    chunks = list(done)
    shards = shards or Shards()
    while (step := next_step(settings, chunks, vocab)) is not None:
        if step.repeat is not None:
            chunk = Chunk(step.section, step.key, step.repeat, forced=len(step.repeat), closing=True)
        else:
            chunk = Attempt(model, vocab, settings, chunks, step, shards=shards, report=report).run()
        chunks.append(chunk)
        yield chunk


def check_settings(settings: ChainSettings, vocab: Vocab, max_seq_len: int) -> None:
    """ValueError now for what would fail in the middle of a run: names the vocabulary lacks, no room."""
    if settings.conditioning.encoding == "sequential":
        raise ValueError("encoding 'sequential': a long piece grows bar by bar; expected interleaved")
    for index, section in enumerate(settings.plan.sections):
        key = section.key_from(settings.key)
        make_prefix(section.conditioning(settings.conditioning).with_defaults(), key, vocab)
        settings.sampling_of(index)
    if settings.voices > vocab.max_voices:
        raise ValueError(f"form {settings.conditioning.form!r}: has {settings.voices} voices, "
                         f"the vocabulary {vocab.max_voices}")
    room = max_seq_len - settings.chunk_tokens
    make_prompt(settings, [], next_step(settings, [], vocab), vocab, room)


def stitched(settings: ChainSettings, chunks: Sequence[Chunk], vocab: Vocab) -> tuple[Piece, list[int]]:
    """The piece so far, in the home key, and the tick at which each chunk begins."""
    title = settings.plan.title or f"{settings.conditioning.form} in {settings.key.name}"
    piece, starts_ticks = stitch([chunk.part for chunk in chunks], settings.meter, settings.voices, vocab,
                                 settings.tempo_bpm, title)
    return replace(piece, voice_names=VOICE_NAMES.get(settings.conditioning.form or "", ())), starts_ticks
