"""mlx-lm as a contestant: generate_step and BatchGenerator on a Llama of equal shape, no rules.

Equal shape: the same width, layers, heads, key-value heads, SwiGLU width, vocabulary and tied head; random
weights, its rotating cache. (It has no PoPE, whose keys are twice as wide, and its projections have no
biases: both are in its favour.) Same dtype, same BLAS under MLX, temperature 0.9 and min-p 0.03 by its own
sampler.
"""

from __future__ import annotations

import time
from pathlib import Path

import mlxgen.model  # noqa: F401  (binds the same BLAS under MLX as ours)

import mlx.core as mx  # isort: skip
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.sample_utils import make_sampler

from bench.worker import serve, time_each
from mlxgen.model.config import ModelConfig
from mlxgen.model.load import read_config

NO_END = 10**9


class MlxLm:
    def __init__(self, folder: str):
        config = ModelConfig.from_dict(read_config(Path(folder)))
        self.window = config.max_seq_len
        self.vocab_size = config.vocab_size
        self.dtype = mx.float16 if mx.default_device() == mx.gpu else mx.float32
        mx.random.seed(0)
        self.model = Model(ModelArgs(
            model_type="llama", hidden_size=config.embed_dim, num_hidden_layers=config.num_layers,
            intermediate_size=config.ffn_dim, num_attention_heads=config.num_heads, rms_norm_eps=1e-6,
            vocab_size=config.vocab_size, num_key_value_heads=config.num_kv_heads,
            max_position_embeddings=config.max_seq_len, tie_word_embeddings=config.weight_tying))
        self.model.set_dtype(self.dtype)
        mx.eval(self.model.parameters())
        self.sampler = make_sampler(temp=0.9, min_p=0.03)
        self.steps = None

    def make_cache(self):
        """Its rotating cache for one stream."""
        return make_prompt_cache(self.model, max_kv_size=self.window)

    def describe(self) -> dict:
        return {"device": str(mx.default_device()), "dtype": str(self.dtype).rpartition(".")[2]}

    def _prompt(self, context: int) -> list[int]:
        return [1 + place % (self.vocab_size - 1) for place in range(context)]

    def prepare(self, context: int) -> dict:
        begun = time.perf_counter()
        self.steps = generate_step(mx.array(self._prompt(context)), self.model, max_tokens=NO_END,
                                   sampler=self.sampler, max_kv_size=self.window)
        next(self.steps)
        first = time.perf_counter() - begun
        for _ in range(3):
            next(self.steps)
        return {"first_token_s": first}

    def decode(self, tokens: int) -> dict:
        return {"seconds": time_each(lambda: next(self.steps), tokens)}

    def batch(self, rows: int, context: int, tokens: int, limit_s: float) -> dict:
        mx.clear_cache()
        mx.reset_peak_memory()
        resting = mx.get_active_memory()
        generator = BatchGenerator(self.model, max_tokens=tokens, sampler=self.sampler,
                                   completion_batch_size=rows, prefill_batch_size=rows)
        begun = time.perf_counter()
        generator.insert([self._prompt(context)] * rows, [tokens] * rows)
        first = len(generator.next_generated())  # comes with the prefill
        prefilled = time.perf_counter()
        count = 0
        while count < rows * tokens - first and (count == 0 or time.perf_counter() - prefilled < limit_s):
            drawn = len(generator.next_generated())
            if not drawn:
                break
            count += drawn
        done = time.perf_counter()
        generator.close()
        return {"prefill_s": prefilled - begun, "decode_s": done - prefilled, "tokens": count,
                "peak_bytes": mx.get_peak_memory() - resting}


if __name__ == "__main__":
    serve(MlxLm)
