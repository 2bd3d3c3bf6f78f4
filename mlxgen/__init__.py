"""mlxgen: counterpoint on Apple Silicon.

    model, vocab = mlxgen.load("weights/default")
    engine = mlxgen.Engine(model, vocab, ...)

Names are loaded when first used, so that `import mlxgen` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

# public name -> the module that defines it
_HOME = {
    "Key": "mlxgen.music.theory",
    "Note": "mlxgen.music.piece",
    "Piece": "mlxgen.music.piece",
    "Vocab": "mlxgen.music.vocab",
    "Conditioning": "mlxgen.music.prompt",
    "encode": "mlxgen.music.encode",
    "decode": "mlxgen.music.decode",
    "Decoder": "mlxgen.music.decode",
    "ModelConfig": "mlxgen.model.config",
    "load": "mlxgen.model.load",
    "SamplingParams": "mlxgen.sampling.sampler",
    "Engine": "mlxgen.sampling.engine",
    "score": "mlxgen.scoring.score",
    "read_score": "mlxgen.files.read",
    "write_midi": "mlxgen.files.midi",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'mlxgen' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
