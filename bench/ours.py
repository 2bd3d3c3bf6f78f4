"""Our engine as a contestant: grammar and ranges on, float32 on a CPU, float16 on a GPU, compiled steps."""

from __future__ import annotations

import time

import mlxgen.model  # noqa: F401  (binds the BLAS before mlx is imported)

import mlx.core as mx  # isort: skip

from bench.worker import serve, time_each
from mlxgen.model import blas
from mlxgen.model.load import load
from mlxgen.music.prompt import Conditioning, make_prompt
from mlxgen.music.theory import Key
from mlxgen.sampling.candidates import candidates
from mlxgen.sampling.engine import Engine, EngineOptions
from mlxgen.sampling.lanes import Lanes
from mlxgen.sampling.rules import RuleSet

HARD = RuleSet(eos="mask")
CHORALE = Conditioning(form="chorale")


def on_gpu() -> bool:
    return mx.default_device() == mx.gpu


class Ours:
    """rules: of the steps. wish: what the prompts ask for, which decides what the rules have to do."""

    def __init__(self, folder: str, rules: RuleSet = HARD, wish: Conditioning = CHORALE):
        self.dtype = "float16" if on_gpu() else "float32"
        self.model, self.vocab = load(folder, self.dtype)
        self.rules, self.wish = rules, wish
        self.engine: Engine | None = None

    def describe(self) -> dict:
        return {"device": str(mx.default_device()), "dtype": self.dtype, "mlx": mx.__version__,
                "blas": getattr(blas, "LOADED_NAME", None) or ("OpenBLAS" if blas.LOADED else "MLX's own")}

    def _prompt(self, context: int) -> list[int]:
        """A prompt, then bars that repeat, `context` ids in all."""
        prompt = make_prompt(self.wish, Key(7, "major"), self.vocab)
        names = ["TimeShift_480", "BEAT_2", "TimeShift_480", "BEAT_3", "TimeShift_480", "BEAT_4",
                 "TimeShift_480", "BAR", "BEAT_1"]
        pitch = ["OCT_5", "DEG_1"] if self.vocab.kind == "scale_degree" else ["Pitch_67"]
        bar = [self.vocab[name] for name in ["VOICE_1", *pitch, "Dur_480", *names]]
        while len(prompt) < context:
            prompt += bar
        return prompt[:max(context, 1)]

    def prepare(self, context: int) -> dict:
        self.engine = Engine(self.model, self.vocab, rules=self.rules, seed=context,
                             options=EngineOptions(compiled=True))
        begun = time.perf_counter()
        self.engine.prefill(self._prompt(context))
        self.engine.step()
        first = time.perf_counter() - begun
        for _ in range(3):
            self.engine.step()
        return {"first_token_s": first}

    def decode(self, tokens: int) -> dict:
        return {"seconds": time_each(self.engine.step, tokens)}

    def batch(self, rows: int, context: int, tokens: int, limit_s: float) -> dict:
        """kv_bytes: keys and values that are held; kv_needed_bytes: of `context` ids and `tokens` a row."""
        mx.clear_cache()
        resting = mx.get_active_memory()
        mx.reset_peak_memory()
        engine = Engine(self.model, self.vocab, rules=self.rules,
                        options=EngineOptions(window=context + tokens, slack=1, compiled=True))
        begun = time.perf_counter()
        engine.prefill(self._prompt(context))
        prefill_s = time.perf_counter() - begun
        candidates(engine, rows, tokens)  # kernels are compiled once, not with every batch
        begun = time.perf_counter()
        found = candidates(engine, rows, tokens)
        decode_s = time.perf_counter() - begun
        peak = mx.get_peak_memory() - resting
        config = self.model.config
        token_bytes = config.num_layers * config.num_kv_heads * mx.float32.size * (
            self.model.positions.width + self.model.value_width)
        return {"prefill_s": prefill_s, "decode_s": decode_s,
                "tokens": sum(len(candidate.ids) for candidate in found), "peak_bytes": peak,
                "kv_bytes": Lanes(engine, rows, room=tokens).cache_bytes,
                "kv_needed_bytes": (context + rows * tokens) * token_bytes}


if __name__ == "__main__":
    serve(Ours)
