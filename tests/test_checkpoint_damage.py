"""Damaged and doctored checkpoints: every one converts to finite weights or is refused in one line."""

from __future__ import annotations

import io
import pickletools
from pathlib import Path

import numpy as np
import pytest
from handmade import (
    make_config,
    make_content,
    make_pickle,
    make_tensors,
    write_checkpoint,
    write_legacy,
    write_zip,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert.checkpoint import KNOWN_GLOBALS, find_storage, read_checkpoint
from convert.unpickle import read_pickle
from convert.upstream import arrange_tensors, count_rows, translate_config


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("fuzz")
    content, storages = make_content(make_config(), make_tensors(make_config()), legacy=True)
    zipped = write_checkpoint(folder / "zip.pt").read_bytes()
    return {"zip": zipped, "legacy": write_legacy(folder / "old.pt", content, storages).read_bytes()}


def convert_or_refuse(path: Path) -> None:
    """Finite weights of a checked shape, or one line of ValueError: any other exception fails the test."""
    try:
        checkpoint = read_checkpoint(path)
        config = translate_config(checkpoint.config, count_rows(checkpoint.tensors))
        tensors = arrange_tensors(checkpoint.tensors, config)
    except ValueError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 600
        str(error).encode("utf-8")
    else:
        assert all(np.isfinite(array).all() for array in tensors.values())


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["zip", "legacy"]), data=st.data())
def test_flipped_and_missing_bytes(tmp_path, whole_files, kind, data):
    whole = bytearray(whole_files[kind])
    hot = min(len(whole), 9000)  # where the pickles lie; the rest is weights
    for _ in range(data.draw(st.integers(1, 4), "edits")):
        place = data.draw(st.one_of(st.integers(0, hot - 1), st.integers(0, len(whole) - 1)), "place")
        whole[place] = data.draw(st.integers(0, 255), "byte")
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))), "length")
    path = tmp_path / "a.pt"
    path.write_bytes(whole[:cut])
    convert_or_refuse(path)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_edited_pickles_with_good_checksums(tmp_path, data):
    """The attacker's way: the zip is sound, the pickle inside is not."""
    content, storages = make_content(make_config(), make_tensors(make_config()))
    code = bytearray(make_pickle(content))
    codes = st.sampled_from([ord(opcode.code) for opcode in pickletools.opcodes])
    for _ in range(data.draw(st.integers(1, 6), "edits")):
        place = data.draw(st.integers(0, len(code) - 1), "place")
        byte = data.draw(st.one_of(codes, st.integers(0, 255)), "byte")
        if data.draw(st.booleans(), "insert"):
            code.insert(place, byte)
        else:
            code[place] = byte
    convert_or_refuse(write_zip(tmp_path / "a.pt", bytes(code), storages))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(list(pickletools.opcodes)), max_size=40), st.binary(max_size=200))
def test_any_opcodes_at_all(opcodes, filling):
    """Opcodes in any order over any argument bytes: read_pickle answers with a value or a ValueError."""
    code = b"".join(opcode.code.encode("latin1") + filling[3 * number: 3 * number + 3]
                    for number, opcode in enumerate(opcodes))
    try:
        read_pickle(io.BytesIO(code + b"."), KNOWN_GLOBALS, find_storage)
    except ValueError:
        return
