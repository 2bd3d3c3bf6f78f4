"""Trains a model: `nice -n 19 python -m weights.recipe.train --work DIR --out DIR --minutes 90`.

Runs on CPU and CUDA in bfloat16 autocast. How far training is, 0 to 1, is the share of its budget that is
spent: steps (`--steps`) or wall-clock minutes (`--minutes`, pauses included, so it ends in time on a shared
machine). Learning rate, length of the crops and shares of the forms follow from that one number. Stop it at
any moment with SIGTERM or SIGINT: it writes `latest.pt` and leaves; the same command goes on from there. In
--out:

    latest.pt  the state to resume      trunk.pt  before the rate began to fall: resume here
    best.pt    the best validation      log.jsonl one line every few steps and every validation
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as functional

from convert.reference import ReferenceModel
from mlxgen.model.config import ModelConfig
from mlxgen.music.vocab import Vocab

from . import checkpoints
from .corpus import read_vocab
from .data import FORMS, IGNORED, CropSampler, load_pieces
from .optim import make_optimizers
from .schedule import DECAY_FROM, Settings, crop_length, learning_rate
from .windows import by_form, make_windows, measure_windows

LOG_EVERY_STEPS = 20
VALID_WINDOWS = 10  # a form


class Trainer:
    """One training run that can stop and go on. `run()` returns when the budget is spent or a signal came."""

    def __init__(
        self,
        settings: Settings,
        config: ModelConfig,
        work: Path,
        out: Path,
        vocab: Vocab,
        start: Path | None = None,
    ):
        self.settings, self.config, self.out = settings, config, out
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(settings.seed)
        pieces = load_pieces(work, vocab)
        self.sampler = CropSampler(
            [piece for piece in pieces if piece.split == "train"], vocab, settings.seed
        )
        self._valid = [piece for piece in pieces if piece.split in ("valid", "jsb_valid")]
        self.model = ReferenceModel(config, settings.dropout).to(settings.device)
        self.optimizers = make_optimizers(self.model, settings.optimizer, settings.lr, settings.weight_decay)
        self.state = {
            "step": 0,
            "tokens": 0,
            "elapsed_s": 0.0,
            "best_val_loss": math.inf,
            "val_loss": math.inf,
        }
        self._stopping = False
        if (out / "latest.pt").is_file():
            self._restore(out / "latest.pt")
        elif start is not None:
            weights = checkpoints.load(start)["model_state_dict"]
            self.model.load_state_dict(checkpoints.with_new_names(weights, config.vocab_size))

    def _restore(self, path: Path) -> None:
        content = checkpoints.load(path)
        self.model.load_state_dict(content["model_state_dict"])
        self.state.update(content["recipe"])
        kept = content["optimizer_state_dict"]["optimizers"]
        for optimizer, state in zip(self.optimizers, kept, strict=True):
            optimizer.load_state_dict(state)
        print(f"going on from {path}, step {self.state['step']}", flush=True)

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        if self.settings.steps:
            return self.state["step"] / self.settings.steps
        return self.state["elapsed_s"] / (60 * self.settings.minutes)

    def stop(self, *_) -> None:
        self._stopping = True

    def save(self, name: str) -> None:
        checkpoints.save(
            self.out / name, self.model, self.optimizers, self.config, self.settings.dropout, self.state
        )

    def log(self, **values) -> None:
        line = {
            "step": self.state["step"],
            "tokens": self.state["tokens"],
            "elapsed_s": round(self.state["elapsed_s"], 1),
            **values,
        }
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(
            " ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in line.items()
            ),
            flush=True,
        )

    def step(self, progress: float) -> float:
        """One optimizer step; returns the loss in nats per charged token."""
        settings, number = self.settings, self.state["step"]
        length = crop_length(number, progress, settings.shortest, self.config.max_seq_len)
        rows = max(1, settings.tokens_per_step // length)
        inputs, targets = (
            torch.from_numpy(array).to(settings.device)
            for array in self.sampler.batch(number, rows, length, min(progress, 1.0))
        )
        self.model.train()
        with torch.device(settings.device), torch.autocast(settings.device, torch.bfloat16):
            logits = self.model(inputs)
        loss = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        lr = learning_rate(settings, number, progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()
        self.state["step"] += 1
        self.state["tokens"] += rows * length
        return float(loss.detach())

    def validate(self, length: int = 1024) -> float:
        """Nats per token on held-out windows, mean over forms; keeps best.pt."""
        windows = []
        for form in FORMS:
            own = [
                window
                for piece in self._valid
                if piece.form == form
                for window in make_windows(piece, min(length, self.config.max_seq_len), limit=2)
            ]
            windows += own[:VALID_WINDOWS]
        if not windows:
            return math.inf
        totals = measure_windows(self.model, windows, self.settings.device)
        forms = by_form(totals, {window.piece: window.form for window in windows})
        self.state["val_loss"] = sum(forms.values()) / len(forms)
        self.log(
            valid=round(self.state["val_loss"], 4), **{form: round(value, 4) for form, value in forms.items()}
        )
        if self.state["val_loss"] < self.state["best_val_loss"]:
            self.state["best_val_loss"] = self.state["val_loss"]
            self.save("best.pt")
        return self.state["val_loss"]

    def run(self) -> None:
        """Train until the budget is spent or a signal comes; whole checkpoints in either case."""
        handlers = {name: signal.signal(name, self.stop) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._loop()
        finally:
            for name, handler in handlers.items():
                signal.signal(name, handler)
        self.validate()
        self.save("latest.pt")
        if not self._stopping:
            shutil.copyfile(self.out / "latest.pt", self.out / "final.tmp")
            os.replace(self.out / "final.tmp", self.out / "final.pt")

    def _loop(self) -> None:
        clock = saved = validated = time.monotonic()
        losses, counted_from = [], (self.state["tokens"], clock)
        while self.progress < 1 and not self._stopping:
            before = self.progress
            losses.append(self.step(before))
            now = time.monotonic()
            self.state["elapsed_s"] += now - clock
            clock = now
            if before < DECAY_FROM <= self.progress:
                self.save("trunk.pt")
            if self.state["step"] % LOG_EVERY_STEPS == 0:
                tokens_per_s = (self.state["tokens"] - counted_from[0]) / max(now - counted_from[1], 1e-9)
                self._log_training(losses, before, tokens_per_s)
                losses, counted_from = [], (self.state["tokens"], now)
            if now - saved > self.settings.save_every_s:
                self.save("latest.pt")
                saved = now
            if now - validated > self.settings.valid_every_s:
                self.validate()
                validated = time.monotonic()

    def _log_training(self, losses: list[float], progress: float, tokens_per_s: float) -> None:
        left_s = self.state["elapsed_s"] * (1 / max(self.progress, 1e-9) - 1)
        self.log(
            loss=round(sum(losses) / len(losses), 4),
            progress=round(progress, 4),
            lr=learning_rate(self.settings, self.state["step"], progress),
            tokens_per_s=round(tokens_per_s),
            minutes_left=round(left_s / 60, 1),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the built corpus")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--start", type=Path, help="checkpoint whose weights a new run begins with")
    parser.add_argument(
        "--drope",
        type=int,
        default=0,
        metavar="TOKENS",
        help="recalibrate --start without positions; TOKENS is the context it was trained with",
    )
    parser.add_argument("--threads", type=int, default=0)
    shape = {
        "embed_dim": 256,
        "num_heads": 8,
        "num_kv_heads": 2,
        "num_layers": 8,
        "ffn_dim": 704,
        "max_seq_len": 4096,
    }
    for name, default in shape.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    for name, default in Settings().__dict__.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    args = vars(parser.parse_args())
    if not args["steps"] and not args["minutes"]:
        parser.error("give a budget: --minutes or --steps")
    if args["threads"]:
        torch.set_num_threads(args["threads"])
    vocab = read_vocab(args["work"])
    config = ModelConfig(
        vocab_size=len(vocab),
        drope=bool(args["drope"]),
        train_seq_len=args["drope"],
        **{name: args[name] for name in shape},
    )
    settings = Settings(**{name: args[name] for name in Settings().__dict__})
    Trainer(settings, config, args["work"], args["out"], vocab, args["start"]).run()


if __name__ == "__main__":
    main()
