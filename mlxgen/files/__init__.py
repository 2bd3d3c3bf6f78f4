"""Pieces in and out: MIDI, MusicXML, piano rolls."""
