"""The KV cache behind its final interface. This first one grows; the ring takes its place."""

from __future__ import annotations

import mlx.core as mx


class GrowingCache:
    def __init__(self, batch: int, layers: int):
        self.batch, self.length = batch, 0
        self.layers: list[tuple[mx.array, mx.array] | None] = [None] * layers

    @property
    def position(self) -> int:
        return self.length

    def feed(self, model, ids: mx.array) -> mx.array:
        start, count = self.length, ids.shape[1]
        rows = model.positions.make_rows(range(start, start + count), model.dtype)
        mask = mx.arange(start + count)[None] <= mx.arange(start, start + count)[:, None]

        def attend(layer, q, k, v):
            q, k, v = (part.swapaxes(1, 2) for part in (q, k, v))
            if self.layers[layer] is not None:
                k, v = (mx.concatenate(pair, axis=2) for pair in zip(self.layers[layer], (k, v), strict=True))
            self.layers[layer] = (k, v)
            out = mx.fast.scaled_dot_product_attention(q, k, v, scale=model.positions.scale, mask=mask)
            return out.swapaxes(1, 2).reshape(out.shape[0], count, -1)

        logits = model.logits(model.hidden(ids, rows, attend))
        self.length += count
        return logits

    def rewind(self, tokens: int) -> None:
        if not 0 <= tokens <= self.length:
            raise ValueError(f"rewind by {tokens}; expected 0 to {self.length}")
        self.length -= tokens
        self.layers = [(k[:, :, : self.length], v[:, :, : self.length]) for k, v in self.layers]

    def fork(self, n: int) -> GrowingCache:
        forked = GrowingCache(n, len(self.layers))
        forked.length = self.length
        forked.layers = [(mx.repeat(k, n, axis=0), mx.repeat(v, n, axis=0)) for k, v in self.layers]
        return forked

    def keep(self, rows: list[int]) -> None:
        index = mx.array(rows)
        self.layers = [(k[index], v[index]) for k, v in self.layers]
        self.batch = len(rows)


def make_cache(model, batch: int, window: int | None, prefix: int, slack: int) -> GrowingCache:
    return GrowingCache(batch, model.config.num_layers)
