"""The event model: how surprising each event of a texture is, in nats, from smoothed counts of training
pieces.

Interpolated n-grams with Witten-Bell weights (I. Witten and T. Bell, IEEE Trans. Inf. Theory 37, 1991): a
context seen n times with t different outcomes trusts its own counts with weight n / (n + t) and otherwise
backs off, from the family's bigram to the family's unigram to all families' counts. Families are textures
(chorale, polyphony, quartet, motet); `weights/recipe/event_model.py` counts them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mlxgen.scoring.events import SIZES, Channel

CHORDS = 2 * 12 * 4096  # mode, bass degree, set over the tonic
FLOOR = 1e-6


@dataclass(frozen=True)
class Dense:
    """One channel's log-probabilities, (contexts, outcomes)."""

    log_probability: np.ndarray

    def surprisal(self, channel: Channel) -> np.ndarray:
        return -self.log_probability[channel.context, channel.outcome]


def make_dense(counts: np.ndarray, parent: np.ndarray | None = None) -> np.ndarray:
    """(contexts, outcomes) counts -> probabilities, backing off to the channel's unigram and to `parent`."""
    counts = counts.astype(np.float64)
    size = counts.shape[1]
    below = parent if parent is not None else np.full(counts.shape, 1.0 / size)
    total = counts.sum(axis=0)
    distinct = max((total > 0).sum(), 1)
    unigram = (total + distinct * below.mean(axis=0)) / (total.sum() + distinct)
    if parent is None:
        below = np.broadcast_to(unigram, counts.shape)
    seen = counts.sum(axis=1, keepdims=True)
    kinds = np.maximum((counts > 0).sum(axis=1, keepdims=True), 1)
    return (counts + kinds * below) / (seen + kinds)


@dataclass(frozen=True)
class Harmony:
    """Chord bigrams, sparse: sorted codes with probabilities, a unigram, and independent degrees beneath."""

    pair_codes: np.ndarray  # (P,) sorted int64: before * CHORDS + after
    pair_counts: np.ndarray  # (P,)
    context_codes: np.ndarray  # (C,) sorted
    context_counts: np.ndarray  # (C, 2): times seen, different outcomes
    chord_codes: np.ndarray  # (U,) sorted
    chord_counts: np.ndarray  # (U,)
    degree_counts: np.ndarray  # (2, 2, 12): mode x (bass, present) x degree
    beats: np.ndarray  # (2,) chords counted in each mode
    cache: dict = field(default_factory=dict, compare=False)

    def _base(self) -> np.ndarray:
        """(CHORDS,) probability of a chord if its degrees were independent."""
        if "base" not in self.cache:
            mask = np.arange(4096)
            bits = (mask[:, None] >> np.arange(12)) & 1
            table = np.zeros((2, 12, 4096))
            for mode in (0, 1):
                n = self.beats[mode] + 2.0
                present = np.clip((self.degree_counts[mode, 1] + 0.5) / n, 1e-3, 1 - 1e-3)
                bass = (self.degree_counts[mode, 0] + 0.5) / (self.degree_counts[mode, 0].sum() + 6)
                log_set = bits @ np.log(present) + (1 - bits) @ np.log1p(-present)
                has_bass = bits.T.astype(bool)
                table[mode] = np.where(
                    has_bass, bass[:, None] * np.exp(log_set) / present[:, None], FLOOR * FLOOR
                )
            self.cache["base"] = table.reshape(-1)
        return self.cache["base"]

    def probability(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """(K,) P(after | before)."""
        total, kinds = self.chord_counts.sum(), len(self.chord_codes)
        unigram = (_lookup(self.chord_codes, self.chord_counts, after) + kinds * self._base()[after]) / (
            total + kinds
        )
        seen = _lookup(self.context_codes, self.context_counts[:, 0], before)
        distinct = _lookup(self.context_codes, self.context_counts[:, 1], before)
        pairs = _lookup(self.pair_codes, self.pair_counts, before * CHORDS + after)
        return np.where(seen > 0, (pairs + distinct * unigram) / np.maximum(seen + distinct, 1), unigram)

    def unseen(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """(K,) bool: the succession stands in no counted piece."""
        return _lookup(self.pair_codes, self.pair_counts, before * CHORDS + after) == 0


def _lookup(codes: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(codes):
        return np.zeros(len(wanted))
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[at] == wanted, values[at], 0).astype(np.float64)


def count_chords(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Chord codes (K,) and (K,) -> (P, 2) int64: sorted codes before * CHORDS + after, and how often each."""
    codes, counts = np.unique(before * CHORDS + after, return_counts=True)
    return np.column_stack([codes, counts]).astype(np.int64)


def harmony_of_pairs(codes: np.ndarray, counts: np.ndarray) -> Harmony:
    """Sorted pair codes (P,) and counts (P,) -> the model with its marginals."""
    contexts, at = np.unique(codes // CHORDS, return_inverse=True)
    context_counts = np.column_stack([np.bincount(at, weights=counts), np.bincount(at)]).reshape(-1, 2)
    chords, at = np.unique(codes % CHORDS, return_inverse=True)
    chord_counts = np.bincount(at, weights=counts)
    mode, bass, mask = chords // 49152, chords // 4096 % 12, chords % 4096
    degree_counts = np.zeros((2, 2, 12))
    np.add.at(degree_counts, (mode, 0, bass), chord_counts)
    for step in range(12):
        np.add.at(degree_counts, (mode, 1, step), chord_counts * (mask >> step & 1))
    beats = np.bincount(mode, weights=chord_counts, minlength=2)
    return Harmony(codes, counts, contexts, context_counts, chords, chord_counts, degree_counts, beats)


@dataclass(frozen=True)
class Family:
    """The tables of one family."""

    dense: dict[str, Dense]
    harmony: Harmony
    everything: Harmony  # all families', trusted by a fifth

    def surprisal(
        self, events: dict[str, Channel], known: dict[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Channel -> (K,) nats, in the order of the channel's events; those in `known` are not worked out
        again."""
        known = known or {}
        nats = {name: known[name] if name in known else table.surprisal(events[name])
                for name, table in self.dense.items()}
        before, after = events["harmony"].context, events["harmony"].outcome
        mixed = 0.8 * self.harmony.probability(before, after) + 0.2 * self.everything.probability(
            before, after
        )
        nats["harmony"] = -np.log(mixed + FLOOR * FLOOR)
        return nats


def make_family(
    counts: dict[str, np.ndarray], parents: dict[str, np.ndarray], harmony: Harmony, everything: Harmony
) -> Family:
    """Dense counts by channel, pooled probabilities by channel, and the chord counts."""
    dense = {name: Dense(np.log(make_dense(counts[name], parents.get(name)))) for name in SIZES}
    return Family(dense, harmony, everything)
