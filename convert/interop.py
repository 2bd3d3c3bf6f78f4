"""python -m convert.interop FOLDER...: lets mlx-lm drive the model of a folder.

Adds to a model folder what mlx-lm looks for; nothing that mlxgen reads changes:
    mlx_lm_model.py         the architecture, named by `model_file` of config.json
    tokenizer.4.0.0.json    the names of the ids as words between spaces, in the format of `tokenizers`
    tokenizer_config.json   says which of the two tokenizer files is for transformers

    model, tokenizer = mlx_lm.load(FOLDER, trust_remote_code=True)
    ids = tokenizer.encode("BOS STYLE_bach FORM_chorale ...")
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from mlxgen.model.load import read_config
from mlxgen.music.vocab import Vocab

MODEL_FILE = "mlx_lm_model.py"
WORDS_FILE = "tokenizer.4.0.0.json"  # transformers takes the newest version that is not above its own
TEMPLATE = Path(__file__).with_name(MODEL_FILE)


def make_words(vocab: Vocab) -> dict:
    """A `tokenizers` file: every name is a word, words stand between spaces."""
    special = [name for name in ("PAD", "BOS", "EOS") if name in vocab]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocab[name], "content": name, "single_word": True, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True} for name in special],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {name: token for token, name in enumerate(vocab.names)},
                  "unk_token": "PAD" if "PAD" in vocab else vocab.names[0]}}


def add_interop(folder: str | Path) -> None:
    """Add mlx-lm's files to a model folder, or write them anew. ValueError where it is no model folder."""
    folder = Path(folder)
    config, vocab = read_config(folder), Vocab.load(folder / "tokenizer.json")
    config |= {"model_type": "mlxgen", "model_file": MODEL_FILE, "eos_token_id": vocab["EOS"]}
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "fast_tokenizer_files": [WORDS_FILE],
             "clean_up_tokenization_spaces": False, "bos_token": "BOS", "eos_token": "EOS"}
    shutil.copyfile(TEMPLATE, folder / MODEL_FILE)
    for name, content in ((WORDS_FILE, make_words(vocab)), ("tokenizer_config.json", words),
                          ("config.json", config)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m convert.interop", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    for folder in parser.parse_args(arguments).folders:
        add_interop(folder)


if __name__ == "__main__":
    main()
