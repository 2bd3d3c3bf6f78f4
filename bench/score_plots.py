"""Pictures of the bench's result, for the README. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

LEVEL_COLOURS = ("#1f6fb4", "#c8501e")


def write_plots(result: dict, folder: Path) -> list[Path]:
    """corruptions.png, levels.png and variance.png in `folder`."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    return [_corruptions(result, folder), _levels(result, folder), _variance(result, folder)]


def _figure(width: float, height: float):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
    return path


def _corruptions(result: dict, folder: Path) -> Path:
    """AUC of every row with its interval; a tick where the target is."""
    rows = [
        *result["corruptions"],
        *({**row, "row": f"adversary: {row['row']}"} for row in result["adversaries"]),
    ][::-1]
    figure, axes = _figure(8, 0.32 * len(rows) + 1)
    for at, row in enumerate(rows):
        low, high = row["interval"]
        axes.plot([low, high], [at, at], color=LEVEL_COLOURS[0], linewidth=2)
        axes.plot(row["auc"], at, "o", color=LEVEL_COLOURS[0])
        if row["target"] is not None:
            axes.plot(row["target"], at, "|", color=LEVEL_COLOURS[1], markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), [row["row"] for row in rows])
    axes.set_xlabel("AUC, real pieces against these; bars: 95 % interval; red: target")
    axes.set_xlim(0.45, 1.01)
    return _save(figure, folder / "corruptions.png")


def _levels(result: dict, folder: Path) -> Path:
    """The mean composite against the level of corruption."""
    from bench.score_rows import LEVELS

    figure, axes = _figure(5, 3.2)
    for (name, row), colour in zip(result["levels"].items(), LEVEL_COLOURS, strict=True):
        axes.plot(
            LEVELS, row["means"], "o-", color=colour, label=f"{name}, rank correlation {row['pooled']:.2f}"
        )
    axes.set_xlabel("share of notes (of bass moves) altered")
    axes.set_ylabel("mean composite")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)
    return _save(figure, folder / "levels.png")


def _variance(result: dict, folder: Path) -> Path:
    """Shares of the composite's variance by dimension, real pieces and all pieces."""
    figure, axes = _figure(6, 3.2)
    names = list(result["variance, real"]["dimensions"])
    for shift, (key, label) in enumerate(
        (("variance, real", "real pieces"), ("variance, real and corrupted", "real and corrupted"))
    ):
        values = [result[key]["dimensions"][name] for name in names]
        axes.barh(
            [at + 0.38 * shift for at in range(len(names))],
            values,
            0.36,
            color=LEVEL_COLOURS[shift],
            label=label,
        )
    axes.axvline(0.5, color="#888", linewidth=1)
    axes.set_yticks([at + 0.19 for at in range(len(names))], names)
    axes.set_xlabel("share of the composite's variance (limit .5)")
    axes.legend(frameon=False)
    return _save(figure, folder / "variance.png")
