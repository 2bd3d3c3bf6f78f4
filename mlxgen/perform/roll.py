"""The piano roll: a lane a voice, what has sounded, what sounds, what will and what may still be changed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from rich.text import Text

from mlxgen.perform.wire import TimedNote

COLUMN_TICKS = 120
KEPT_NOTES = 600
PLAYHEAD_AT = 0.4           # of the roll's width
LABEL = 9                   # columns before the roll
MUTED = "grey30"
PAST, SOUNDING, COMMITTED, TENTATIVE = "grey50", "bold bright_yellow", "bold bright_green", "cyan"
LEAST_RANGE = 14            # semitones that a lane shows at least
NAMES = {4: ("sopr.", "alto", "tenor", "bass"), 3: ("upper", "middle", "lower"), 2: ("upper", "lower")}
PITCHES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


@dataclass
class Roll:
    """The notes near the playhead, as the generator tells of them."""

    notes: deque = field(default_factory=lambda: deque(maxlen=KEPT_NOTES))

    def take(self, rows: list[tuple]) -> None:
        for kind, value in rows:
            if kind == "notes":
                self.notes.extend(TimedNote(*note) for note in value)
            elif kind == "truncate":
                self.notes = deque(
                    (note for note in self.notes if note.start_ticks < value), maxlen=KEPT_NOTES
                )


def draw_roll(status: dict, roll: Roll, width: int, lane_rows: int) -> list[Text]:
    """A ruler of bars and beats, then `lane_rows` lines for each voice."""
    columns = width - LABEL
    span = int(status["tick"] // COLUMN_TICKS) - int(columns * PLAYHEAD_AT), columns
    lines = [_ruler(status, span)]
    for voice in range(1, status["voices"] + 1):
        notes = [note for note in roll.notes if note.voice == voice]
        lines += _lane(notes, voice, status, span, lane_rows)
    return lines


def pitch_name(pitch: int) -> str:
    """60 -> "C4"."""
    return f"{PITCHES[pitch % 12]}{pitch // 12 - 1}"


def _ruler(status: dict, span: tuple[int, int]) -> Text:
    first_column, columns = span
    cells = [" "] * columns
    for column in range(columns):
        tick = (first_column + column) * COLUMN_TICKS
        if tick >= 0 and tick % status["bar_ticks"] == 0:
            for place, letter in enumerate(str(tick // status["bar_ticks"] + 1)):
                if column + place < columns:
                    cells[column + place] = letter
        elif tick >= 0 and tick % status["beat_ticks"] == 0 and cells[column] == " ":
            cells[column] = "·"
    playhead = int(columns * PLAYHEAD_AT)
    cells[playhead] = "▼"
    text = Text(" bar".ljust(LABEL) + "".join(cells), style="grey50")
    text.stylize("bold bright_yellow", LABEL + playhead, LABEL + playhead + 1)
    return text


def _lane(notes, voice: int, status: dict, span: tuple[int, int], rows: int) -> list[Text]:
    """One voice: each text row holds two pitch rows, as half blocks. `span`: first column, columns."""
    columns, muted = span[1], voice in status["muted"]
    halves = _fill(notes, status, span, rows * 2, MUTED if muted else None)
    lines = []
    for row, label in enumerate(_labels(notes, voice, status, rows)):
        line = Text()
        line.append_text(label)
        for column, (top, bottom) in enumerate(zip(halves[2 * row], halves[2 * row + 1], strict=True)):
            if top or bottom:
                line.append("█" if top and bottom else "▀" if top else "▄", style=top or bottom)
            elif column == int(columns * PLAYHEAD_AT):
                line.append("│", style="yellow")
            else:
                line.append(" ")
        lines.append(line)
    return lines


def _fill(notes, status: dict, span: tuple[int, int], count: int, style: str | None) -> list[list[str]]:
    """[pitch row][column] -> the style of the note there, "" where there is none."""
    first_column, columns = span
    low, high = _pitch_range(notes)
    halves = [[""] * columns for _ in range(count)]
    for note in notes:
        row = halves[(high - note.pitch) * count // (high - low + 1)]
        begin = note.start_ticks // COLUMN_TICKS - first_column
        length = max(1, note.duration_ticks // COLUMN_TICKS)
        for column in range(max(0, begin), min(columns, begin + length)):
            row[column] = style or _zone(note, status)
    return halves


def _labels(notes, voice: int, status: dict, rows: int) -> list[Text]:
    """The key that mutes it and its name; below, or beside it where there is one row, what it sounds."""
    now = [pitch_name(note.pitch) for note in notes
           if note.start_ticks <= status["tick"] < note.start_ticks + note.duration_ticks]
    muted = voice in status["muted"]
    name = NAMES.get(status["voices"], NAMES[4])[voice - 1]
    first, sounds = Text(), Text()
    first.append(f" {voice} ", style="bold bright_white")
    if rows == 1 and now and not muted:
        first.append(f"{now[-1]:{LABEL - 3}s}", style=SOUNDING)
    else:
        first.append(f"{name:{LABEL - 3}s}", style="strike grey50" if muted else "grey70")
    sounds.append(f"   {'muted' if muted else now[-1] if now else '':{LABEL - 3}s}",
                  style="grey50" if muted else SOUNDING)
    return [first, sounds, *(Text(" " * LABEL) for _ in range(rows - 2))][:rows]


def _pitch_range(notes) -> tuple[int, int]:
    """The lowest and the highest pitch that a lane has room for: what the voice has played lately."""
    low, high = (
        min((note.pitch for note in notes), default=60),
        max((note.pitch for note in notes), default=60),
    )
    lacking = max(0, LEAST_RANGE - (high - low + 1))
    return low - lacking // 2, high + lacking - lacking // 2


def _zone(note: TimedNote, status: dict) -> str:
    if note.start_ticks <= status["tick"]:
        return SOUNDING if note.start_ticks + note.duration_ticks > status["tick"] else PAST
    return COMMITTED if note.start_ticks <= status["tick"] + status["commit_ticks"] else TENTATIVE
