"""Builds the training corpus: `python -m weights.recipe.corpus --work DIR [--extra DIR ...] [--jsb FILE]`.

Reads every source in parallel, folds notes into the vocabulary's range, drops what is there twice (by
content, whatever the key), holds out JSB's test and validation chorales (by content) and 5 % of the files
of every other form (by hash of the name), labels, encodes, and writes two files into DIR, which lies
outside the repository (and a copy of the vocabulary, tokenizer.json, which decides what can be written):

    corpus.npz        tokens (uint8), offsets, prefix lengths: one row a piece
    corpus.jsonl.gz   one line a piece: name, source, licence, split, form, style, key, meter, labels, voices
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from mlxgen.music.encode import Markers, encode
from mlxgen.music.prompt import Conditioning
from mlxgen.music.vocab import Vocab

from .content import ContentIndex, content_hash, shingles
from .labels import measure_labels
from .sources import Entry, folded, music21_files, read_counterpoint, read_jsb, read_music21, read_openscore
from .vocabulary import TOKENIZER, grid_ticks, section_bars, with_own_durations

HELD_OUT_SHARE = 0.05
MAX_PALESTRINA = 400
_LABEL_FIELDS = ("texture", "imitation", "harmonic_rhythm", "harmonic_tension", "chromaticism")


def _read_task(task: tuple[str, Path, int]) -> tuple[list[Entry], str]:
    """(reader name, path, grid in ticks) -> its entries, and the reason when the file cannot be used."""
    reader, path, grid = task
    try:
        return list(READERS[reader](path, grid)), ""
    except (
        ValueError,
        IndexError,
        KeyError,
    ) as error:  # a damaged or unusual file: named in the build's report
        return [], f"{path.name}: {error}"


READERS = {"music21": read_music21, "openscore": read_openscore, "counterpoint": read_counterpoint}


def find_tasks(extra: Iterable[Path], use_music21: bool = True) -> list[tuple[str, Path]]:
    """What to read, in the order of precedence when two sources hold the same piece."""
    tasks = [("music21", path) for path in music21_files()] if use_music21 else []
    for folder in extra:
        if (folder / "manifest.tsv").is_file():
            tasks.append(("counterpoint", folder))
        else:
            tasks += [("openscore", path) for path in sorted(folder.rglob("*.mxl"))]
    return tasks


def choose_held_out(entries: Iterable[Entry]) -> set[str]:
    """Files held out for validation: of each form but the chorale the HELD_OUT_SHARE with the lowest hashes.

    At least three files of a form, so that the rare forms are judged at all.
    """
    files: dict[str | None, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.form != "chorale":  # JSB's validation chorales serve for these
            files[entry.form].add(file_of(entry))
    return {
        name
        for group in files.values()
        for name in sorted(group, key=content_hash)[: max(3, round(HELD_OUT_SHARE * len(group)))]
    }


def file_of(entry: Entry) -> str:
    """The name without the number of the section: all sections of a file share a split."""
    return entry.name.split("#")[0]


def select(
    entries: Iterable[Entry], jsb: Iterable[tuple[str, Entry]]
) -> Iterator[tuple[Entry, str, str | None]]:
    """Deduplicated (entry, split, JSB name).

    JSB pieces that no source engraves are added from their frames.
    """
    entries = list(entries)
    held_out_files = choose_held_out(entries)
    jsb = [(split, entry, shingles(entry.piece)) for split, entry in jsb]
    held = ContentIndex()
    for split, entry, own in jsb:
        if split != "train":
            held.add(entry.name, own)
    seen, engraved = ContentIndex(), set()
    for entry in entries:
        own = shingles(entry.piece)
        if len(own) < 8 or seen.find(own):
            continue
        seen.add(entry.name, own)
        found = held.find(own) if entry.style == "bach" else None
        if found:
            engraved.add(found[0])
            yield entry, f"jsb_{found[0].split('/')[1]}", found[0]
        else:
            yield entry, ("valid" if file_of(entry) in held_out_files else "train"), None
    for split, entry, own in jsb:
        if entry.name not in engraved and not seen.find(own):
            seen.add(entry.name, own)
            yield entry, ("train" if split == "train" else f"jsb_{split}"), entry.name


def make_row(entry: Entry, split: str, jsb_name: str | None, vocab: Vocab) -> tuple[dict, list[int]]:
    """The JSON line and the ids of one piece."""
    piece = entry.piece
    words, values = measure_labels(piece)
    conditioning = Conditioning(form=entry.form, style=entry.style, length_bars=piece.length_bars, **words)
    markers = Markers(sections=section_bars(piece))
    ids = encode(with_own_durations(piece, vocab), vocab, conditioning, markers=markers)
    row = {
        "name": entry.name,
        "source": entry.source,
        "licence": entry.licence,
        "split": split,
        "jsb": jsb_name,
        "form": entry.form,
        "style": entry.style,
        "key": list(piece.key),
        "meter": list(piece.meter),
        "bars": piece.length_bars,
        "notes": piece.note_count,
        "tokens": len(ids),
        "labels": words,
        "values": {name: round(value, 4) for name, value in values.items()},
        "voices": [[list(note) for note in voice] for voice in piece.voices],
    }
    return row, ids


def _row_task(task: tuple[Entry, str, str | None, Vocab]) -> tuple[dict, list[int]]:
    return make_row(*task)


def build(
    tasks: list[tuple[str, Path]],
    jsb_path: Path | None,
    work: Path,
    workers: int,
    tokenizer: Path = TOKENIZER,
) -> list[dict]:
    """Read, select, encode and write; returns the rows."""
    vocab = Vocab.load(tokenizer)
    reading = [(*task, grid_ticks(vocab)) for task in tasks]
    entries, palestrina = [], 0
    with ProcessPoolExecutor(workers) as pool:
        for read, problem in pool.map(_read_task, reading, chunksize=8):
            if problem:
                print("left out:", problem)
            for entry in read:
                is_palestrina = entry.source.endswith("palestrina")
                if is_palestrina and palestrina >= MAX_PALESTRINA:
                    continue
                palestrina += is_palestrina
                if kept := folded(entry, vocab.min_pitch, vocab.max_pitch):
                    entries.append(kept)
        print(f"{len(entries)} pieces read", flush=True)
        chosen = list(select(entries, read_jsb(jsb_path) if jsb_path else []))
        print(f"{len(chosen)} after deduplication", flush=True)
        made = list(pool.map(_row_task, [(*one, vocab) for one in chosen], chunksize=8))
    write_corpus(work, made, vocab)
    return [row for row, _ in made]


def write_corpus(work: Path, made: list[tuple[dict, list[int]]], vocab: Vocab) -> None:
    """corpus.npz, corpus.jsonl.gz and tokenizer.json, the large ones under a temporary name first."""
    work.mkdir(parents=True, exist_ok=True)
    lengths = [len(ids) for _, ids in made]
    last_of_prefix = set(vocab.family("KEY_").values())
    prefixes = [next(at for at, token in enumerate(ids) if token in last_of_prefix) + 1 for _, ids in made]
    arrays = {
        "tokens": np.concatenate([np.array(ids, dtype=np.uint8) for _, ids in made]),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "prefix": np.array(prefixes, dtype=np.int32),
    }
    np.savez_compressed(work / "corpus.tmp.npz", **arrays)
    os.replace(work / "corpus.tmp.npz", work / "corpus.npz")
    with gzip.open(work / "corpus.tmp.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row, _ in made)
    os.replace(work / "corpus.tmp.gz", work / "corpus.jsonl.gz")
    vocab.save(work / "tokenizer.json")


def read_vocab(work: Path) -> Vocab:
    """The vocabulary of a built corpus."""
    return Vocab.load(work / "tokenizer.json")


def read_rows(work: Path) -> list[dict]:
    """The JSON lines of a built corpus, in the order of its arrays."""
    with gzip.open(work / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def make_table(rows: list[dict]) -> str:
    """The corpus as a Markdown table: source, licence, form, split -> pieces, notes, tokens."""
    groups: dict[tuple, Counter] = defaultdict(Counter)
    for row in rows:
        key = (row["source"], row["licence"], row["form"] or "(none)", row["split"])
        groups[key].update(pieces=1, notes=row["notes"], tokens=row["tokens"])
    lines = ["| source | licence | form | split | pieces | notes | tokens |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {' | '.join(key)} | {count['pieces']} | {count['notes']:,} | {count['tokens']:,} |"
        for key, count in sorted(groups.items())
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the built corpus, outside the repository"
    )
    parser.add_argument(
        "--extra", type=Path, action="append", default=[], help="folder of .mxl, or of .mid with manifest.tsv"
    )
    parser.add_argument(
        "--jsb", type=Path, help="Jsb16thSeparated.json: its test and valid chorales are held out"
    )
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="the vocabulary to write in")
    parser.add_argument("--no-music21", action="store_true", help="leave music21's packaged corpus out")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    tasks = find_tasks(args.extra, not args.no_music21)
    rows = build(tasks, args.jsb, args.work, args.workers, args.tokenizer)
    print(make_table(rows))


if __name__ == "__main__":
    main()
