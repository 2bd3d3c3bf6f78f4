"""The reference: what was measured on training pieces, read from reference.npz, one small file made by its
recipe."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from mlxgen.scoring.event_model import Family, Harmony, harmony_of_pairs, make_dense, make_family
from mlxgen.scoring.events import CHANNELS, SIZES

DATA_FILE = Path(__file__).with_name("reference.npz")


class Reference:
    """Tables and calibration of F families of texture and M metrics.

    `arrays`: families (F,) names; profiles (2, 12) log-probabilities of degrees in major and minor;
    count/CHANNEL (F, contexts, outcomes); chords/FAMILY (P, 2) chord pairs and their counts; family_mean (F,
    6), family_precision (F, 6, 6); ranges (F, 3, 2) by role; rare (F, channels) nats; note_weights
    (F, features); bar_lines (F, 2, features), seam_weights (features,), worst_line (F, 2);
    metrics (M,) names and calibration (F, M, 4); prints (K,) sorted uint32; turns/FAMILY likewise.
    Raises ValueError naming what is missing.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], source: str = "reference"):
        self.arrays = arrays
        for name in ("families", "profiles", "ranges", "rare", "calibration", "metrics", "prints"):
            if name not in arrays:
                raise ValueError(f"{source}: no array {name!r}; make it with weights/recipe/event_model.py")
        self.families = [str(name) for name in arrays["families"]]
        self.profiles = arrays["profiles"]
        self.ranges = arrays["ranges"]
        self.bar_lines = arrays["bar_lines"]
        self.seam_weights = arrays["seam_weights"]
        self.worst_line = arrays["worst_line"]
        self.note_weights = arrays["note_weights"]
        self.calibration = {
            str(name): arrays["calibration"][:, at].tolist() for at, name in enumerate(arrays["metrics"])
        }
        self._rare = {name: arrays["rare"][:, at] for at, name in enumerate(CHANNELS)}
        self._models: dict[int, Family] = {}

    def texture_nats(self, features: np.ndarray) -> np.ndarray:
        """(F,) how much less likely texture features (6,) are in each family than in the likeliest, 0 for
        that one: Gaussians."""
        apart = features - self.arrays["family_mean"]
        precision = self.arrays["family_precision"]
        distance = np.einsum("fi,fij,fj->f", apart, precision, apart) - self.arrays["family_log_precision"]
        return (distance - distance.min()) / 2

    def rare(self, family: int, channel: str) -> float:
        """Nats that 2 % of the family's held-out events exceed."""
        return float(self._rare[channel][family])

    @cached_property
    def _pooled(self) -> dict[str, np.ndarray]:
        return {name: make_dense(self.arrays[f"count/{name}"].sum(axis=0)) for name in SIZES}

    @cached_property
    def _all_chords(self) -> Harmony:
        rows = np.concatenate([self.arrays[f"chords/{name}"] for name in self.families])
        codes, at = np.unique(rows[:, 0], return_inverse=True)
        return harmony_of_pairs(codes, np.bincount(at, weights=rows[:, 1]))

    def model(self, family: int) -> Family:
        """The family's event model; its tables are worked out at the first call."""
        if family not in self._models:
            counts = {name: self.arrays[f"count/{name}"][family] for name in SIZES}
            rows = self.arrays[f"chords/{self.families[family]}"]
            self._models[family] = make_family(
                counts, self._pooled, harmony_of_pairs(rows[:, 0], rows[:, 1]), self._all_chords
            )
        return self._models[family]

    def is_known(self, prints: np.ndarray) -> np.ndarray:
        """(K,) bool: the long span stands in a training piece."""
        return _among(self.arrays["prints"], prints)

    def is_turn(self, family: int, prints: np.ndarray) -> np.ndarray:
        """(K,) bool: the short span stands in a training piece of the family."""
        return _among(self.arrays[f"turns/{self.families[family]}"], prints)


def _among(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(known):
        return np.zeros(len(wanted), dtype=bool)
    return known[np.minimum(np.searchsorted(known, wanted), len(known) - 1)] == wanted


@cache
def load_reference(path: Path = DATA_FILE) -> Reference:
    """The shipped reference. Raises OSError without the file, ValueError when it lacks an array."""
    with np.load(path, allow_pickle=False) as data:
        return Reference({name: data[name] for name in data.files}, str(path))
