"""Upstream's vocabulary with names appended: `python -m weights.recipe.vocabulary --sections --out FILE`.

    --sections  SECTION_OPENING, SECTION_MIDDLE, SECTION_CLOSING: a quarter, a half and a quarter of the bars
    --triplets  the lengths of triplets, and the shifts between them and binary notes

A corpus built with `--tokenizer FILE` writes what the file names: sections at bar lines, and bars
with triplets, which are cut out otherwise. The first 125 ids stay what they are: trained weights go on.
"""

from __future__ import annotations

import argparse
import json
from math import gcd
from pathlib import Path

from mlxgen.music.piece import Note, Piece
from mlxgen.music.vocab import Vocab

TOKENIZER = Path(__file__).parent / "tokenizer.json"
SECTIONS = ("OPENING", "MIDDLE", "CLOSING")
BEGINS_AT = {"OPENING": 0.0, "MIDDLE": 0.25, "CLOSING": 0.75}  # shares of a piece's bars
TRIPLET_DURATIONS = (80, 160, 320)
TRIPLET_SHIFTS = (20, 40, 80, 160, 320)
BINARY_GRID_TICKS = 60


def extended(tokenizer: dict, *, sections: bool, triplets: bool) -> dict:
    """A tokenizer.json's content with the names of sections and triplets after the last id."""
    added = [f"SECTION_{name}" for name in SECTIONS] if sections else []
    config = dict(tokenizer["config"])
    if triplets:
        added += [f"Dur_{ticks}" for ticks in TRIPLET_DURATIONS]
        added += [f"TimeShift_{ticks}" for ticks in TRIPLET_SHIFTS]
        config["duration_bins"] = sorted({*config["duration_bins"], *TRIPLET_DURATIONS})
        config["time_shift_bins"] = sorted({*config["time_shift_bins"], *TRIPLET_SHIFTS})
    names = [*tokenizer["token_to_name"].values(), *added]
    return {
        **tokenizer,
        "vocab_size": len(names),
        "token_to_name": {str(token): name for token, name in enumerate(names)},
        "config": config,
    }


def grid_ticks(vocab: Vocab) -> int:
    """The grid that a vocabulary's notes lie on: 60 ticks upstream, 20 with triplets."""
    return gcd(*vocab.duration_bins, *vocab.time_shift_bins)


def section_bars(piece: Piece) -> dict[int, str]:
    """{tick of a bar line: the section that begins there}, from the piece's own proportions."""
    starts = {name: round(share * piece.length_bars) * piece.bar_ticks for name, share in BEGINS_AT.items()}
    return {ticks: name for name, ticks in starts.items()}


def with_own_durations(piece: Piece, vocab: Vocab) -> Piece:
    """Every duration as the nearest bin of its own kind: five eighths' tie is no triplet.

    Without triplets in the vocabulary this is the nearest of all bins, as the encoder has it.
    """
    kinds = {True: [], False: []}
    for ticks in vocab.duration_bins:
        kinds[ticks % BINARY_GRID_TICKS == 0].append(ticks)

    def nearest(note: Note) -> Note:
        bins = kinds[note.duration_ticks % BINARY_GRID_TICKS == 0] or vocab.duration_bins
        return note._replace(duration_ticks=min(bins, key=lambda ticks: abs(ticks - note.duration_ticks)))

    voices = [[nearest(note) for note in voice] for voice in piece.voices]
    return Piece(voices, piece.key, piece.meter, piece.tempo_bpm, piece.title, piece.voice_names)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", action="store_true")
    parser.add_argument("--triplets", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    content = extended(
        json.loads(TOKENIZER.read_text(encoding="utf-8")), sections=args.sections, triplets=args.triplets
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"{args.out}: {content['vocab_size']} names")


if __name__ == "__main__":
    main()
