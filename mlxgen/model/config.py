"""ModelConfig: the shape of a model, as config.json of a model folder says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

POSITION_NAMES = ("pope", "rope", "none")
POSITIVE = ("vocab_size", "embed_dim", "num_heads", "num_kv_heads", "num_layers", "ffn_dim", "max_seq_len",
            "train_seq_len")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of one model.

    vocab_size: rows of the embedding, which may exceed the tokenizer's names. ffn_dim: width of the SwiGLU.
    drope: trained to run without positions; the activation of `pos_encoding` stays (see positions.py).
    train_seq_len: tokens the model last saw in training; drope_scale_c: c of the DroPE logit scale
    beta = 1 + c ln(context / train_seq_len) (arXiv 2512.12167), None for no scale.
    """

    vocab_size: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    num_layers: int
    ffn_dim: int
    max_seq_len: int
    rope_theta: float = 10000.0
    pos_encoding: str = "pope"
    drope: bool = False
    weight_tying: bool = True
    drope_scale_c: float | None = None
    train_seq_len: int = 0

    def __post_init__(self):
        if self.train_seq_len == 0:
            object.__setattr__(self, "train_seq_len", self.max_seq_len)
        self.validate()

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads

    @property
    def heads_per_kv(self) -> int:
        return self.num_heads // self.num_kv_heads

    def validate(self) -> None:
        """ValueError naming the first field that cannot be."""
        for name in POSITIVE:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"config: {name} is {value!r}; expected a whole number of at least 1")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"config: embed_dim {self.embed_dim} is not a multiple of "
                             f"num_heads {self.num_heads}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"config: num_heads {self.num_heads} is not a multiple of "
                             f"num_kv_heads {self.num_kv_heads}")
        if self.pos_encoding not in POSITION_NAMES:
            raise ValueError(f"config: pos_encoding {self.pos_encoding!r}; expected one of "
                             f"{', '.join(POSITION_NAMES)}")
        if self.pos_encoding == "rope" and self.head_dim % 2:
            raise ValueError(f"config: head width {self.head_dim} is odd; rope turns halves of a head")
        if not self.rope_theta > 0:
            raise ValueError(f"config: rope_theta is {self.rope_theta!r}; expected a number above 0")

    @classmethod
    def from_dict(cls, data: dict) -> ModelConfig:
        """From config.json; keys that are not fields (format, dtype, generation) are left alone."""
        names = [field.name for field in fields(cls)]
        missing = [name for name in names[:7] if name not in data]
        if missing:
            raise ValueError(f"config: no {', '.join(missing)}")
        return cls(**{name: data[name] for name in names if name in data})

    def to_dict(self) -> dict:
        return asdict(self)
