"""Standard MIDI files: a track per voice, and a conductor track with key, meter, tempo and title."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import mido
from mido.midifiles.meta import KeySignatureError

from mlxgen.files.atomic import write_atomically
from mlxgen.files.voices import on_grid, split_voices
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import TICKS_PER_QUARTER, Key, bar_ticks, detect_key

PERCUSSION_CHANNEL = 9
_CHANNELS = tuple(channel for channel in range(16) if channel != PERCUSSION_CHANNEL)


def _track(events: list[tuple[int, int, mido.Message | mido.MetaMessage]]) -> mido.MidiTrack:
    """(tick, order within the tick, message) rows -> a track in delta time."""
    track = mido.MidiTrack()
    now_ticks = 0
    for ticks, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=ticks - now_ticks))
        now_ticks = ticks
    return track


def _signature(key: Key) -> mido.MetaMessage:
    return mido.MetaMessage("key_signature", key=key.tonic + ("m" if key.mode == "minor" else ""))


def _conductor(piece: Piece, tempo_bpm: float, keys: Sequence[tuple[int, Key]],
               markers: Sequence[tuple[int, str]]) -> mido.MidiTrack:
    numerator, denominator = piece.meter
    by_bar = piece.keys_by_bar(keys)
    messages = [
        mido.MetaMessage("track_name", name=_latin(piece.title)),
        mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator),
        _signature(by_bar[0]),
        mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo_bpm)),
    ]
    events = [(0, order, message) for order, message in enumerate(messages)]
    events += [(bar * piece.bar_ticks, 0, _signature(key))
               for bar, (before, key) in enumerate(pairwise(by_bar), start=1) if key != before]
    events += [(tick, len(messages), mido.MetaMessage("marker", text=_latin(text))) for tick, text in markers]
    return _track(events)


def _latin(text: str) -> str:
    """Names in MIDI files are Latin-1; what lies outside becomes a question mark."""
    return text.encode("latin-1", "replace").decode("latin-1")


def make_midi(piece: Piece, *, tempo_bpm: float | None = None, velocity: int = 80,
              programs: Sequence[int] = (), keys: Sequence[tuple[int, Key]] = (),
              markers: Sequence[tuple[int, str]] = ()) -> mido.MidiFile:
    """The piece as a mido file of type 1, 480 ticks a quarter.

    `programs` are instrument numbers of the voices, `keys` later keys as (tick, key) rows, `markers` places
    with a name as (tick, text) rows.

    Raises ValueError for a tempo, velocity or program out of range, or more voices than MIDI has channels.
    """
    tempo_bpm = piece.tempo_bpm if tempo_bpm is None else tempo_bpm
    if not 4 <= tempo_bpm <= 1000:
        raise ValueError(f"tempo_bpm {tempo_bpm}: expected 4 to 1000")
    if not 1 <= velocity <= 127:
        raise ValueError(f"velocity {velocity}: expected 1 to 127")
    if len(piece.voices) > len(_CHANNELS):
        raise ValueError(f"{len(piece.voices)} voices: MIDI has channels for {len(_CHANNELS)}")
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_QUARTER)
    file.tracks.append(_conductor(piece, tempo_bpm, keys, markers))
    for index, (voice, name) in enumerate(zip(piece.voices, piece.names, strict=True)):
        channel = _CHANNELS[index]
        events = [(0, -2, mido.MetaMessage("track_name", name=_latin(name)))]
        if index < len(programs):
            events.append((0, -1, mido.Message("program_change", channel=channel, program=programs[index])))
        for note in voice:
            start = mido.Message("note_on", channel=channel, note=note.pitch, velocity=velocity)
            end = mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)
            events += [(note.start_ticks, 1, start), (note.end_ticks, 0, end)]
        file.tracks.append(_track(events))
    return file


def write_midi(piece: Piece, path: str | Path, *, tempo_bpm: float | None = None, velocity: int = 80,
               programs: Sequence[int] = (), keys: Sequence[tuple[int, Key]] = (),
               markers: Sequence[tuple[int, str]] = ()) -> None:
    """Write the piece to `path`, whole or not at all; the tempo is the piece's own unless given.

    `programs` are instrument numbers of the voices, `keys` later keys as (tick, key) rows: each gets its
    signature at the bar line before it. `markers`: see make_midi.
    """
    file = make_midi(piece, tempo_bpm=tempo_bpm, velocity=velocity, programs=programs, keys=keys,
                     markers=markers)
    buffer = io.BytesIO()
    file.save(file=buffer)
    write_atomically(path, buffer.getvalue())


def _open(path: Path) -> mido.MidiFile:
    data = path.read_bytes()
    if data[:4] != b"MThd":
        raise ValueError(f"{path}: not a MIDI file (it begins with {data[:4]!r}, not b'MThd')")
    try:
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except (EOFError, OSError, ValueError, IndexError, KeyError, KeySignatureError) as error:
        reason = str(error) or "it ends before its last event"  # mido's EOFError says nothing
        raise ValueError(f"{path}: broken MIDI file ({reason}); expected a whole one") from None
    if not 1 <= file.ticks_per_beat < 0x8000:
        raise ValueError(f"{path}: counts time in film frames (SMPTE); expected ticks per quarter")
    if file.type == 2:
        raise ValueError(f"{path}: MIDI type 2 (independent patterns); expected type 0 or 1")
    return file


def _track_notes(track: mido.MidiTrack, scale: float) -> dict[int, list[Note]]:
    """{channel: notes on the grid}; a note that nothing ends lasts until the track does."""
    sounding: dict[tuple[int, int], list[int]] = {}
    found: dict[int, list[Note]] = {}
    now_ticks = 0
    for message in track:
        now_ticks += message.time
        if message.type not in ("note_on", "note_off") or message.channel == PERCUSSION_CHANNEL:
            continue
        place = message.channel, message.note
        if message.type == "note_on" and message.velocity:
            sounding.setdefault(place, []).append(now_ticks)
        elif sounding.get(place):
            start_ticks = sounding[place].pop(0)
            found.setdefault(message.channel, []).append(
                on_grid(start_ticks * scale, now_ticks * scale, message.note))
    for (channel, pitch), starts in sounding.items():
        found.setdefault(channel, []).extend(
            on_grid(start * scale, max(now_ticks, start) * scale, pitch) for start in starts)
    return found


def attack_ticks(path: str | Path) -> list[float]:
    """Where the notes of a MIDI file begin, in ticks of 480 a quarter, as written: not moved to any grid.
    ValueError for what is no MIDI file."""
    file = _open(Path(path))
    return [ticks * TICKS_PER_QUARTER / file.ticks_per_beat
            for ticks, message in _all(file, "note_on") if message.velocity]


def _all(file: mido.MidiFile, kind: str) -> list[tuple[int, mido.Message | mido.MetaMessage]]:
    """(tick, message) of every message of a kind, over all tracks, in time order."""
    found = []
    for track in file.tracks:
        now_ticks = 0
        for message in track:
            now_ticks += message.time
            if message.type == kind:
                found.append((now_ticks, message))
    return sorted(found, key=lambda row: row[0])


def _meter(file: mido.MidiFile, scale: float) -> tuple[tuple[int, int], int]:
    """The piece's meter, and by how many ticks a first short bar (a pickup) falls short of a whole one."""
    meters = [(ticks * scale, (message.numerator, message.denominator))
              for ticks, message in _all(file, "time_signature")]
    if not meters:
        return (4, 4), 0
    if len(meters) > 1:
        (_, first), (second_ticks, second) = meters[:2]
        if 0 < second_ticks <= bar_ticks(first) < bar_ticks(second):
            return second, bar_ticks(second) - round(second_ticks)
    return meters[0][1], 0


def _highest_first(rows: list[tuple[str, list[Note]]]) -> list[tuple[str, list[Note]]]:
    """Tracks keep their order unless they plainly run from the bass up: each higher than the one before."""
    means = [sum(note.pitch for note in notes) / len(notes) for _, notes in rows]
    rising = all(low < high for low, high in pairwise(means))
    return rows[::-1] if rising and len(rows) > 1 and means[-1] - means[0] > 12 else rows


def _weights(rows: list[tuple[str, list[Note]]]) -> list[float]:
    weights = [0.0] * 12
    for _, notes in rows:
        for note in notes:
            weights[note.pitch % 12] += note.duration_ticks
    return weights


def read_midi(path: str | Path) -> Piece:
    """A MIDI file as a Piece: a voice a track, in the tracks' order (turned round if the bass comes first).

    A track or channel that sounds several notes at once is split (`files.voices.split_voices`). Times are
    resampled to 480 ticks a quarter and moved to the nearest 32nd. The first key signature, meter and
    tempo count for the whole piece; without a signature the key is the one that fits best (`detect_key`).
    A pickup that is written as a first short bar ends at the first bar line, its bar filled up with silence.
    Channel 10 (drums) is passed over. Raises ValueError for a file that is not MIDI or has no notes,
    OSError for one that cannot be read.
    """
    path = Path(path)
    file = _open(path)
    scale = TICKS_PER_QUARTER / file.ticks_per_beat
    rows: list[tuple[str, list[Note]]] = []
    for track in file.tracks:
        for _, notes in sorted(_track_notes(track, scale).items()):
            rows += [(track.name.strip(), voice) for voice in split_voices(notes)]
    if not rows:
        raise ValueError(f"{path}: no notes")
    rows = _highest_first(rows)
    meter, pickup_ticks = _meter(file, scale)
    signatures, tempos = _all(file, "key_signature"), _all(file, "set_tempo")
    return Piece(
        voices=[[note._replace(start_ticks=note.start_ticks + pickup_ticks) for note in notes]
                for _, notes in rows],
        key=Key.parse(signatures[0][1].key) if signatures else detect_key(_weights(rows)),
        meter=meter,
        tempo_bpm=round(mido.tempo2bpm(tempos[0][1].tempo), 3) if tempos else 120.0,
        title="" if _track_notes(file.tracks[0], scale) else file.tracks[0].name.strip(),
        voice_names=tuple(name for name, _ in rows) if all(name for name, _ in rows) else (),
    )
