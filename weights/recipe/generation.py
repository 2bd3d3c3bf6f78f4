"""Unselected pieces of a model folder: batches through the engine, kept as lines that can be resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlxgen.music.decode import decode
from mlxgen.music.piece import Piece
from mlxgen.music.prompt import Conditioning, make_prompt
from mlxgen.music.theory import Key
from mlxgen.music.vocab import Vocab

BATCH = 25

# What a form is asked for when nothing else is said: style, meter, and keys taken in turn.
STYLE_OF_FORM = {
    "chorale": "bach",
    "fugue": "bach",
    "invention": "bach",
    "sinfonia": "bach",
    "quartet": "classical",
    "motet": "renaissance",
    "trio_sonata": "baroque",
}
KEYS = (Key(0, "major"), Key(2, "minor"), Key(7, "major"), Key(9, "minor"), Key(10, "major"))
MAX_TOKENS = {"chorale": 1700, "invention": 3600, "fugue": 1400, "quartet": 1400}


@dataclass(frozen=True)
class Order:
    """What to generate: a prompt's words and how to draw."""

    form: str
    temperature: float = 0.9
    min_p: float = 0.03
    soft_rules: str = "none"
    eos: str = "length"  # ends inside the bars of the prompt's length; "allow": wherever the model likes
    max_tokens: int = 1200
    bars: int = 0  # stop after so many bars; 0: when the piece ends
    words: dict[str, str | int] = field(default_factory=dict)

    def conditioning(self) -> Conditioning:
        said = {"form": self.form, "style": STYLE_OF_FORM.get(self.form, "bach"), **self.words}
        return Conditioning(**said).with_defaults()


def order_for(form: str, defaults: dict, **changes) -> Order:
    """An order at a folder's generation defaults: those of the form, else the folder's, else the engine's."""
    knobs = {**defaults, **defaults.get("forms", {}).get(form, {})}
    chosen = {name: knobs[name] for name in ("temperature", "min_p", "soft_rules") if name in knobs}
    return Order(form, **{**chosen, **changes})


def generate(model, vocab: Vocab, order: Order, key: Key, seeds: list[int]) -> list[dict]:
    """One row a seed: ids with the prompt, the sum of logprobs, and how it ended."""
    from mlxgen.sampling.candidates import candidates, stop_after_bars
    from mlxgen.sampling.engine import Engine
    from mlxgen.sampling.rules import RuleSet, soft_rules
    from mlxgen.sampling.sampler import SamplingParams

    prompt = make_prompt(order.conditioning(), key, vocab)
    engine = Engine(
        model,
        vocab,
        params=SamplingParams(temperature=order.temperature, min_p=order.min_p),
        rules=RuleSet(soft=soft_rules(order.soft_rules), eos=order.eos),
        seed=seeds[0],
    )
    engine.prefill(prompt)
    stop = stop_after_bars(vocab, order.bars) if order.bars else None
    drawn = candidates(engine, len(seeds), order.max_tokens, stop, seeds)
    return [
        {
            "seed": seed,
            "key": list(key),
            "order": asdict(order),
            "ids": prompt + candidate.ids,
            "nats": -sum(candidate.logprobs),
            "ended": candidate.ended,
        }
        for seed, candidate in zip(seeds, drawn, strict=True)
    ]


def generate_to(
    path: Path, model, vocab: Vocab, order: Order, count: int, batch: int = BATCH
) -> list[dict]:
    """`count` rows in a file of JSON lines, making only those that are not there; seeds are 0, 1, 2, ...

    Every `batch` rows are in the next of KEYS.

    Raises ValueError where the file holds pieces of another order.
    """
    rows = read_lines(path)
    for row in rows:
        if row["order"] != asdict(order):
            raise ValueError(f"{path}: made for {row['order']}; expected {asdict(order)} or no file")
    began, ids, fresh = time.monotonic(), 0, 0
    while len(rows) < count:
        first = len(rows)
        seeds = list(range(first, min(first + batch, count)))
        made = generate(model, vocab, order, KEYS[first // batch % len(KEYS)], seeds)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in made)
        rows += made
        ids, fresh = ids + sum(len(row["ids"]) for row in made), fresh + len(made)
        elapsed_s = time.monotonic() - began
        left_s = elapsed_s / fresh * (count - len(rows))
        rate = f"{ids / elapsed_s:.0f} ids/s, {left_s:.0f} s left"
        print(f"{path.name}: {len(rows)} of {count}, {rate}", flush=True)
    return rows[:count]


def read_lines(path: Path) -> list[dict]:
    """JSON lines, or none for a file that is not there; a last line cut short by a kill is dropped."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def pieces_of(rows: list[dict], vocab: Vocab) -> Iterator[Piece]:
    """The rows' music."""
    for row in rows:
        yield decode(row["ids"], vocab)
