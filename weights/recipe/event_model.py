"""Fit the scorer's reference (mlxgen/scoring/reference.npz) on training pieces only.

    python -m weights.recipe.event_model ../shared/corpus [--out mlxgen/scoring/reference.npz]

Chorales: the train split of the JSB frames, and music21's versions of chorales unless their content matches
a piece of the valid or test split. Other families (polyphony, quartet, motet): pieces of the folder and of
music21 whose file name does not hash into the held-out fifth. Tables are counted on all training pieces;
everything that says what is *usual* (quantiles, rates, thresholds) is measured on pieces whose own fold the
tables have not seen (event_usual.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mlxgen.scoring import events
from mlxgen.scoring.event_model import count_chords
from mlxgen.scoring.fingerprint import chord_changes, long_prints, short_prints
from mlxgen.scoring.keys import PROBE_TONES, local_keys
from mlxgen.scoring.music import texture_features
from mlxgen.scoring.reference import Reference
from mlxgen.scoring.texture import Texture, make_texture

from .event_corpus import FAMILIES, FOLDS, Sample, entries, split_corpus
from .event_usual import STEPS, HeldOut, empty


def fit_profiles(textures: list[Texture], rounds: int = 3) -> np.ndarray:
    """(2, 12) log-probabilities of degrees, from the keys that the last round's profiles hear."""
    profiles = np.log(PROBE_TONES / PROBE_TONES.sum(axis=1, keepdims=True))
    for _ in range(rounds):
        weight = np.full((2, 12), 5.0)
        for texture in textures:
            keys = local_keys(texture, profiles)
            slices, voices = np.nonzero(texture.sounding)
            degree = (texture.pitch[slices, voices] - keys[slices]) % 12
            np.add.at(weight, (keys[slices] // 12, degree), texture.length[slices] / texture.beat_ticks)
        profiles = np.log(weight / weight.sum(axis=1, keepdims=True))
    return profiles


def count_events(heard: list[dict], families: np.ndarray) -> dict[str, np.ndarray]:
    """Event dictionaries and their families (K,) -> the reference's count arrays."""
    arrays = {}
    for name, (contexts, outcomes) in events.SIZES.items():
        table = np.zeros((len(FAMILIES), contexts, outcomes), dtype=np.uint32)
        for family in range(len(FAMILIES)):
            own = [row[name] for row, at in zip(heard, families, strict=True) if at == family]
            code = np.concatenate([channel.context * outcomes + channel.outcome for channel in own] or [[]])
            table[family] = np.bincount(code.astype(np.int64), minlength=contexts * outcomes).reshape(
                contexts, outcomes
            )
        arrays[f"count/{name}"] = table
    for family, name in enumerate(FAMILIES):
        own = [row["harmony"] for row, at in zip(heard, families, strict=True) if at == family]
        before = np.concatenate([channel.context for channel in own] or [[]]).astype(np.int64)
        after = np.concatenate([channel.outcome for channel in own] or [[]]).astype(np.int64)
        arrays[f"chords/{name}"] = count_chords(before, after)
    return arrays


def fit_families(textures: list[Texture], families: np.ndarray) -> dict[str, np.ndarray]:
    """Gaussians over texture features, and the usual ranges by role."""
    features = np.array([texture_features(texture) for texture in textures])
    mean, precision, log_precision = [], [], []
    ranges = np.zeros((len(FAMILIES), 3, 2))
    for family in range(len(FAMILIES)):
        own = features[families == family]
        covariance = np.cov(own.T) + np.diag([0.02, 0.002, 0.002, 0.002, 0.05, 0.5])
        mean.append(own.mean(axis=0))
        precision.append(np.linalg.inv(covariance))
        log_precision.append(-np.linalg.slogdet(covariance)[1])
        own_textures = [texture for texture, at in zip(textures, families, strict=True) if at == family]
        role = np.concatenate([events.roles(texture) for texture in own_textures])
        pitch = np.concatenate([texture.notes.pitch for texture in own_textures])
        for which in range(3):
            ranges[family, which] = np.quantile(pitch[role == which], (0.01, 0.99))
    return {
        "family_mean": np.array(mean),
        "family_precision": np.array(precision),
        "family_log_precision": np.array(log_precision),
        "ranges": ranges,
    }


class Recipe:
    """The training pieces with their textures, and one reference for each fold that has not seen it."""

    def __init__(self, samples: list[Sample]):
        self.samples = [sample for sample in samples if sample.split == "train" and sample.piece.note_count]
        self.textures = [make_texture(sample.piece) for sample in self.samples]
        self.families = np.array([sample.family for sample in self.samples])
        self.folds = np.array([sample.fold for sample in self.samples])
        self.profiles = fit_profiles(self.textures)
        self.heard = [
            events.make_events(texture, local_keys(texture, self.profiles)) for texture in self.textures
        ]
        changes = [chord_changes(texture) for texture in self.textures]
        self.prints = [np.unique(long_prints(change)[0]) for change in changes]
        self.turns = [np.unique(short_prints(change)[0]) for change in changes]
        self.fixed = {
            "families": np.array(FAMILIES),
            "profiles": self.profiles,
            **fit_families(self.textures, self.families),
            **empty(),
        }

    def reference(self, without: int | None) -> Reference:
        """Tables of all training pieces but one fold."""
        use = [at for at in range(len(self.samples)) if self.folds[at] != without]
        arrays = dict(self.fixed)
        arrays.update(count_events([self.heard[at] for at in use], self.families[use]))
        arrays["prints"] = np.unique(np.concatenate([self.prints[at] for at in use]))
        for family, name in enumerate(FAMILIES):
            own = [self.turns[at] for at in use if self.families[at] == family]
            arrays[f"turns/{name}"] = np.unique(np.concatenate(own))
        return Reference(arrays)

    def fit(self) -> dict[str, np.ndarray]:
        """Everything: what is counted, and what each step measures on pieces the counts have not seen."""
        for step in STEPS:
            references = [self.reference(fold) for fold in range(FOLDS)]
            self.fixed.update(step(HeldOut(self.samples, self.heard, references)))
        return dict(self.reference(None).arrays)


def compact(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Smaller types where nothing is lost that matters."""
    small = {}
    for name, array in arrays.items():
        if array.dtype == np.float64 and name != "profiles":
            array = array.astype(np.float32)
        elif name.startswith("count/") and array.max(initial=0) < 65536:
            array = array.astype(np.uint16)
        small[name] = array
    return small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("mlxgen/scoring/reference.npz"))
    options = parser.parse_args()
    samples = split_corpus(list(entries(options.corpus)))
    recipe = Recipe(samples)
    arrays = compact(recipe.fit())
    np.savez_compressed(options.out, **arrays)
    for family, name in enumerate(FAMILIES):
        print(f"{name}: {int((recipe.families == family).sum())} training pieces")
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
