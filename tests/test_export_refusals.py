"""What cannot be converted: exit 2, one line that says what, where and what was expected, nothing left."""

from __future__ import annotations

import pytest
from broken import BROKEN, TOKENIZERS, with_value
from handmade import TINY_NAMES, check_refused, run_convert, write_checkpoint, write_tokenizer

from convert.__main__ import main


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_checkpoints(tmp_path, capsys, name, dtype):
    write, message = BROKEN[name]
    path = write(tmp_path / "broken.pt")
    write_tokenizer(tmp_path / "tokenizer.json")
    before = set(tmp_path.rglob("*"))
    status = run_convert(tmp_path, path, "--dtype", dtype)
    check_refused(tmp_path, capsys.readouterr(), before, status, str(path), message)


def test_a_weight_that_float16_cannot_hold(tmp_path, capsys):
    path = with_value(70000.0)(tmp_path / "a.pt")
    write_tokenizer(tmp_path / "tokenizer.json")
    before = set(tmp_path.rglob("*"))
    status = run_convert(tmp_path, path, "--dtype", "float16")
    check_refused(tmp_path, capsys.readouterr(), before, status,
                  "layers.1.ffn.w1.weight reaches 7e+04", "65504")
    assert run_convert(tmp_path, path) == 0


@pytest.mark.parametrize("name", TOKENIZERS)
def test_broken_tokenizers(tmp_path, capsys, name):
    text, message = TOKENIZERS[name]
    checkpoint, tokenizer = write_checkpoint(tmp_path / "a.pt"), tmp_path / "names.json"
    if text is not None:
        tokenizer.write_text(text, encoding="utf-8", errors="surrogateescape")
    before = set(tmp_path.rglob("*"))
    status = main([str(checkpoint), "--tokenizer", str(tokenizer), "--out", str(tmp_path / "model")])
    check_refused(tmp_path, capsys.readouterr(), before, status, "names.json", message)


@pytest.mark.parametrize("more", [-3, 1, 40])
def test_a_tokenizer_of_another_model(tmp_path, capsys, more):
    """More names than rows, or fewer: every id would have a wrong name, and nothing later could tell."""
    names = TINY_NAMES[:more] if more < 0 else [*TINY_NAMES, *(f"LATER_{number}" for number in range(more))]
    path = write_checkpoint(tmp_path / "a.pt")
    write_tokenizer(tmp_path / "tokenizer.json", names)
    before = set(tmp_path.rglob("*"))
    status = run_convert(tmp_path, path, names=names)
    expected = f"has {len(names)} names; the embedding has {len(TINY_NAMES)} rows"
    check_refused(tmp_path, capsys.readouterr(), before, status, expected)
