"""generate: whole pieces in one go, N candidates, the best K kept.

Interleaved pieces are a chain of one chunk. Sequential ones are written voice after voice; a theme is then
the top voice as it is, and the model writes the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlxgen.compose.attempt import Attempt, Report, candidate_seed
from mlxgen.compose.chain import check_settings, stitched
from mlxgen.compose.judge import ranked as best_first
from mlxgen.compose.judge import with_values
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.shards import Shards
from mlxgen.compose.steps import next_step
from mlxgen.music.decode import decode
from mlxgen.music.encode import encode_events
from mlxgen.music.piece import Piece
from mlxgen.music.prompt import make_prefix, make_prompt
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.candidates import Candidate, candidates
from mlxgen.sampling.engine import Engine
from mlxgen.sampling.rules import RuleSet
from mlxgen.scoring.score import score


@dataclass(frozen=True)
class Kept:
    """One of the best: the piece, and its row (see `judge`)."""

    piece: Piece
    row: dict


def compose_short(model, vocab: Vocab, settings: ChainSettings, keep: int, *,
                  report: Report = lambda progress: None) -> list[Kept]:
    """The `keep` best of `settings.num_candidates` pieces, best first.

    Raises ValueError when nothing fits, or no candidate finishes a bar.
    """
    check_short(settings, vocab, model.config.max_seq_len, keep)
    if settings.conditioning.encoding == "sequential":
        return _compose_sequential(model, vocab, settings, keep)
    step = next_step(settings, [], vocab)
    attempt = Attempt(model, vocab, settings, [], replace(step, closing=True, last=True), shards=Shards(),
                      report=report)
    rows, takes = attempt.draw()
    chosen = best_first(rows, attempt.step)[:keep]
    return [Kept(stitched(settings, [attempt.chunk(rows, takes, row["number"])], vocab)[0], row)
            for row in chosen]


def check_short(settings: ChainSettings, vocab: Vocab, max_seq_len: int, keep: int) -> None:
    """ValueError for what `compose_short` would stumble over."""
    if not 1 <= keep <= settings.num_candidates:
        raise ValueError(f"keep {keep}: expected 1 to the number of candidates, {settings.num_candidates}")
    if settings.conditioning.encoding != "sequential":
        check_settings(settings, vocab, max_seq_len)
        return
    if "VOICE_SEP" not in vocab:
        raise ValueError("encoding 'sequential': the vocabulary has no VOICE_SEP token")
    prompt = len(_sequential_prompt(settings, vocab))
    if prompt >= max_seq_len:
        raise ValueError(f"theme: makes a prompt of {prompt} ids; the model holds {max_seq_len}")


def _sequential_prompt(settings: ChainSettings, vocab: Vocab) -> list[int]:
    theme = settings.theme_piece()
    conditioning = settings.conditioning.with_defaults()
    if theme is None:
        return make_prompt(conditioning, settings.key, vocab)
    top = replace(theme, voices=theme.voices[:1])
    return [*make_prefix(conditioning, settings.key, vocab),
            *encode_events(top, vocab, encoding="sequential"), vocab["VOICE_SEP"]]


def _compose_sequential(model, vocab: Vocab, settings: ChainSettings, keep: int) -> list[Kept]:
    prompt = _sequential_prompt(settings, vocab)
    room = model.config.max_seq_len - len(prompt)
    engine = Engine(model, vocab, params=settings.sampling,
                    rules=RuleSet(soft=frozenset(settings.soft_rules)))
    engine.prefill(prompt)
    seeds = [candidate_seed(settings.seed, 1, number) for number in range(settings.num_candidates)]
    found = candidates(engine, len(seeds), min(settings.chunk_tokens, room), None, seeds)
    pieces = [_sequential_piece(settings, [*prompt, *candidate.ids], vocab) for candidate in found]
    rows = with_values([_row(number, candidate, piece) for number, (candidate, piece)
                        in enumerate(zip(found, pieces, strict=True))])
    ended_first = sorted(rows, key=lambda row: (row["ended"] != "eos", -row["value"], row["number"]))
    return [Kept(pieces[row["number"]], row) for row in ended_first[:keep]]


def _sequential_piece(settings: ChainSettings, ids: Sequence[int], vocab: Vocab) -> Piece:
    return replace(decode(ids, vocab), tempo_bpm=settings.tempo_bpm,
                   title=f"{settings.conditioning.form} in {settings.key.name}")


def _row(number: int, candidate: Candidate, piece: Piece) -> dict:
    result = score(piece)
    return {"number": number, "score": round(result.composite, 6), "dimensions": dict(result.dimensions),
            "surprisal": -sum(candidate.logprobs) / max(1, len(candidate.logprobs)),
            "tokens": len(candidate.ids), "bars": piece.length_bars, "ended": candidate.ended, "cadence": "",
            "cadence_weight": 0.0, "density": 1.0}
