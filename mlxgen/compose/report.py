"""The report of a run: one self-contained HTML page to read, hear and check a long piece."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from mlxgen.compose.engraving import can_engrave, engrave
from mlxgen.compose.outputs import Outline
from mlxgen.compose.page import as_script, duration_s, escape, make_page, minutes, piece_data
from mlxgen.compose.settings import ChainSettings
from mlxgen.compose.steps import Chunk
from mlxgen.files.atomic import write_atomically

_COLUMNS = ("value", "score", "typicality", "surprisal")


def write_report(path: str | Path, settings: ChainSettings, chunks: Sequence[Chunk], drawn: Outline,
                 manifest: dict) -> None:
    """Write report.html: score or piano roll, seams and sections, all candidates, how to make it again."""
    write_atomically(path, make_report(settings, chunks, drawn, manifest).encode())


def make_report(settings: ChainSettings, chunks: Sequence[Chunk], drawn: Outline, manifest: dict) -> str:
    """The page as text. The score is engraved where verovio and music21 are installed."""
    piece = drawn.piece
    engraving = engrave(piece, drawn.keys[1:]) if can_engrave() else None
    sections = drawn.sections if len(drawn.sections) > 1 else []
    data = {"piece": piece_data(piece), "marks": {"seams": drawn.seams, "sections": sections},
            "engraved": engraving.sounding if engraving else []}
    pages = "".join(f'<div class="score-page">{page}</div>' for page in engraving.pages) if engraving else ""
    return make_page("report.html", title=escape(piece.title), facts=_facts(settings, drawn),
                     duration=minutes(duration_s(piece)), score=f"<h2>Score</h2>{pages}" if pages else "",
                     sections=_sections(settings, chunks, drawn), chunks=_chunks(settings, chunks, drawn),
                     again=_again(settings, manifest), data=as_script(data))


def _facts(settings: ChainSettings, drawn: Outline) -> str:
    piece = drawn.piece
    numerator, denominator = piece.meter
    return escape(f"{settings.conditioning.form}, {piece.key.name}, {numerator}/{denominator}, "
                  f"{piece.length_bars} bars, {minutes(duration_s(piece))} at {piece.tempo_bpm:g} quarters a "
                  f"minute, {piece.note_count} notes in {len(piece.voices)} voices; "
                  f"{settings.num_candidates} candidates for each of {len(drawn.seams) + 1} chunks")


def _sections(settings: ChainSettings, chunks: Sequence[Chunk], drawn: Outline) -> str:
    rows = []
    ends = [tick for tick, _ in drawn.sections[1:]] + [drawn.piece.length_ticks]
    for (start, name), end in zip(drawn.sections, ends, strict=True):
        section = next(section for section in settings.plan.sections if section.name == name)
        own = [chunk for chunk in chunks if settings.plan.sections[chunk.section].name == name]
        changes = ", ".join(f"{what.replace('_', ' ')} {value}" for what, value in section.changes.items())
        recall = f"recalls {section.recall}" if section.recall else ""
        repeat = f"repeats {section.repeat}" if section.repeat else ""
        bars = f"{start // drawn.piece.bar_ticks + 1} to {-(-end // drawn.piece.bar_ticks)}"
        rows.append([name, bars, own[0].key.name, own[-1].cadence or "",
                     "; ".join(filter(None, (changes, recall, repeat)))])
    return _table(["section", "bars", "key", "closes with", "what changes"], rows, words=5)


def _chunks(settings: ChainSettings, chunks: Sequence[Chunk], drawn: Outline) -> str:
    starts = [0, *drawn.seams]
    parts = []
    for number, (chunk, start) in enumerate(zip(chunks, starts, strict=True), start=1):
        section = settings.plan.sections[chunk.section].name
        where = f"Chunk {number}, {section}, from bar {start // drawn.piece.bar_ticks + 1}, {chunk.key.name}"
        if chunk.pick is None:
            parts.append(f"<p>{escape(where)}: repeated.</p>")
            continue
        parts.append(f"<details{' open' if number == 1 else ''}><summary>{escape(where)}: kept candidate "
                     f"{chunk.pick} of {len(chunk.candidates)}, behind {chunk.context_tokens} ids of context"
                     f"</summary>{_candidates(chunk)}{_findings(chunk)}</details>")
    return "".join(parts)


def _candidates(chunk: Chunk) -> str:
    dimensions = sorted({name for row in chunk.candidates for name in row["dimensions"]})
    heads = ["no.", *_COLUMNS, *dimensions, "bars", "ids", "closes"]
    rows, marks = [], []
    for row in sorted(chunk.candidates, key=lambda row: (row["number"] != chunk.pick, -row["value"])):
        figures = [f"{row[name]:.3f}" for name in _COLUMNS]
        shares = [_meter(row["dimensions"].get(name)) for name in dimensions]
        rows.append([row["number"], *figures, *shares, row["bars"], row["tokens"], row["cadence"]])
        marks.append("pick" if row["number"] == chunk.pick else "")
    first = 1 + len(_COLUMNS)
    return _table(heads, rows, marks=marks, html=range(first, first + len(dimensions)))


def _meter(share: float | None) -> str:
    if share is None:
        return ""
    width = max(0.0, min(1.0, share)) * 100
    return f'<span class="meter"><i style="width:{width:.0f}%"></i></span>{share:.2f}'


def _findings(chunk: Chunk) -> str:
    chosen = next(row for row in chunk.candidates if row["number"] == chunk.pick)
    found = chosen.get("findings") or []
    if not found:
        return "<p class='faint'>Nothing to point at in the candidate that was kept.</p>"
    rows = [[bar, " and ".join(str(voice) for voice in voices), rule, detail]
            for bar, voices, rule, detail in found]
    table = _table(["bar", "voices", "what", "where"], rows, words=4)
    return f"<details><summary>What the score points at in it: {len(found)}</summary>{table}</details>"


def _table(heads: Sequence[str], rows: Sequence[Sequence], *, words: int = 0, marks: Sequence[str] = (),
           html: range = range(0)) -> str:
    """Rows as an HTML table. The first `words` columns are text; the columns `html` are HTML already."""
    def cell(column: int, value) -> str:
        text = value if column in html else escape(value)
        return f"<td{' class=word' if column < words else ''}>{text}</td>"

    head = "".join(f"<th{' class=word' if column < words else ''}>{escape(name)}</th>"
                   for column, name in enumerate(heads))
    lines = ("".join(cell(column, value) for column, value in enumerate(row)) for row in rows)
    body = "".join(f"<tr class='{mark}'>{line}</tr>"
                   for line, mark in zip(lines, marks or [""] * len(rows), strict=True))
    return f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>"


def _again(settings: ChainSettings, manifest: dict) -> str:
    command = manifest.get("command", "")
    if "--seed" not in shlex.split(command):
        command = f"{command} --seed {settings.seed}"
    model, versions = manifest["model"], manifest["versions"]
    facts = [["seed", settings.seed], ["model", model["folder"]], ["model sha256", model["sha256"]],
             *versions.items()]
    return (f"<pre>{escape(command.strip())}</pre>{_table(['', ''], facts, words=2)}"
            f"<details><summary>All settings</summary><pre>{escape(json.dumps(settings.to_dict(), indent=1))}"
            f"</pre></details>")
