"""What a decoded id costs, counted: operations and kernels from the graph, bytes by shapes and by memory.

Counted from MLX's own graph of one step (`mx.export_to_dot`), rules and draw included for ours: a chorale's
under hard rules, under the folder's soft rules too, and a fugue's under every rule there is, with words in
its prompt that set them all to work; for mlx-lm the step of its `generate_step` with a min-p sampler, on a
Llama of equal shape, no rules. A *primitive* is any node of the graph, a *kernel* one that computes (views
such as Reshape or Slice do not).

Two counts. `here`: the graph as this device runs it. `gpu`: the graph that a GPU would get, traced here
without running it: the device asked for is a GPU, and MLX's fused operations (rms_norm, rope, attention),
which a CPU takes apart, are counted as the one kernel that they are on Metal and CUDA.

The prediction at the end is a model with stated assumptions, not a measurement.
"""

from __future__ import annotations

import collections
import re
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import mlxgen.model  # noqa: F401  (binds the BLAS before mlx is imported)

import mlx.core as mx  # isort: skip

from bench.common import describe_machine, finish, make_parser, print_table
from bench.ours import CHORALE, HARD, Ours
from bench.ours_soft import folder_rules
from mlxgen.model.load import load_weights
from mlxgen.model.transformer import Model
from mlxgen.music.prompt import Conditioning
from mlxgen.sampling.engine import Engine, EngineOptions
from mlxgen.sampling.rules import SOFT_RULES, RuleSet
from mlxgen.sampling.step import make_step

VIEWS = {"Reshape", "Slice", "Broadcast", "Transpose", "ExpandDims", "Squeeze", "Flatten", "Unflatten",
         "Split", "Copy", "Depends", "StopGradient"}


@dataclass(frozen=True)
class Chip:
    """Assumed, from public data sheets and common experience; not measured here."""

    name: str
    bandwidth_gb_s: float
    kernel_us: float  # a small kernel after another, launch and tail included
    spread: float  # kernel_us may be this factor less or more


CHIPS = (Chip("M1", 68, 4.0, 1.8), Chip("M2", 100, 3.5, 1.8), Chip("M3", 100, 3.0, 1.8))
REACHED_BANDWIDTH = 0.7  # share of the data sheet's bandwidth that matrix-vector kernels reach


def count_graph(outputs) -> collections.Counter:
    """{name of a primitive: nodes} of the graph behind unevaluated arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.dot"
        mx.export_to_dot(str(path), flat(outputs))
        labels = re.findall(r'label ="([^"]*)", shape=rectangle', path.read_text())
    names = ("Compiled" if label.startswith("Compiled") else label for label in labels)
    return collections.Counter(names)


def flat(outputs) -> list[mx.array]:
    if isinstance(outputs, mx.array):
        return [outputs]
    parts = outputs if isinstance(outputs, list | tuple) else []
    return [array for part in parts for array in flat(part)]


def summarise(counts: collections.Counter) -> dict:
    kernels = {name: count for name, count in counts.items() if name not in VIEWS}
    return {"primitives": sum(counts.values()), "kernels": sum(kernels.values()),
            "by_name": dict(counts.most_common())}


@contextmanager
def as_on_a_gpu():
    """Trace as a GPU would: stand-ins of one kernel for the fused operations, never to be run.

    Yields a counter of the views that the attention's stand-in needs beside its one kernel.
    """
    needless: collections.Counter = collections.Counter()

    def one_kernel(x, *_, **__):
        return mx.sort(x, axis=-1)

    def attention(queries, keys, values, *, scale, mask=None, **_):
        joined = [queries, keys, values, *([mask] if isinstance(mask, mx.array) else [])]
        parts = mx.concatenate([part.reshape(-1) for part in joined])
        size = queries.size // queries.shape[-1] * values.shape[-1]
        needless.update({"Reshape": len(joined) + 1, "Slice": 1})
        return parts[:size].reshape(*queries.shape[:-1], values.shape[-1])

    gpu = SimpleNamespace(type=mx.DeviceType.gpu)
    with mock.patch.multiple(mx.fast, rms_norm=one_kernel, rope=one_kernel,
                             scaled_dot_product_attention=attention), \
            mock.patch.object(mx, "default_device", lambda: gpu):
        yield needless


def trace_ours(folder: Path, rules: RuleSet, context: int, on_gpu: bool,
               wish: Conditioning = CHORALE) -> collections.Counter:
    """The compiled step of our engine after `context` ids."""
    device = as_on_a_gpu if on_gpu else lambda: nullcontext(collections.Counter())
    ours = Ours(str(folder), rules, wish)
    with device():  # a model for a GPU may be laid out otherwise
        model = Model(ours.model.config, load_weights(folder / "model.safetensors"), mx.float32)
    engine = Engine(model, ours.vocab, rules=rules, options=EngineOptions(compiled=True))
    engine.prefill(ours._prompt(context))
    noise, state, ids = engine._noise_at(engine.position), engine._states[-1], engine._pending
    held = engine.cache.begin_step()
    mx.eval(noise, state, ids, held, engine._knobs)
    with device() as needless:
        step = mx.compile(make_step(model, engine._rules, engine.cache.shape, (False, False), not on_gpu))
        return count_graph(step(ids, held, state, engine._arrays, engine._knobs, noise)) - needless


def trace_mlx_lm(folder: Path, context: int, on_gpu: bool) -> collections.Counter:
    """What mlx-lm's generate_step enqueues for one id: model, log-softmax, sampler, cache."""
    from bench.peers.mlx_lm_peer import MlxLm

    peer = MlxLm(str(folder))
    cache = peer.make_cache()
    mx.eval(peer.model(mx.array([peer._prompt(context)]), cache=cache), [layer.state for layer in cache])

    ids = mx.array([[1]])
    with as_on_a_gpu() if on_gpu else nullcontext(collections.Counter()) as needless:
        logits = peer.model(ids, cache=cache)[:, -1, :]
        logprobs = logits - mx.logsumexp(logits, keepdims=True)
        outputs = [peer.sampler(logprobs), logprobs, [layer.state for layer in cache]]
        return count_graph(outputs) - needless


def count_bytes(folder: Path, element: int, context: int) -> dict:
    """Bytes an id must move by the arithmetic of the shapes: every weight once, every key and value once.

    element: bytes of an FFN weight; everything else is float32 whatever the dtype.
    """
    ours = Ours(str(folder))
    config = ours.model.config
    joined = config.embed_dim + 2 * config.num_kv_heads * config.head_dim  # q, k and v
    attention = (config.embed_dim + 1) * (joined + config.embed_dim) + 2 * config.embed_dim  # with two norms
    looked_up = config.embed_dim * (joined + 1)  # the first layer reads a row of a table instead
    matrix = config.embed_dim * config.ffn_dim  # of the FFN: two in, of the folder's dtype, one out, float32
    head = config.vocab_size * config.embed_dim
    slot = config.num_layers * config.num_kv_heads * (ours.model.positions.width + config.head_dim)
    weights = config.num_layers * (4 * attention + (2 * element + 4) * matrix)
    return {"weights": weights + 4 * (head - looked_up),
            "keys_values_read": 4 * context * slot, "keys_values_written": 4 * slot}


def measure_copies(folder: Path) -> dict:
    """Peak memory above rest during steps with a full window: a copy of a ring would show."""
    ours = Ours(str(folder))
    engine = Engine(ours.model, ours.vocab, rules=HARD, options=EngineOptions(compiled=True))
    engine.prefill(ours._prompt(ours.model.config.max_seq_len + 70))
    for _ in range(70):
        engine.step()
    resting = mx.get_active_memory()
    mx.reset_peak_memory()
    for _ in range(20):
        engine.step()
    rings = engine.cache.nbytes
    return {"rings_bytes": rings, "largest_ring_bytes": rings // (2 * ours.model.config.num_layers),
            "peak_above_rest_bytes": mx.get_peak_memory() - resting}


def predict(kernels: int, moved: dict) -> list[dict]:
    """Seconds = kernels x time of a small kernel + bytes / reached bandwidth, nothing overlapping."""
    rows = []
    for chip in CHIPS:
        move_s = sum(moved.values()) / (chip.bandwidth_gb_s * 1e9 * REACHED_BANDWIDTH)
        rates = [1 / (kernels * chip.kernel_us * factor * 1e-6 + move_s)
                 for factor in (chip.spread, 1, 1 / chip.spread)]
        rows.append({"chip": chip.name, "slow": rates[0], "middle": rates[1], "fast": rates[2]})
    return rows


COSTLIEST = Conditioning(form="fugue", imitation="high", harmonic_rhythm="fast", harmonic_tension="low")


def main(arguments: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--context", type=int, default=400)
    options = parser.parse_args(arguments)
    folder, context = options.model, options.context
    steps = {"mlxgen, hard rules": (HARD, CHORALE),
             "mlxgen, soft rules": (folder_rules(folder), CHORALE),
             "mlxgen, every rule": (RuleSet(eos="length", soft=SOFT_RULES), COSTLIEST),
             "mlxgen, no rules": (RuleSet(grammar=False, ranges=False, eos="mask"), CHORALE)}
    rows = []
    for where, on_gpu in (("here", False), ("gpu", True)):
        for name, (rules, wish) in steps.items():
            counts = trace_ours(folder, rules, context, on_gpu, wish)
            rows.append({"contestant": name, "what": where, **summarise(counts)})
        try:
            rows.append({"contestant": "mlx-lm, no rules", "what": where,
                         **summarise(trace_mlx_lm(folder, context, on_gpu))})
        except ImportError as error:
            print(f"bench: mlx-lm left out: {error}", file=sys.stderr)
    peers = {row["what"]: row for row in rows if row["contestant"] == "mlx-lm, no rules"}
    moved = {size: count_bytes(folder, size, 4096) for size in (2, 4)}
    copies = measure_copies(folder)
    gpu = next(row for row in rows if row["what"] == "gpu" and row["contestant"] == "mlxgen, hard rules")
    predictions = {at: predict(gpu["kernels"], count_bytes(folder, 2, at)) for at in (32, 4096)}
    report(rows, peers, moved, copies, predictions)
    return finish({"bench": "cost", "machine": describe_machine(), "rows": rows, "bytes": moved,
                   "copies": copies, "assumed": [asdict(chip) for chip in CHIPS],
                   "predicted_tokens_per_s": predictions}, options.json)


def report(rows: list[dict], peers: dict, moved: dict, copies: dict, predictions: dict) -> None:
    table = []
    for row in rows:
        peer = peers.get(row["what"])
        shares = [f"{row[key] / peer[key]:.0%}" if peer else "" for key in ("primitives", "kernels")]
        table.append([row["contestant"], row["what"], str(row["primitives"]), shares[0], str(row["kernels"]),
                      shares[1]])
    print_table(["step", "device", "primitives", "of mlx-lm", "kernels", "of mlx-lm"], table)
    for size, parts in moved.items():
        words = ", ".join(f"{name} {count / 2**20:.2f} MiB" for name, count in parts.items())
        print(f"bytes an id at a full window of 4096, {8 * size} bits: {words}")
    rise, ring = copies["peak_above_rest_bytes"], copies["largest_ring_bytes"]
    print(f"steps with a full window rise {rise / 2**20:.2f} MiB above rest; one layer's keys or values are "
          f"{ring / 2**20:.2f} MiB: {'no ring' if rise < ring else 'a ring'} is copied")
    print("PREDICTED, not measured (ids/s, float16, hard rules; kernels x time of a small kernel + bytes / "
          "70 % of the bandwidth):")
    for at, chips in predictions.items():
        for chip in chips:
            print(f"  {chip['chip']} at context {at}: {chip['middle']:.0f} ({chip['slow']:.0f} to "
                  f"{chip['fast']:.0f})")


if __name__ == "__main__":
    main(sys.argv[1:])
