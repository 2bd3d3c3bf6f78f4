"""MIDI files, written and read."""

from __future__ import annotations

import csv
import io
from itertools import accumulate, pairwise

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import keys, pieces

from mlxgen.files.midi import make_midi, read_midi, write_midi
from mlxgen.files.voices import on_grid, split_voices
from mlxgen.music.piece import Note, Piece
from mlxgen.music.theory import Key

PIECE = Piece(
    [[(0, 480, 72), (480, 480, 72)], [(0, 960, 48)]],
    Key(1, "minor"),
    (3, 4),
    tempo_bpm=96,
    title="Fuga",
    voice_names=("Ober", "Unter"),
)


def midi_of(tracks, ticks_per_beat=480, kind=1):
    """A MIDI file's bytes: tracks are lists of (tick, type, fields)."""
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, name, fields in events:
            maker = mido.Message if name.startswith(("note", "program")) else mido.MetaMessage
            track.append(maker(name, time=tick - now, **fields))
            now = tick
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def notes_of(*notes, channel=0):
    """note_on and note_off events of (start, duration, pitch) rows."""
    events = []
    for start, duration, pitch in notes:
        events.append((start, "note_on", dict(note=pitch, velocity=64, channel=channel)))
        events.append((start + duration, "note_off", dict(note=pitch, channel=channel)))
    return sorted(events, key=lambda event: (event[0], event[1] == "note_on"))


@pytest.fixture
def read(tmp_path):
    def read_bytes(data):
        path = tmp_path / "in.mid"
        path.write_bytes(data)
        return read_midi(path)

    return read_bytes


def test_a_written_piece_says_everything(tmp_path):
    write_midi(PIECE, tmp_path / "out.mid", velocity=70, programs=(40, 42))
    file = mido.MidiFile(tmp_path / "out.mid")
    conductor, upper, lower = file.tracks
    told = {message.type: message for message in conductor}
    assert (file.type, file.ticks_per_beat) == (1, 480)
    assert (told["key_signature"].key, told["track_name"].name) == ("C#m", "Fuga")
    assert (told["time_signature"].numerator, told["time_signature"].denominator) == (3, 4)
    assert mido.tempo2bpm(told["set_tempo"].tempo) == pytest.approx(96, abs=0.01)
    assert [track.name for track in (upper, lower)] == ["Ober", "Unter"]
    assert [
        message.program for track in (upper, lower) for message in track if message.type == "program_change"
    ] == [
        40,
        42,
    ]
    sounding = [(m.type, m.note, m.velocity, m.time) for m in upper if m.type.startswith("note")]
    assert sounding == [
        ("note_on", 72, 70, 0),
        ("note_off", 72, 0, 480),
        ("note_on", 72, 70, 0),
        ("note_off", 72, 0, 480),
    ]
    assert {message.channel for message in lower if message.type.startswith("note")} == {1}


def test_places_with_a_name_are_markers():
    places = [(0, "Anfang"), (1440, "Mitte"), (2880, "Schluß")]
    file = make_midi(PIECE, markers=places)
    assert [(tick, message.text) for tick, message in marks(file)] == places


def marks(file: mido.MidiFile) -> list[tuple[int, mido.MetaMessage]]:
    ticks = accumulate(message.time for message in file.tracks[0])
    return [(tick, message) for tick, message in zip(ticks, file.tracks[0], strict=True)
            if message.type == "marker"]


def test_a_written_piece_reads_back(tmp_path):
    write_midi(PIECE, tmp_path / "out.mid")
    assert read_midi(tmp_path / "out.mid") == PIECE


def falling_ranges(piece: Piece) -> Piece:
    """The piece with its voices in the order in which a score has them."""
    return Piece(
        sorted(piece.voices, key=lambda voice: -sum(note.pitch for note in voice) / len(voice)),
        piece.key,
        piece.meter,
        90.0,
        "title",
        tuple(f"Voice {n}" for n in range(len(piece.voices))),
    )


@given(piece=pieces(), key=keys)
@settings(max_examples=60, deadline=None)
def test_any_piece_reads_back(tmp_path_factory, piece, key):
    path = tmp_path_factory.mktemp("midi") / "out.mid"
    piece = falling_ranges(piece)
    write_midi(piece, path)
    assert read_midi(path) == piece


def test_later_keys_stand_at_their_bar_lines():
    piece = Piece([[(0, 4 * 1920, 60)], []], Key(0, "major"))
    conductor = make_midi(piece, keys=[(2000, Key(9, "minor")), (5760, Key(4, "major"))]).tracks[0]
    now, told = 0, []
    for message in conductor:
        now += message.time
        if message.type == "key_signature":
            told.append((now, message.key))
    assert told == [(0, "C"), (1920, "Am"), (5760, "E")]


def test_no_voice_sounds_on_the_drum_channel():
    many = Piece([[(0, 480, 60 + number)] for number in range(12)])
    channels = [m.channel for track in make_midi(many).tracks for m in track if m.type == "note_on"]
    assert len(set(channels)) == 12 and 9 not in channels


@pytest.mark.parametrize(
    "fields, says",
    [
        (dict(tempo_bpm=0), "tempo_bpm 0"),
        (dict(velocity=0), "velocity 0"),
        (dict(velocity=128), "velocity 128"),
    ],
)
def test_settings_out_of_range_are_refused(fields, says):
    with pytest.raises(ValueError) as refusal:
        make_midi(PIECE, **fields)
    assert says in str(refusal.value)
    with pytest.raises(ValueError, match="16 voices"):
        make_midi(Piece([[]] * 16))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "out.mid"
    path.write_bytes(b"old")
    with pytest.raises(ValueError):
        write_midi(PIECE, path, velocity=999)
    with pytest.raises(OSError):
        write_midi(PIECE, tmp_path / "missing" / "out.mid")
    assert path.read_bytes() == b"old"
    write_midi(PIECE, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mid"]


@pytest.mark.parametrize("ticks_per_beat", [24, 96, 384, 480, 960, 1000])
def test_any_resolution_is_resampled(read, ticks_per_beat):
    quarter = ticks_per_beat
    piece = read(
        midi_of(
            [notes_of((0, quarter, 60), (quarter, quarter // 2, 62), (3 * quarter, 4 * quarter, 64))],
            ticks_per_beat,
        )
    )
    assert piece.voices == [[(0, 480, 60), (480, 240, 62), (1440, 1920, 64)]]


def test_what_is_played_falls_on_the_grid(read):
    piece = read(midi_of([notes_of((7, 460, 60), (485, 10, 62), (970, 500, 64))]))
    assert piece.voices == [[(0, 480, 60), (480, 60, 62), (960, 480, 64)]]
    assert on_grid(100.0, 101.0, 60) == (120, 60, 60)


def test_a_slurred_line_stays_one_voice(read):
    piece = read(midi_of([notes_of((0, 520, 60), (480, 530, 62), (960, 480, 64))]))
    assert piece.voices == [[(0, 480, 60), (480, 480, 62), (960, 480, 64)]]


def test_chords_in_one_track_become_voices_from_the_top(read):
    piece = read(
        midi_of(
            [
                notes_of(
                    (0, 960, 72),
                    (0, 480, 64),
                    (0, 960, 48),
                    (480, 480, 65),
                    (960, 480, 71),
                    (960, 480, 67),
                    (960, 480, 43),
                )
            ]
        )
    )
    assert piece.voices == [
        [(0, 960, 72), (960, 480, 71)],
        [(0, 480, 64), (480, 480, 65), (960, 480, 67)],
        [(0, 960, 48), (960, 480, 43)],
    ]


def test_a_line_with_one_chord_in_it_stays_a_line():
    line = [Note(480 * step, 480, pitch) for step, pitch in enumerate([60, 67, 62, 72, 64, 76, 65])]
    voices = split_voices([*line, Note(6 * 480, 480, 60)])
    assert max(len(voice) for voice in voices) == len(line) and len(voices) == 2


@given(
    st.lists(
        st.builds(on_grid, st.integers(0, 4000), st.integers(60, 6000), st.integers(40, 80)), max_size=40
    )
)
@settings(max_examples=80, deadline=None)
def test_split_voices_keep_the_notes_and_never_overlap(notes):
    voices = split_voices(notes)
    for voice in voices:
        assert all(left.end_ticks <= right.start_ticks for left, right in pairwise(voice))
    kept = sorted((note.start_ticks, note.pitch) for voice in voices for note in voice)
    assert kept == sorted({(note.start_ticks, note.pitch) for note in notes})


def test_channels_of_one_track_are_voices_and_drums_are_passed_over(read):
    events = sorted(
        [*notes_of((0, 480, 72)), *notes_of((0, 480, 50), channel=3), *notes_of((0, 480, 36), channel=9)],
        key=lambda event: event[0],
    )
    assert read(midi_of([events], kind=0)).voices == [[(0, 480, 72)], [(0, 480, 50)]]


def test_tracks_that_run_from_the_bass_up_are_turned_round(read):
    tracks = [notes_of((0, 480, pitch)) for pitch in (48, 55, 62, 70)]
    assert [voice[0].pitch for voice in read(midi_of(tracks)).voices] == [70, 62, 55, 48]
    close = [notes_of((0, 480, pitch)) for pitch in (60, 64)]
    assert [voice[0].pitch for voice in read(midi_of(close)).voices] == [60, 64]


def test_a_key_is_read_or_heard(read):
    scale = notes_of(
        *[(480 * step, 480, pitch) for step, pitch in enumerate([62, 64, 65, 67, 69, 70, 73, 74, 62])]
    )
    assert read(midi_of([scale])).key == Key(2, "minor")
    signature = [(0, "key_signature", dict(key="Ebm"))]
    assert read(midi_of([signature, scale])).key == Key(3, "minor")


def test_a_pickup_written_as_a_short_bar_ends_at_the_bar_line(read):
    meters = [
        (0, "time_signature", dict(numerator=1, denominator=4)),
        (480, "time_signature", dict(numerator=4, denominator=4)),
    ]
    piece = read(midi_of([meters, notes_of((0, 480, 67), (480, 960, 72))]))
    assert piece.meter == (4, 4)
    assert piece.voices == [[(1440, 480, 67), (1920, 960, 72)]]


def test_a_later_meter_does_not_count(read):
    meters = [
        (0, "time_signature", dict(numerator=3, denominator=4)),
        (2880, "time_signature", dict(numerator=4, denominator=4)),
    ]
    assert read(midi_of([meters, notes_of((0, 480, 67))])).meter == (3, 4)


def test_a_note_that_nothing_ends_lasts_until_its_track_does(read):
    events = [(0, "note_on", dict(note=60, velocity=64)), (960, "end_of_track", {})]
    assert read(midi_of([events])).voices == [[(0, 960, 60)]]


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "not a MIDI file"),
        (b"ID3 a song", "not a MIDI file"),
        (b"MThd", "broken MIDI file"),
        (midi_of([notes_of((0, 480, 60))])[:30], "it ends before its last event"),
        (midi_of([[]]), "no notes"),
        (midi_of([notes_of((0, 480, 60))], kind=2), "type 2"),
        (midi_of([notes_of((0, 480, 60))]).replace(b"\x01\xe0", b"\xe7\x28", 1), "SMPTE"),
    ],
)
def test_what_is_not_music_is_refused_with_the_reason(tmp_path, data, says):
    path = tmp_path / "in.mid"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"in\.mid") as refusal:
        read_midi(path)
    assert says in str(refusal.value)


def test_a_missing_file_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_midi(tmp_path / "none.mid")


def test_the_counterpoint_corpus_reads_as_its_manifest_says(shared):
    folder = shared / "corpus" / "counterpoint"
    with open(folder / "manifest.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    read = [(row, read_midi(folder / row["file"])) for row in rows[::4]]
    assert all(len(piece.voices) >= int(row["voices"]) for row, piece in read)
    exact = sum(len(piece.voices) == int(row["voices"]) for row, piece in read)
    notes = sum(piece.note_count == int(row["notes"]) for row, piece in read)
    meters = sum(row["meter"].startswith(f"{piece.meter[0]}/{piece.meter[1]}") for row, piece in read)
    assert min(exact, notes, meters) >= 0.9 * len(read)
