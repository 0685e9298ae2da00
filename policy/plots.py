"""Pictures of a run: success of every task against updates, and the success matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from policy.metrics import wilson
from policy.summary import probes_of, rate, success_rows
from policy.training import Progress


def plot_run(folder: Path, progress: Progress, names: Sequence[str], updates_per_task: int) -> None:
    """Write `success.png` and `matrix.png` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(_success(progress, names, updates_per_task), folder / "success.png")
    _save(_matrix(progress, names), folder / "matrix.png")


def _success(progress: Progress, names: Sequence[str], updates: int):
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for task, name in enumerate(names[: len(progress.successes)]):
        x, found = [], []
        for later in range(task, len(progress.successes)):
            for probe in probes_of(progress, task, later):
                if probe["update"] < updates:
                    x.append(later * updates + probe["update"])
                    found.append(probe["successes"])
            x.append((later + 1) * updates)
            found.append(progress.successes[later][task])
        bounds = np.array([wilson(sum(successes), len(successes)) for successes in found])
        width = 1.0 + 1.5 * (len(names) - task) / len(names)  # tasks at the same height stay visible
        rates = [rate(successes) for successes in found]
        (line,) = axes.plot(x, rates, marker="o", markersize=2 * width, linewidth=width, label=name, clip_on=False)
        axes.fill_between(x, bounds[:, 0], bounds[:, 1], color=line.get_color(), alpha=0.15, linewidth=0)
    for task, name in enumerate(names):
        axes.axvline(task * updates, color="0.6", linewidth=0.8, linestyle="--")
        axes.text((task + 0.5) * updates, 1.07, f"learning {name}", ha="center", fontsize=9, color="0.3")
    axes.set(xlabel="gradient updates", ylabel="success rate", ylim=(-0.03, 1.03), xlim=(0, len(names) * updates))
    axes.legend(loc="lower left")
    axes.grid(alpha=0.25)
    return figure


def _matrix(progress: Progress, names: Sequence[str]):
    rows = np.array(success_rows(progress, len(names)), dtype=float)
    size = 1.6 + 0.7 * len(names)
    figure, axes = plt.subplots(figsize=(size + 0.8, size), layout="constrained")
    image = axes.imshow(rows, vmin=0, vmax=1, cmap="viridis")
    for i, j in zip(*np.nonzero(~np.isnan(rows)), strict=True):
        axes.text(j, i, f"{100 * rows[i, j]:.0f}", ha="center", va="center", color="w" if rows[i, j] < 0.6 else "k")
    axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 4 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="evaluated", ylabel="after learning")
    figure.colorbar(image, label="success rate")
    return figure


def _save(figure, path: Path) -> None:
    partial = path.with_suffix(".partial.png")
    figure.savefig(partial, dpi=120)
    plt.close(figure)
    partial.replace(path)
