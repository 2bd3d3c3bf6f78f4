"""Fit the scorer's reference (mlxgen/scoring/reference.npz) on training pieces only.

    python -m weights.recipe.event_model ../shared/corpus [--out mlxgen/scoring/reference.npz]

Chorales: the train split of the JSB frames, and music21's versions of chorales unless their content matches
a piece of the valid or test split. Other families (polyphony, quartet, motet): pieces of the folder and of
music21 whose file name does not hash into the held-out fifth. Tables are counted on all training pieces;
everything that says what is *usual* (quantiles, rates, thresholds) is measured on pieces whose own fold the
tables have not seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.corruptions import bar_lines, jump_at_seam, splice_at_seam
from mlxgen.music.piece import Piece
from mlxgen.scoring import events
from mlxgen.scoring.boundary import FEATURES, bar_line_features, seam_scores
from mlxgen.scoring.calibration import fit_counts, fit_means
from mlxgen.scoring.event_model import count_chords
from mlxgen.scoring.fingerprint import chord_changes, long_prints, short_prints
from mlxgen.scoring.keys import PROBE_TONES, local_keys
from mlxgen.scoring.measure import Measure
from mlxgen.scoring.metrics import METRICS
from mlxgen.scoring.music import make_music, texture_features
from mlxgen.scoring.reference import Reference
from mlxgen.scoring.score import applies, measure
from mlxgen.scoring.texture import Texture, make_texture
from mlxgen.scoring.wrong_notes import VIEWS, note_views

from .event_corpus import FAMILIES, FOLDS, Sample, entries, split_corpus

CHUNKS_PER_PIECE = 2
RARE_QUANTILE = 0.98
SEED = 1725


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
        covariance = np.cov(own.T) + np.diag([0.02, 0.002, 0.002, 0.002, 0.05])
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


def empty_calibration() -> dict[str, np.ndarray]:
    """Placeholders under which a first reference can be made, to measure what replaces them."""
    count = len(FAMILIES)
    return {
        "rare": np.full((count, len(events.CHANNELS)), 8.0),
        "metrics": np.array(list(METRICS)),
        "calibration": np.ones((count, len(METRICS), 4)),
        "worst_line": np.zeros((count, 2)),
        "bar_lines": np.stack([np.zeros((count, len(FEATURES))), np.ones((count, len(FEATURES)))], axis=1),
        "seam_weights": np.ones(len(FEATURES)) / len(FEATURES),
        "note_views": np.stack([np.zeros((count, len(VIEWS))), np.ones((count, len(VIEWS)))], axis=1),
        "note_rare": np.full(count, 8.0),
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
            **empty_calibration(),
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
        """Everything, in the order in which later steps need earlier ones."""
        held_out = [self.reference(fold) for fold in range(FOLDS)]
        self.fixed["rare"] = self._rare(held_out)
        held_out = [self.reference(fold) for fold in range(FOLDS)]
        self._notes(held_out)
        held_out = [self.reference(fold) for fold in range(FOLDS)]
        self._seams(held_out)
        held_out = [self.reference(fold) for fold in range(FOLDS)]
        self.fixed["worst_line"] = self._worst(held_out)
        held_out = [self.reference(fold) for fold in range(FOLDS)]
        self.fixed["calibration"] = self._calibration(held_out)
        return dict(self.reference(None).arrays)

    def _music(self, held_out: list[Reference], at: int, piece: Piece | None = None, **options):
        return make_music(piece or self.samples[at].piece, reference=held_out[self.folds[at]], **options)

    def _rare(self, held_out: list[Reference]) -> np.ndarray:
        """(F, channels) nats that 2 % of unseen events exceed."""
        nats = [[[] for _ in events.CHANNELS] for _ in FAMILIES]
        for at, sample in enumerate(self.samples):
            model = held_out[sample.fold].model(sample.family)
            for place, (name, values) in enumerate(
                sorted(
                    model.surprisal(self.heard[at]).items(), key=lambda item: events.CHANNELS.index(item[0])
                )
            ):
                assert events.CHANNELS[place] == name
                nats[sample.family][place].append(values)
        return np.array(
            [[np.quantile(np.concatenate(values), RARE_QUANTILE) for values in row] for row in nats]
        )

    def _notes(self, held_out: list[Reference]) -> None:
        """How surprising real notes are in each view, and what one in a hundred adds up to."""
        rows = [[] for _ in FAMILIES]
        for at, sample in enumerate(self.samples):
            music = self._music(held_out, at)
            music.__dict__["family"] = sample.family
            rows[sample.family].append(note_views(music))
        tables = [np.concatenate(row) for row in rows]
        statistics = [(np.nanmean(table, axis=0), np.nanstd(table, axis=0)) for table in tables]
        self.fixed["note_views"] = np.array(statistics)
        self.fixed["note_rare"] = np.array(
            [
                np.quantile(np.nan_to_num((table - mean) / spread).sum(axis=1), 0.99)
                for table, (mean, spread) in zip(tables, statistics, strict=True)
            ]
        )

    def _seams(self, held_out: list[Reference]) -> None:
        """Statistics of real bar lines by family, and the discriminant between them and planted seams."""
        random = np.random.default_rng(SEED)
        real = [[] for _ in FAMILIES]
        planted = [[] for _ in FAMILIES]
        for at, sample in enumerate(self.samples):
            lines = bar_line_features(self._music(held_out, at))
            inside = np.isin(lines.ticks, bar_lines(sample.piece))
            real[sample.family].append(lines.features[inside])
            others = [other.piece for other in self.samples if other.family == sample.family]
            for joined in (_try_splice(sample.piece, others, random), jump_at_seam(sample.piece, random)):
                if joined is not None:
                    lines = bar_line_features(self._music(held_out, at, joined[0]))
                    planted[sample.family].append(lines.features[lines.ticks == joined[1]])
        statistics = []
        for rows in real:
            table = np.concatenate(rows)
            statistics.append((np.nanmean(table, axis=0), np.maximum(np.nanstd(table, axis=0), 1e-3)))
        self.fixed["bar_lines"] = np.array(statistics)
        standard = [
            [
                np.clip(
                    np.nan_to_num(
                        (np.concatenate(rows[family]) - statistics[family][0]) / statistics[family][1]
                    ),
                    -4,
                    8,
                )
                for family in range(len(FAMILIES))
            ]
            for rows in (real, planted)
        ]
        usual = np.concatenate([table[:: max(len(table) // 4000, 1)] for table in standard[0]])
        seams = np.concatenate(standard[1])
        within = (np.cov(usual.T) + np.cov(seams.T)) / 2
        weights = np.linalg.solve(
            within + 0.05 * np.eye(len(within)), seams.mean(axis=0) - usual.mean(axis=0)
        )
        self.fixed["seam_weights"] = weights / (usual @ weights).std()

    def _worst(self, held_out: list[Reference]) -> np.ndarray:
        """(F, 2) offset and slope of the worst bar line's score against the log of how many there are."""
        rows = [[] for _ in FAMILIES]
        for at, sample in enumerate(self.samples):
            _, scores = seam_scores(self._music(held_out, at))
            for count in (4, 8, 16, len(scores)):
                if 2 <= count <= len(scores):
                    rows[sample.family].append((np.log(count), scores[:count].max()))
        fits = []
        for points in rows:
            slope, offset = np.polyfit(*np.array(points).T, 1)
            fits.append((offset, slope))
        return np.array(fits)

    def _calibration(self, held_out: list[Reference]) -> np.ndarray:
        """(F, M, 4) parameters from whole pieces and from chunks behind their context."""
        random = np.random.default_rng(SEED)
        raw: list[dict[str, list[Measure]]] = [{name: [] for name in METRICS} for _ in FAMILIES]
        for at, sample in enumerate(self.samples):
            for options in _views(sample.piece, random):
                music = self._music(held_out, at, **options)
                # The family is the true one here, or its own outliers would be judged by another's.
                music.__dict__["family"] = sample.family
                for name, found in measure(music).items():
                    if found.exposure > 0 and applies(METRICS[name].scope, music):
                        raw[sample.family][name].append(found)
        table = np.ones((len(FAMILIES), len(METRICS), 4))
        for family, row in enumerate(raw):
            for place, (name, found) in enumerate(row.items()):
                if len(found) < 20:
                    continue
                totals = np.array([one.total for one in found])
                exposures = np.array([one.exposure for one in found], dtype=float)
                counting = METRICS[name].kind == "count"
                table[family, place] = (
                    fit_counts(totals, exposures) if counting else fit_means(totals / exposures, exposures)
                )
        return table


def _try_splice(piece: Piece, others: list[Piece], random: np.random.Generator) -> tuple[Piece, int] | None:
    fitting = [
        other for other in others if len(other.voices) == len(piece.voices) and other.meter == piece.meter
    ]
    if len(fitting) < 3 or piece.length_bars < 6:
        return None
    return splice_at_seam(piece, fitting, random, same_key=bool(random.integers(2)))


def _views(piece: Piece, random: np.random.Generator) -> Iterator[dict]:
    """Keyword arguments of `make_music`: the whole piece, and chunks of it behind their context."""
    yield {"piece": piece}
    bars = piece.length_ticks // piece.bar_ticks
    for _ in range(CHUNKS_PER_PIECE):
        size = int(random.integers(4, 17))
        if bars < size + 5:
            continue
        begin = int(random.integers(4, bars - size + 1)) * piece.bar_ticks
        end = begin + size * piece.bar_ticks
        yield {
            "piece": piece.between(begin, end),
            "context": piece.between(0, begin),
            "last": False,
            "seam_ticks": begin,
        }


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
