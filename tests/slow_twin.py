"""The slow twin: what the cache means, in plain lists. One token at a time, float64, keys without positions.

This is the definition that mlxgen.model must equal. Nothing here is shared with it: no fused matrices, no
tables, no slots, no turning of keys. For the query of token t:
    visible are the prefix (tokens below P) and the tokens t - W + 1 .. t;
    a token stands where it was fed, except that, once t >= P + W - 1, the prefix stands
    64 * ((t - (P + W - 1)) // 64) tokens later.
"""

from __future__ import annotations

import math

import numpy as np

STRIDE = 64


def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean() + 1e-6) * weight


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, 0.0)


class SlowTwin:
    """One row. weights: upstream's names -> numpy."""

    def __init__(self, config, weights, window: int, prefix: int = 0, start: int = 0):
        self.config, self.window, self.prefix, self.start = config, window, prefix, start
        self.weights = {name: np.array(value, dtype=np.float64) for name, value in weights.items()}
        self.keys: list[list[np.ndarray]] = []  # [token][layer] (Hkv, D)
        self.values: list[list[np.ndarray]] = []

    def feed(self, ids) -> np.ndarray:
        return np.stack([self.step(int(token)) for token in ids])

    def rewind(self, tokens: int) -> None:
        kept = len(self.keys) - tokens
        self.keys, self.values = self.keys[:kept], self.values[:kept]

    def fork(self) -> SlowTwin:
        twin = SlowTwin.__new__(SlowTwin)
        twin.__dict__ = dict(vars(self))
        twin.keys, twin.values = list(self.keys), list(self.values)
        return twin

    def step(self, token: int) -> np.ndarray:
        config, weights = self.config, self.weights
        x = weights["token_embed.weight"][token]
        self.keys.append([])
        self.values.append([])
        for i in range(config.num_layers):
            def get(name, i=i):
                return weights[f"layers.{i}.{name}"]

            y = norm(x, get("ln1.weight"))
            q, k, v = (get(f"attn.{n}_proj.weight") @ y + get(f"attn.{n}_proj.bias") for n in "qkv")
            q, k, v = (part.reshape(-1, config.head_dim) for part in (q, k, v))
            self.keys[-1].append(k)
            self.values[-1].append(v)
            attended = self.attend(i, q)
            x = x + get("attn.proj.weight") @ attended + get("attn.proj.bias")
            y = norm(x, get("ln2.weight"))
            gate = get("ffn.w_gate.weight") @ y
            x = x + get("ffn.w2.weight") @ (gate / (1 + np.exp(-gate)) * (get("ffn.w1.weight") @ y))
        head = weights["token_embed.weight"] if config.weight_tying else weights["head.weight"]
        return head @ norm(x, weights["ln_final.weight"])

    def visible(self) -> tuple[list[int], np.ndarray]:
        """Tokens that the newest one sees, and how far behind it each stands."""
        t = len(self.keys) - 1
        full = self.prefix + self.window - 1
        moved = STRIDE * ((t - full) // STRIDE) if t >= full else 0
        pinned = list(range(min(self.prefix, t + 1)))
        others = list(range(max(self.prefix, t - self.window + 1), t + 1))
        behind = [t - (token + moved) for token in pinned] + [t - token for token in others]
        return pinned + others, np.array(behind)

    def attend(self, layer: int, q: np.ndarray) -> np.ndarray:
        """q (H, D) of the newest token -> (H * D,)."""
        config = self.config
        tokens, behind = self.visible()
        k = np.stack([self.keys[token][layer] for token in tokens])  # (S, Hkv, D)
        v = np.stack([self.values[token][layer] for token in tokens])
        heads = np.arange(config.num_heads) // (config.num_heads // config.num_kv_heads)
        scores = self.scores(q, k[:, heads], behind)  # (S, H)
        if config.drope and config.drope_scale_c is not None:
            longer = max(1.0, len(tokens) / config.train_seq_len)
            scores = scores * (1 + config.drope_scale_c * math.log(longer))
        weights = np.exp(scores - scores.max(axis=0))
        weights /= weights.sum(axis=0)
        return np.einsum("sh,shd->hd", weights, v[:, heads]).reshape(-1)

    def scores(self, q: np.ndarray, k: np.ndarray, behind: np.ndarray) -> np.ndarray:
        config, width = self.config, self.config.head_dim
        if config.pos_encoding == "pope":
            w = config.rope_theta ** (-np.arange(width) / width)
            turned = np.ones((len(behind), width)) if config.drope else np.cos(behind[:, None] * w)
            return np.einsum("hd,shd,sd->sh", softplus(q), softplus(k), turned) / math.sqrt(2 * width)
        if config.pos_encoding == "none" or config.drope:
            return np.einsum("hd,shd->sh", q, k) / math.sqrt(width)
        w = config.rope_theta ** (-2 * np.arange(width // 2) / width)
        cos, sin = np.cos(behind[:, None] * w), np.sin(behind[:, None] * w)
        q1, q2 = np.split(q, 2, axis=-1)
        k1, k2 = np.split(k, 2, axis=-1)
        along = np.einsum("hd,shd,sd->sh", q1, k1, cos) + np.einsum("hd,shd,sd->sh", q2, k2, cos)
        across = np.einsum("hd,shd,sd->sh", q1, k2, sin) - np.einsum("hd,shd,sd->sh", q2, k1, sin)
        return (along + across) / math.sqrt(width)
