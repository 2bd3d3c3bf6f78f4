"""The torch contestant: a decode loop shaped like upstream's, with its decode-time rules.

Upstream's facts, our code: key-value buffers of the full length written in place, stored once per query
head, values spread to the keys' width, torch's scaled_dot_product_attention; the whole buffer moved down by
one when the window is full; rules on every id in plain Python over the model's logits; softmax, min-p,
multinomial, and the id read back before the next step. Batches prefill the prompt for every row. One or two
threads, whichever is faster here. Runs the same weights as ours. Checked against upstream's own loop at
context 32 on one thread: 3.9 ms of CPU an id here, 4.1-4.3 there.
"""

from __future__ import annotations

import math
import os
import resource
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from bench.worker import serve, time_each
from convert.reference import NORM_EPS, POSITIONS, ReferenceModel
from mlxgen.model.config import ModelConfig
from mlxgen.model.load import read_config
from mlxgen.music.prompt import Conditioning, make_prompt
from mlxgen.music.theory import Key, degree_to_pitch
from mlxgen.music.vocab import Vocab
from mlxgen.sampling.context import read_context
from mlxgen.sampling.ranges import upstream_range

TEMPERATURE, MIN_P = 0.9, 0.03


class UpstreamRules:
    """Voice ranges, chromatic penalty, repetition, coverage and the rest, worked out anew for every id and
    written into the logits one by one, as upstream does."""

    def __init__(self, vocab: Vocab, prompt: list[int]):
        self.vocab, self.names = vocab, vocab.names
        self.context = read_context(prompt, vocab)
        self.required = range(1, self.context.voice_count(vocab) + 1)
        self.voice_ids = {vocab[f"VOICE_{voice}"]: voice for voice in range(1, 5)}
        self.voice, self.octave, self.sign, self.notes = 1, None, 0, 0
        self.recent: list[int] = []
        self.sounded: set[int] = set()
        for token in prompt:
            self.feed(token)

    def feed(self, token: int) -> None:
        name = self.names[token]
        if token in self.voice_ids:
            self.voice, self.octave, self.sign, self.notes = self.voice_ids[token], None, 0, 0
        elif name.startswith("OCT_"):
            self.octave, self.sign = int(name[4:]), 0
        elif name in ("SHARP", "FLAT"):
            self.sign = 1 if name == "SHARP" else -1
        elif name.startswith("Dur_"):
            self.octave, self.sign, self.notes = None, 0, self.notes + 1
            self.sounded.add(self.voice)
        elif name.startswith("TimeShift_"):
            self.octave, self.sign = None, 0
        self.recent = [*self.recent[-31:], token]

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """One more row of logits (V,) with every rule applied."""
        logits = logits.clone()
        self._mask_range(logits)
        for name in ("SHARP", "FLAT"):
            if name in self.vocab:
                logits[self.vocab[name]] -= 1.0
        logits[self.recent[-1]] -= 1.0
        if self.recent[-6:-3] == self.recent[-3:]:
            for token in self.recent[-3:]:
                logits[token] -= 2.0
        for name in ("PAD", "BOS", "EOS"):  # EOS too: the stream shall not end
            logits[self.vocab[name]] = -math.inf
        if "VOICE_SEP" in self.vocab and self.notes < 4:
            logits[self.vocab["VOICE_SEP"]] = -math.inf
        for token, voice in self.voice_ids.items():
            if voice in self.required and voice not in self.sounded and torch.isfinite(logits[token]):
                logits[token] += 1.5
        if not bool(torch.any(torch.isfinite(logits)).item()):
            raise RuntimeError("every id is masked")
        return logits

    def _mask_range(self, logits: torch.Tensor) -> None:
        low, high = upstream_range(self.context.form, self.voice)
        key = self.context.key
        for octave in range(self.vocab.min_octave, self.vocab.max_octave + 1):
            token = self.vocab.get(f"OCT_{octave}")
            if token is not None and (degree_to_pitch(octave, 7, 1, key) < low
                                      or degree_to_pitch(octave, 1, 0, key) > high):
                logits[token] = -math.inf
        if self.octave is not None:
            for degree in range(1, 8):
                if not low <= degree_to_pitch(self.octave, degree, self.sign, key) <= high:
                    logits[self.vocab[f"DEG_{degree}"]] = -math.inf


def draw(logits: torch.Tensor) -> int:
    """Temperature, min-p, a checked softmax, multinomial: the sampler upstream runs on every id."""
    scaled = logits.clone() / TEMPERATURE
    probabilities = F.softmax(scaled, dim=-1)
    keep = probabilities >= MIN_P * torch.max(probabilities)
    if torch.any(keep):
        scaled = scaled.masked_fill(~keep, -math.inf)
    probabilities = torch.nan_to_num(F.softmax(scaled, dim=-1), nan=0.0, posinf=0.0, neginf=0.0)
    total = probabilities.sum()
    if not torch.isfinite(total).item() or total.item() <= 0:
        raise RuntimeError("nothing to draw from")
    return int(torch.multinomial(probabilities / total, num_samples=1).item())


class BufferedModel:
    """The reference model's weights run with buffers written in place, as upstream's are laid out."""

    def __init__(self, model: ReferenceModel):
        self.model, self.config = model, model.config
        self.length = self.config.max_seq_len
        head_dim = self.config.head_dim
        self.make_table, self.place, width = POSITIONS[self.config.pos_encoding, self.config.drope]
        spread = self.config.pos_encoding == "pope" and not self.config.drope
        self.key_width = 2 * head_dim if spread else head_dim
        self.scale = (width * head_dim) ** -0.5
        self.table = self.make_table(0, 4 * self.length, head_dim, self.config.rope_theta)

    def start(self, batch: int) -> None:
        shape = batch, self.config.num_heads, self.length, self.key_width
        self.keys = [torch.empty(shape) for _ in self.model.layers]
        self.values = [torch.empty(shape) for _ in self.model.layers]
        self.held = self.position = 0

    def feed(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (B, T) -> logits (B, V) of the last."""
        count = ids.shape[1]
        drop = max(0, self.held + count - self.length)
        table = self.table and tuple(part[self.position: self.position + count] for part in self.table)
        x = self.model.token_embed(ids)
        for layer, block in enumerate(self.model.layers):
            x = x + self._attend(block.attn, self._norm(block.ln1, x), layer, table, drop)
            x = x + block.ffn(self._norm(block.ln2, x))
        self.held = min(self.held + count, self.length)
        self.position += count
        return self.model.head(self._norm(self.model.ln_final, x[:, -1]))

    @staticmethod
    def _norm(norm, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS) * norm.weight

    def _attend(self, attention, x: torch.Tensor, layer: int, table, drop: int) -> torch.Tensor:
        batch, count, _ = x.shape
        config, group = self.config, self.config.heads_per_kv

        def heads(projected, number):
            return projected.view(batch, count, number, config.head_dim).transpose(1, 2)

        queries = self.place(heads(attention.q_proj(x), config.num_heads), table)
        keys = self.place(heads(attention.k_proj(x), config.num_kv_heads), table).repeat_interleave(group, 1)
        values = heads(attention.v_proj(x), config.num_kv_heads).repeat_interleave(group, 1)
        if self.key_width != config.head_dim:
            spread = torch.zeros(*values.shape[:-1], self.key_width)
            spread[..., ::2] = values
            values = spread
        held = self.held
        if drop:
            for buffer in (self.keys[layer], self.values[layer]):
                buffer[:, :, :held - drop] = buffer[:, :, drop:held].clone()
            held -= drop
        self.keys[layer][:, :, held:held + count] = keys
        self.values[layer][:, :, held:held + count] = values
        out = F.scaled_dot_product_attention(
            queries, self.keys[layer][:, :, :held + count], self.values[layer][:, :, :held + count],
            is_causal=count > 1, scale=self.scale)
        if self.key_width != config.head_dim:
            out = out[..., ::2]
        return attention.proj(out.transpose(1, 2).reshape(batch, count, -1))


class TorchLoop:
    def __init__(self, folder: str):
        folder = Path(folder)
        config = ModelConfig.from_dict(read_config(folder))
        self.vocab = Vocab.load(folder / "tokenizer.json")
        model = ReferenceModel(config)
        state = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
        state.setdefault("head.weight", state["token_embed.weight"])
        model.load_state_dict(state)
        self.model = BufferedModel(model.eval())
        self.threads = self._choose_threads()

    def describe(self) -> dict:
        return {"device": "cpu", "dtype": "float32", "torch": torch.__version__, "threads": self.threads}

    @torch.no_grad()
    def _choose_threads(self) -> int:
        self.model.start(1)
        self.model.feed(torch.tensor([[1, 2, 3]]))
        return self._faster_threads(torch.tensor([[1]]), 20)

    def _faster_threads(self, ids: torch.Tensor, times: int) -> int:
        """One thread or two, whichever feeds `ids` (B, 1) faster; it is set."""
        seconds = {}
        for threads in {1, min(2, os.cpu_count() or 1)}:
            torch.set_num_threads(threads)
            seconds[threads] = min(time_each(lambda: self.model.feed(ids), times))
        torch.set_num_threads(min(seconds, key=seconds.get))
        return torch.get_num_threads()

    def _prompt(self, context: int) -> list[int]:
        prompt = make_prompt(Conditioning(form="chorale"), Key(7, "major"), self.vocab)
        pitch = ["OCT_5", "DEG_1"] if self.vocab.kind == "scale_degree" else ["Pitch_67"]
        names = ["VOICE_1", *pitch, "Dur_480", "TimeShift_480", "BEAT_2", "TimeShift_480", "BAR", "BEAT_1"]
        bar = [self.vocab[name] for name in names]
        while len(prompt) < context:
            prompt += bar
        return prompt[:context]

    @torch.no_grad()
    def prepare(self, context: int) -> dict:
        prompt = self._prompt(context)
        begun = time.perf_counter()
        self.model.start(1)
        self.rules = UpstreamRules(self.vocab, prompt)
        self.logits = self.model.feed(torch.tensor([prompt]))
        self._step()
        first = time.perf_counter() - begun
        for _ in range(3):
            self._step()
        return {"first_token_s": first}

    def _step(self) -> None:
        token = draw(self.rules.apply(self.logits[0]))
        self.rules.feed(token)
        self.logits = self.model.feed(torch.tensor([[token]]))

    @torch.no_grad()
    def decode(self, tokens: int) -> dict:
        return {"seconds": time_each(self._step, tokens)}

    @torch.no_grad()
    def batch(self, rows: int, context: int, tokens: int, limit_s: float) -> dict:
        """Prefill on all cores, then one thread or two, whichever feeds these rows faster."""
        prompt = self._prompt(context)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        torch.set_num_threads(os.cpu_count() or 1)
        begun = time.perf_counter()
        self.model.start(rows)
        rules = [UpstreamRules(self.vocab, prompt) for _ in range(rows)]
        logits = self.model.feed(torch.tensor([prompt] * rows))
        prefill_s = time.perf_counter() - begun
        threads = self._faster_threads(torch.tensor([prompt[-1:]] * rows), 2)
        begun, count = time.perf_counter(), 0
        while count < tokens and (count == 0 or time.perf_counter() - begun < limit_s):
            drawn = [draw(rule.apply(row)) for rule, row in zip(rules, logits, strict=True)]
            for rule, token in zip(rules, drawn, strict=True):
                rule.feed(token)
            logits = self.model.feed(torch.tensor(drawn)[:, None])
            count += 1
        decode_s = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        torch.set_num_threads(self.threads)
        return {"prefill_s": prefill_s, "decode_s": decode_s, "tokens": rows * count, "threads": threads,
                "peak_bytes": max(0, peak - before) * 1024}


if __name__ == "__main__":
    serve(TorchLoop)
