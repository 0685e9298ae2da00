"""Pictures of a run: success of every task against updates, and the success matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def plot_recovery(
    path: Path, curves: Mapping[str, Sequence[tuple[str, Sequence[int | None]]]], updates_per_task: int
) -> None:
    """Write `draw_recovery`'s figure."""
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    draw_recovery(axes, curves, updates_per_task)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, path)


def draw_recovery(
    axes, curves: Mapping[str, Sequence[tuple[str, Sequence[int | None]]]], updates_per_task: int
) -> None:
    """Updates until the first task was back at 90 % at every transition, by method; one mark a run.

    As arXiv 2602.02417 figure 2(b). Runs in which it never came back are triangles above the axis' last update.
    """
    never = 1.6 * updates_per_task
    for i, (name, transitions) in enumerate(curves.items()):
        shift = 0.5 * (i + 0.5) / len(curves) - 0.25
        medians = []
        for x, (_, found) in enumerate(transitions):
            reached = [value for value in found if value is not None]
            missed = len(found) - len(reached)
            axes.plot([x + shift] * len(reached), np.maximum(reached, 1), "o", color=f"C{i}", alpha=0.4, markersize=5)
            axes.plot([x + shift] * missed, [never] * missed, "^", color=f"C{i}", alpha=0.6, markersize=6)
            ordered = sorted([*(max(value, 1) for value in reached), *[never] * missed])
            medians.append(float(np.median(ordered)) if ordered else np.nan)
        axes.plot(np.arange(len(medians)) + shift, medians, color=f"C{i}", linewidth=1.5, label=name)
    names = next(iter(curves.values()), [])
    axes.axhline(updates_per_task, color="0.6", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(names)), [task for task, _ in names], rotation=30 if len(names) > 4 else 0)
    axes.set(
        xlabel="while learning", ylabel="updates to 90 % of the first task", yscale="log", ylim=(0.8, 2.2 * never)
    )
    axes.grid(alpha=0.25)


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
        few = len(names) < 5
        label = axes.text((task + 0.5) * updates, 1.06, f"learning {name}" if few else name, fontsize=9, color="0.3")
        label.set(ha="center" if few else "left", rotation=0 if few else 30, rotation_mode="anchor")
    axes.set(xlabel="gradient updates", ylabel="success rate", ylim=(-0.03, 1.03), xlim=(0, len(names) * updates))
    axes.legend(loc="lower left", ncols=1 + len(names) // 6, fontsize=9)
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
