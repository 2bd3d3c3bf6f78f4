"""Piece -> ids, in both tokenizers (scale degrees, absolute pitches), interleaved and voice by voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlxgen.music.decode import Decoder
from mlxgen.music.piece import Note, Piece
from mlxgen.music.prompt import Conditioning, key_id, make_prefix, meter_token_name
from mlxgen.music.theory import Key, bar_ticks, beat_count, beat_ticks, pitch_to_degree
from mlxgen.music.vocab import Vocab


@dataclass(frozen=True)
class Markers:
    """What the notes do not say: written only where the vocabulary has the token.

    cadences   {tick of a bar line: "PAC" | "IAC" | "HC" | "DC"}: the cadence reached there
    sections   {tick of a bar line: "EXPOSITION", ...}: SECTION_ tokens, before that line's BAR
    subjects   {(voice 1.., index of the first note, index of the last note)}: entries of a subject
    """

    cadences: Mapping[int, str] = field(default_factory=dict)
    sections: Mapping[int, str] = field(default_factory=dict)
    subjects: frozenset[tuple[int, int, int]] = frozenset()


NO_MARKERS = Markers()


def pitch_ids(pitch: int, key: Key, vocab: Vocab) -> list[int]:
    """The ids that name a pitch, moved to the nearest end of the vocabulary's range if outside.

    Scale degrees: OCT, perhaps SHARP, DEG. Absolute: Pitch.
    """
    pitch = min(max(pitch, vocab.min_pitch), vocab.max_pitch)
    if vocab.kind == "absolute":
        return [vocab[f"Pitch_{pitch}"]]
    octave, degree, alteration = pitch_to_degree(pitch, key)
    octave = min(max(octave, vocab.min_octave), vocab.max_octave)
    accidental = [vocab["SHARP"]] if alteration else []
    return [vocab[f"OCT_{octave}"], *accidental, vocab[f"DEG_{degree}"]]


def nearest_duration(duration_ticks: int, vocab: Vocab) -> int:
    """The duration bin nearest to `duration_ticks`, the shorter one of two equally near."""
    return min(vocab.duration_bins, key=lambda bin_ticks: abs(bin_ticks - duration_ticks))


def time_shift_ids(ticks: int, vocab: Vocab) -> list[int]:
    """TimeShift ids that sum to `ticks`, largest first; less than half the smallest bin is dropped."""
    bins = vocab.time_shift_bins
    ids = []
    while ticks > 0:
        step = max((bin_ticks for bin_ticks in bins if bin_ticks <= ticks), default=bins[0])
        ids.append(vocab[f"TimeShift_{step}"])
        ticks -= step
        if ticks < bins[0] // 2:
            break
    return ids


class _Timeline:
    """Writes time: BAR and BEAT tokens at the lines that the clock passes, TimeShifts between."""

    def __init__(self, meter: tuple[int, int], vocab: Vocab, markers: Markers, start_ticks: int = 0):
        self.ids: list[int] = []
        self._vocab, self._markers = vocab, markers
        self._now_ticks = start_ticks
        self._beat_ticks, self._beats = beat_ticks(meter), beat_count(meter)
        self._bar_ticks = bar_ticks(meter)
        bar, into_bar = divmod(start_ticks, self._bar_ticks)
        beat = -(-into_bar // self._beat_ticks)
        self._next_line = bar * self._beats + min(beat, self._beats)

    def _line_ticks(self) -> int:
        bar, beat = divmod(self._next_line, self._beats)
        return bar * self._bar_ticks + beat * self._beat_ticks

    def _shift_to(self, ticks: int) -> None:
        self.ids += time_shift_ids(ticks - self._now_ticks, self._vocab)
        self._now_ticks = ticks

    def _mark(self, prefix: str, name: str | None) -> None:
        if name is not None and f"{prefix}{name}" in self._vocab:
            self.ids.append(self._vocab[f"{prefix}{name}"])

    def advance(self, to_ticks: int) -> None:
        """Move the clock to `to_ticks`, writing every bar and beat line on the way, the last included."""
        while (line_ticks := self._line_ticks()) <= to_ticks:
            self._shift_to(line_ticks)
            beat = self._next_line % self._beats + 1
            if beat == 1:
                if line_ticks > 0:
                    self._mark("CAD_", self._markers.cadences.get(line_ticks))
                self._mark("SECTION_", self._markers.sections.get(line_ticks))
                self.ids.append(self._vocab["BAR"])
            self._mark("BEAT_", str(beat))
            self._next_line += 1
        self._shift_to(to_ticks)


def _note_ids(note: Note, key: Key, vocab: Vocab) -> list[int]:
    return [*pitch_ids(note.pitch, key, vocab), vocab[f"Dur_{nearest_duration(note.duration_ticks, vocab)}"]]


def _write(rows, piece: Piece, vocab: Vocab, markers: Markers, *, start_ticks: int,
           name_voices: bool) -> list[int]:
    """One timeline of (voice, index in its voice, note) rows in time order -> ids."""
    timeline = _Timeline(piece.meter, vocab, markers, start_ticks)
    first = {(voice, begin) for voice, begin, _ in markers.subjects} if "SUBJECT_START" in vocab else set()
    last = {(voice, end) for voice, _, end in markers.subjects} if "SUBJECT_END" in vocab else set()
    for voice, index, note in rows:
        timeline.advance(note.start_ticks)
        if (voice, index) in first:
            timeline.ids.append(vocab["SUBJECT_START"])
        if name_voices:
            timeline.ids.append(vocab[f"VOICE_{voice}"])
        timeline.ids += _note_ids(note, piece.key, vocab)
        if (voice, index) in last:
            timeline.ids.append(vocab["SUBJECT_END"])
    return timeline.ids


def encode_events(piece: Piece, vocab: Vocab, *, encoding: str = "interleaved", start_ticks: int = 0,
                  markers: Markers = NO_MARKERS) -> list[int]:
    """The ids of the notes that begin at `start_ticks` or later, without prefix and EOS.

    The clock begins at `start_ticks`; a bar or beat line there is written. Raises ValueError for more voices
    than the vocabulary can name, and for "sequential" where it has no VOICE_SEP.
    """
    if len(piece.voices) > vocab.max_voices:
        raise ValueError(f"piece has {len(piece.voices)} voices; "
                         f"the vocabulary writes at most {vocab.max_voices}")
    rows = [(voice, index, note) for voice, notes in enumerate(piece.voices, start=1)
            for index, note in enumerate(notes) if note.start_ticks >= start_ticks]
    if encoding == "interleaved":
        rows.sort(key=lambda row: (row[2].start_ticks, row[0]))
        return _write(rows, piece, vocab, markers, start_ticks=start_ticks, name_voices=True)
    if encoding != "sequential":
        raise ValueError(f"encoding {encoding!r}: expected interleaved or sequential")
    if "VOICE_SEP" not in vocab:
        raise ValueError("encoding 'sequential': the vocabulary has no VOICE_SEP token")
    ids: list[int] = []
    for voice in range(1, len(piece.voices) + 1):
        if voice > 1:
            ids.append(vocab["VOICE_SEP"])
        ids.append(vocab[f"VOICE_{voice}"])
        own = [row for row in rows if row[0] == voice]
        told = markers if voice == 1 else replace(markers, cadences={}, sections={})
        ids += _write(own, piece, vocab, told, start_ticks=start_ticks, name_voices=False)
    return ids


def encode(piece: Piece, vocab: Vocab, conditioning: Conditioning | None = None, *,
           markers: Markers = NO_MARKERS) -> list[int]:
    """A whole piece as ids: prefix, events, EOS.

    Key and meter are the piece's own; what `conditioning` leaves unsaid is left out. A meter that the
    vocabulary has no token for is left out as well. Raises ValueError if the conditioning names another
    meter than the piece has, or a value that the vocabulary lacks.
    """
    conditioning = conditioning or Conditioning()
    if conditioning.meter not in (None, piece.meter):
        raise ValueError(f"conditioning says meter {conditioning.meter}, the piece is in {piece.meter}")
    meter = piece.meter if f"METER_{meter_token_name(piece.meter).upper()}" in vocab else None
    encoding = conditioning.encoding or "interleaved"
    prefix = make_prefix(replace(conditioning, meter=meter, encoding=encoding), piece.key, vocab)
    return [*prefix, *encode_events(piece, vocab, encoding=encoding, markers=markers), vocab["EOS"]]


def reencode(ids: Sequence[int], vocab: Vocab, new_key: Key, old_key: Key | None = None) -> list[int]:
    """A history of ids written anew in `new_key`: the same pitches at the same times, as other degrees.

    The first KEY_ token becomes the new key's, later ones go. A history without one needs `old_key`, the key
    it was written in; none is added. Pitch tokens that no duration completes say nothing and are left out.
    Raises ValueError for a key that the vocabulary lacks, and where the old key is not known.
    """
    new_token = key_id(new_key, vocab)
    key_tokens = set(vocab.family("KEY_").values())
    pitch_tokens = {token for prefix in ("OCT_", "DEG_", "Pitch_") for token in vocab.family(prefix).values()}
    pitch_tokens |= {vocab[name] for name in ("SHARP", "FLAT") if name in vocab}
    decoder = Decoder(vocab, old_key, keep_notes=False)
    known = old_key is not None or vocab.kind == "absolute"
    written: list[int] = []
    keys_seen = 0
    for token in ids:
        for _, note in decoder.feed(token):
            if not known:
                raise ValueError("a note before any KEY_ token: say the old key")
            written += pitch_ids(note.pitch, new_key, vocab)
        if token in key_tokens:
            known = True
            keys_seen += 1
            if keys_seen == 1:
                written.append(new_token)
        elif token not in pitch_tokens:
            written.append(token)
    return written
