"""A score for readers: the JSON record, the words of the table, and a page that shows where the findings
are."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mlxgen.music.piece import Piece
from mlxgen.scoring.measure import Finding, by_place
from mlxgen.scoring.metrics import METRICS
from mlxgen.scoring.music import make_music
from mlxgen.scoring.places import notes_of
from mlxgen.scoring.score import Score, combine

EXPLANATIONS = {
    "voice leading": "parallels, crossings, leaps, ranges",
    "counterpoint": "how voices move against each other, dissonance, wrong notes",
    "statistics": "melody, degrees and rhythm against the corpus, on both sides",
    "structure": "keys, chords, cadences, loops",
    "theme": "does the opening come back, more than by chance?",
    "boundary": "is a bar line audible as a cut?",
    "continuity": "register, density and style from span to span",
    "completeness": "does it end, and as pieces end?",
}
COPY_SHARE = 0.5  # of long spans: a training piece has all of them known, a held-out chorale .11 at most
ASK_FOR_NEW = ("originality", "recombination", "freshness")
VOICE_COLOURS = ("#1f6fb4", "#c8501e", "#2c8a4b", "#7d4fa8", "#a0741a", "#4b5563", "#b0336b", "#16808a")
BAR_WIDTH = 44
ROW_HEIGHT = 5
BARS_A_SYSTEM = 16


def explained(piece: Piece, finding: Finding) -> str:
    """A finding's detail with the notes it is about: "beat 2: parallel fifths (G4 over C4 to A4 over D4)"."""
    notes = notes_of(piece, finding)
    return f"{finding.detail} ({notes})" if notes else finding.detail


def make_record(name: str, piece: Piece, result: Score) -> dict:
    """What `mlxgen score --json` prints for a file."""
    return {
        "file": name,
        "composite": round(result.composite, 4),
        "dimensions": {dimension: round(value, 4) for dimension, value in result.dimensions.items()},
        "findings": [
            {
                "bar": finding.bar,
                "voices": list(finding.voices),
                "rule": finding.rule,
                "detail": explained(piece, finding),
            }
            for finding in result.findings
        ],
    }


def family_name(piece: Piece) -> str:
    """The family of textures against which the piece is judged."""
    music = make_music(piece)
    return music.reference.families[music.family]


def copy_note(piece: Piece, result: Score) -> str:
    """A sentence about music most of which stands in training pieces; "" for other music.

    Such music scores as a copy. What it would score otherwise leaves out the metrics that ask for new music;
    its other figures flatter it a little, for it was counted in the tables that it is held against.
    """
    share = METRICS["originality"].function(make_music(piece)).value
    if share < COPY_SHARE:
        return ""
    other = {name: nats for name, nats in result.penalties.items() if name not in ASK_FOR_NEW}
    composite = result.composite * combine(other)[0] / combine(result.penalties)[0]
    return (
        f"{share:.0%} of its long spans stand in training pieces, so it is judged as a copy; "
        f"{composite:.2f} without {', '.join(ASK_FOR_NEW[:-1])} and {ASK_FOR_NEW[-1]}"
    )


def worst_metrics(result: Score, dimension: str, count: int = 2) -> str:
    """The metrics that cost a dimension most, with their penalties in nats: "crossings 2.1, spacing 0.8"."""
    own = sorted(
        (
            (METRICS[name].weight * nats, name)
            for name, nats in result.penalties.items()
            if METRICS[name].dimension == dimension
        ),
        reverse=True,
    )
    return ", ".join(f"{name} {nats:.1f}" for nats, name in own[:count] if nats >= 0.5) or "nothing"


def most_costly(result: Score, count: int) -> list[Finding]:
    """The `count` findings of the metrics that cost most, in order of bars."""

    def cost(finding: Finding) -> float:
        metric = METRICS.get(finding.rule)
        return metric.weight * result.penalties[finding.rule] if metric else 0.0

    return sorted(sorted(result.findings, key=cost, reverse=True)[:count], key=by_place)


def _roll(piece: Piece, result: Score, first: int, last: int) -> str:
    """An SVG piano roll of bars first..last (from 1), findings as marks above the bars and red under the
    notes."""
    bar = piece.bar_ticks
    begin, end = (first - 1) * bar, last * bar
    notes = [
        (number, note)
        for number, voice in enumerate(piece.voices)
        for note in voice
        if note.start_ticks < end and note.end_ticks > begin
    ]
    if not notes:
        return ""
    low, high = min(note.pitch for _, note in notes) - 1, max(note.pitch for _, note in notes) + 1
    width, height = (last - first + 1) * BAR_WIDTH, (high - low + 1) * ROW_HEIGHT
    parts = [
        f'<svg viewBox="0 0 {width} {height + 30}" style="width:{width}px;max-width:100%" role="img" '
        f'aria-label="bars {first} to {last}">'
    ]
    for index in range(last - first + 2):
        parts.append(
            f'<line x1="{index * BAR_WIDTH}" y1="16" x2="{index * BAR_WIDTH}" y2="{height + 16}" '
            'class="bar"/>'
        )
        if index <= last - first:
            parts.append(f'<text x="{index * BAR_WIDTH + 2}" y="{height + 27}">{first + index}</text>')
    for number, note in notes:
        left = max(note.start_ticks, begin)
        x, w = (left - begin) / bar * BAR_WIDTH, (min(note.end_ticks, end) - left) / bar * BAR_WIDTH
        parts.append(
            f'<rect x="{x:.1f}" y="{16 + (high - note.pitch) * ROW_HEIGHT}" width="{max(w - 0.6, 0.6):.1f}" '
            f'height="{ROW_HEIGHT - 1}" rx="1" fill="{VOICE_COLOURS[number % len(VOICE_COLOURS)]}"/>'
        )
    by_bar: dict[int, list] = {}
    for finding in result.findings:
        by_bar.setdefault(finding.bar, []).append(finding)
    for number in range(first, last + 1):
        found = by_bar.get(number, [])
        if found:
            text = "; ".join(f"{finding.rule} {_voices(finding.voices)}" for finding in found)
            x = (number - first) * BAR_WIDTH
            parts.append(
                f'<g><title>{escape(text)}</title><rect x="{x + 1}" y="16" width="{BAR_WIDTH - 2}" '
                f'height="{height}" fill="#d33" opacity="{min(0.05 * len(found), 0.35):.2f}"/>'
                f'<text x="{x + 2}" y="11" class="count">{len(found)}</text></g>'
            )
    return "".join(parts) + "</svg>"


def _voices(voices: Sequence[int]) -> str:
    return f"(voice {' and '.join(map(str, voices))})" if voices else ""


def _section(name: str, piece: Piece, result: Score) -> str:
    rows = "".join(
        f"<tr><th>{escape(dimension)}</th><td class='value'>{value:.2f}</td>"
        f"<td><div class='meter'><div style='width:{100 * value:.0f}%'></div></div></td>"
        f"<td>{escape(worst_metrics(result, dimension))}</td>"
        f"<td class='asks'>{escape(EXPLANATIONS[dimension])}</td></tr>"
        for dimension, value in result.dimensions.items()
    )
    bars = max(piece.length_bars, 1)
    rolls = "".join(
        _roll(piece, result, first, min(first + BARS_A_SYSTEM - 1, bars))
        for first in range(1, bars + 1, BARS_A_SYSTEM)
    )
    found = "".join(
        f"<tr><td>{finding.bar}</td><td>{', '.join(map(str, finding.voices))}</td>"
        f"<td>{escape(finding.rule)}</td><td>{escape(explained(piece, finding))}</td></tr>"
        for finding in result.findings
    )
    return (
        f"<section><h1>{escape(name)}</h1><p class='composite'>{result.composite:.2f}</p>"
        f"<p>Judged as {escape(family_name(piece))}. {len(piece.voices)} voices, {bars} bars, "
        f"{piece.note_count} notes, {len(result.findings)} findings. {escape(copy_note(piece, result))}</p>"
        f"<table class='dimensions'>{rows}</table>"
        f"<h2>Where</h2><p>A number above a bar counts its findings; hold the pointer there to read them.</p>"
        f"{rolls}<h2>Findings</h2><table class='findings'><tr><th>bar</th><th>voices</th><th>rule</th>"
        f"<th></th></tr>{found}</table></section>"
    )


_STYLE = """ body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0
1rem;color:#1b1f24;background:#fff} h1{font-size:1.2rem;margin:0;overflow-wrap:anywhere}h2{font-
size:1rem}.composite{font-size:2.6rem;margin:.2rem 0} table{border-collapse:collapse}th{text-align:left;font-
weight:500;padding-right:1rem}td{padding:.1rem .8rem .1rem 0} .value{text-align:right;font-variant-
numeric:tabular-nums}.meter{width:8rem;height:.6rem;background:#e7e9ec} .meter
div{height:100%;background:#1f6fb4}.asks{color:#5b6570}svg{display:block;margin:.6rem 0} svg
.bar{stroke:#c9ced4;stroke-width:.6}svg text{font-size:8px;fill:#5b6570}svg .count{fill:#b3261e}
section{margin-bottom:3rem} @media(prefers-color-
scheme:dark){body{background:#15181c;color:#e3e6ea}.meter{background:#2b3138} .asks,svg
text{color:#9aa4af;fill:#9aa4af}svg .bar{stroke:#3a424b}}
"""


def make_page(rows: Sequence[tuple[str, Piece, Score]]) -> str:
    """(name, piece, score) of each file -> one HTML page that needs nothing else."""
    body = "".join(_section(*row) for row in rows)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width'><title>Score</title><style>{_STYLE}</style>{body}</html>\n"
    )
