"""The architecture in torch: the yardstick of parity and the model that the recipe trains. torch only.

Written to be read beside the papers: PoPE arXiv 2509.10534, DroPE arXiv 2512.12167, RoPE arXiv 2104.09864,
SwiGLU arXiv 2002.05202, RMSNorm arXiv 1910.07467, grouped queries arXiv 2305.13245. `state_dict()` has the
names and shapes of the upstream checkpoints. It knows nothing of files, of tokens' meaning or of context
extension (`drope_scale_c`): checkpoints carry none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from mlxgen.model.config import ModelConfig

NORM_EPS = 1e-6
INIT_STD = 0.02


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()  # the mean of squares does not survive half precision
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS) * self.weight


def make_rope_table(start: int, length: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin (length, D/2) of t * theta^(-2j/D); products in float64, stored in float32."""
    steps = torch.arange(0, head_dim, 2, dtype=torch.float64)
    return _table(start, length, theta ** (-steps / head_dim))


def apply_rope(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """x (B, H, T, D): the first half of D is rotated with the second half."""
    cos, sin = table
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def make_pope_table(start: int, length: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin (length, D) of t * theta^(-c/D), one frequency for each of the D dimensions."""
    return _table(start, length, theta ** (-torch.arange(head_dim, dtype=torch.float64) / head_dim))


def apply_pope(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """x (B, H, T, D) -> (B, H, T, 2D): magnitude softplus(x), polar angle from the position alone."""
    cos, sin = table
    magnitude = F.softplus(x.float())
    return torch.cat((magnitude * cos, magnitude * sin), dim=-1)


def make_no_table(start: int, length: int, head_dim: int, theta: float) -> None:
    return None


def apply_softplus(x: Tensor, table: None) -> Tensor:
    """PoPE with its angles dropped: all at angle 0, so the sine half is zero and is left out."""
    return F.softplus(x.float())


def apply_nothing(x: Tensor, table: None) -> Tensor:
    return x


def _table(start: int, length: int, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    angles = torch.arange(start, start + length, dtype=torch.float64)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


# (pos_encoding, drope) -> table maker, its application to q and k, and w in the score scale 1/sqrt(w D).
# A PoPE model keeps its softplus and its scale when its positions are dropped.
POSITIONS = {
    ("rope", False): (make_rope_table, apply_rope, 1),
    ("pope", False): (make_pope_table, apply_pope, 2),
    ("none", False): (make_no_table, apply_nothing, 1),
    ("rope", True): (make_no_table, apply_nothing, 1),
    ("pope", True): (make_no_table, apply_softplus, 2),
    ("none", True): (make_no_table, apply_nothing, 1),
}


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, dropout: float):
        super().__init__()
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.head_dim = config.embed_dim // config.num_heads
        kv_width = self.num_kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.embed_dim, config.embed_dim)
        self.k_proj = nn.Linear(config.embed_dim, kv_width)
        self.v_proj = nn.Linear(config.embed_dim, kv_width)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)
        _, self.apply_position, width_factor = POSITIONS[config.pos_encoding, config.drope]
        self.scale = (width_factor * self.head_dim) ** -0.5
        self.dropout = dropout

    def forward(self, x: Tensor, table, past: tuple[Tensor, Tensor] | None):
        """x (B, T, d), past keys and values (B, H_kv, S, .) -> output (B, T, d), keys and values of S + T."""
        batch, length, _ = x.shape
        queries = self._heads(self.q_proj(x), self.num_heads)  # (B, H, T, D)
        keys = self._heads(self.k_proj(x), self.num_kv_heads)  # (B, H_kv, T, D)
        values = self._heads(self.v_proj(x), self.num_kv_heads)  # (B, H_kv, T, D)
        queries = self.apply_position(queries, table).to(values.dtype)
        keys = self.apply_position(keys, table).to(values.dtype)
        if past is not None:
            keys, values = torch.cat((past[0], keys), dim=2), torch.cat((past[1], values), dim=2)
        attended = self._attend(queries, keys, values)  # (B, H, T, D)
        merged = attended.transpose(1, 2).reshape(batch, length, -1)
        return F.dropout(self.proj(merged), self.dropout, self.training), (keys, values)

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        length, context = queries.shape[2], keys.shape[2]
        group = self.num_heads // self.num_kv_heads
        if group > 1:  # query head h reads kv head h // group
            keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
        # torch's fused CPU attention wants equal widths of keys and values; zeros add nothing to the output.
        padding = keys.shape[-1] - values.shape[-1]
        values = F.pad(values, (0, padding)) if padding else values
        mask = None
        if 1 < length < context:
            mask = torch.ones(length, context, dtype=torch.bool).tril(context - length)
        attended = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=length == context, scale=self.scale)
        return attended[..., :self.head_dim]


class FeedForward(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.w_gate = nn.Linear(config.embed_dim, config.ffn_dim, bias=False)
        self.w1 = nn.Linear(config.embed_dim, config.ffn_dim, bias=False)
        self.w2 = nn.Linear(config.ffn_dim, config.embed_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w_gate(x)) * self.w1(x))


class Block(nn.Module):
    def __init__(self, config: ModelConfig, dropout: float):
        super().__init__()
        self.ln1, self.ln2 = RMSNorm(config.embed_dim), RMSNorm(config.embed_dim)
        self.attn = Attention(config, dropout)
        self.ffn = FeedForward(config)
        self.dropout = dropout

    def forward(self, x: Tensor, table, past):
        attended, kept = self.attn(self.ln1(x), table, past)
        x = x + attended
        return x + F.dropout(self.ffn(self.ln2(x)), self.dropout, self.training), kept


class ReferenceModel(nn.Module):
    """ids -> logits of the whole architecture.

    `model(ids)` with ids (B, T) int -> logits (B, T, V); differentiable, dropout only in training mode.
    `model.decode(ids, cache)` -> logits and the longer cache, for step-by-step generation; cache None starts.
    Dropout falls on the embedding and on what each branch adds, not on attention weights (upstream's does):
    torch's CPU kernel fuses attention only without it (5.68 M parameters, 4 x 1024 tokens, bfloat16 autocast,
    2 cores: 1.2 s a training step against 7.2 s).
    Raises ValueError for heads that do not divide the width, or a position encoding not in POSITIONS.
    """

    def __init__(self, config: ModelConfig, dropout: float = 0.0):
        super().__init__()
        if (config.pos_encoding, config.drope) not in POSITIONS:
            known = ", ".join(sorted({name for name, _ in POSITIONS}))
            raise ValueError(f"pos_encoding {config.pos_encoding!r}; expected one of {known}")
        if config.embed_dim % config.num_heads or config.num_heads % config.num_kv_heads:
            raise ValueError(f"num_heads {config.num_heads}: expected a divisor of embed_dim "
                             f"{config.embed_dim} and a multiple of num_kv_heads {config.num_kv_heads}")
        self.config = config
        self.dropout = dropout
        self.token_embed = nn.Embedding(config.vocab_size, config.embed_dim)
        self.layers = nn.ModuleList(Block(config, dropout) for _ in range(config.num_layers))
        self.ln_final = RMSNorm(config.embed_dim)
        self.head = nn.Linear(config.embed_dim, config.vocab_size, bias=False)
        if config.weight_tying:
            self.head.weight = self.token_embed.weight
        self.make_table = POSITIONS[config.pos_encoding, config.drope][0]
        self.apply(_init_weights)

    def forward(self, ids: Tensor) -> Tensor:
        return self.decode(ids)[0]

    def decode(self, ids: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None):
        """ids (B, T) after the cache's S tokens -> logits (B, T, V), the cache of S + T tokens by layer."""
        start = cache[0][0].shape[2] if cache else 0
        config = self.config
        table = self.make_table(start, ids.shape[1], config.embed_dim // config.num_heads, config.rope_theta)
        x = F.dropout(self.token_embed(ids), self.dropout, self.training)  # (B, T, d)
        longer = []
        for index, layer in enumerate(self.layers):
            x, kept = layer(x, table, cache[index] if cache else None)
            longer.append(kept)
        return self.head(self.ln_final(x)), longer


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def load_reference(config: ModelConfig, tensors: dict[str, np.ndarray]) -> ReferenceModel:
    """The model with these weights (a tied head may be left out), in evaluation mode, float32."""
    model = ReferenceModel(config)
    state = {name: torch.tensor(tensor, dtype=torch.float32) for name, tensor in tensors.items()}
    if config.weight_tying:
        state["head.weight"] = state["token_embed.weight"]
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def compute_logits(model: ReferenceModel, ids: np.ndarray) -> np.ndarray:
    """ids (B, T) -> logits (B, T, V), by one full forward."""
    return model(torch.tensor(ids, dtype=torch.long)).numpy()


@torch.no_grad()
def decode_greedy(model: ReferenceModel, prompt: np.ndarray, steps: int) -> np.ndarray:
    """prompt (1, T) -> the (steps,) likeliest ids that follow, each fed back through the cache."""
    ids, cache, chosen = torch.tensor(prompt, dtype=torch.long), None, []
    for _ in range(steps):
        logits, cache = model.decode(ids, cache)
        ids = logits[:, -1].argmax(-1, keepdim=True)  # (1, 1)
        chosen.append(int(ids))
    return np.array(chosen)
