"""mlxgen info: what a model folder holds."""

from __future__ import annotations

from pathlib import Path

import click

from mlxgen.commands import options

_FAMILIES = ("FORM_", "STYLE_", "METER_", "KEY_", "LENGTH_", "TEXTURE_", "IMITATION_", "HARMONIC_RHYTHM_",
             "HARMONIC_TENSION_", "CHROMATICISM_", "ENCODE_", "CAD_", "SECTION_", "Dur_")


@click.command("info")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def command(folder: Path | None):
    """Describe a model folder: card, configuration, vocabulary, generation defaults.

    FOLDER is the shipped model when left out.
    """
    from mlxgen.model.config import ModelConfig
    from mlxgen.model.load import load_generation_defaults, read_config
    from mlxgen.music.vocab import Vocab

    folder = folder or options.default_model_folder()
    data = read_config(folder)
    config = ModelConfig.from_dict(data)
    vocab = Vocab.load(folder / "tokenizer.json")
    size = (folder / "model.safetensors").stat().st_size
    click.echo(f"{folder}")
    for line in _card(folder / "card.md"):
        click.echo(f"  {line}")
    click.echo("\nmodel")
    facts = {**config.to_dict(), "dtype": data.get("dtype"), "file": f"{size / 1e6:.1f} MB"}
    for name, value in facts.items():
        click.echo(f"  {name:14} {value}")
    click.echo(f"\nvocabulary: {vocab.kind}, {len(vocab)} ids, "
               f"pitches {vocab.min_pitch} to {vocab.max_pitch}")
    for prefix in _FAMILIES:
        names = list(vocab.family(prefix))
        if names:
            click.echo(f"  {prefix.rstrip('_'):17} {_names(prefix, names)}")
    click.echo("\ngeneration defaults")
    defaults = load_generation_defaults(folder)
    for line in _defaults(defaults) or ["none: mlxgen's own"]:
        click.echo(f"  {line}")


def _card(path: Path) -> list[str]:
    """The card's first heading and paragraph; nothing where there is no card."""
    if not path.is_file():
        return ["no card.md"]
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    kept = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if set(line) <= set("|- "):
            continue
        table_row = line.startswith("|") and len(cells) == 2
        kept.append(f"{cells[0]:16} {cells[1]}" if table_row else line.lstrip("# "))
    return kept[:14]


def _names(prefix: str, names: list[str]) -> str:
    if prefix == "KEY_":
        return f"{len(names)} keys, {names[0].replace('_', ' ')} to {names[-1].replace('_', ' ')}"
    return " ".join(name.lower() for name in names)


def _defaults(defaults: dict, indent: str = "") -> list[str]:
    lines = []
    for name, value in defaults.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_defaults(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name} {value}")
    return lines
