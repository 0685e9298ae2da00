"""Pictures of a run: success of every task against updates, and the success matrix."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from policy.metrics import wilson
from policy.summary import probes_of, rate, success_rows
from policy.training import Progress

LABEL = 50  # characters in a line of a label


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
    Methods that were not probed are left out.
    """
    never = 1.6 * updates_per_task
    curves = {name: transitions for name, transitions in curves.items() if any(found for _, found in transitions)}
    for i, (name, transitions) in enumerate(curves.items()):
        shift = 0.5 * (i + 0.5) / len(curves) - 0.25
        medians = []
        for x, (_, found) in enumerate(transitions):
            reached = [value for value in found if value is not None]
            missed = len(found) - len(reached)
            axes.plot([x + shift] * len(reached), reached, "o", color=f"C{i}", alpha=0.4, markersize=5)
            axes.plot([x + shift] * missed, [never] * missed, "^", color=f"C{i}", alpha=0.6, markersize=6)
            ordered = sorted([*reached, *[never] * missed])
            medians.append(float(np.median(ordered)) if ordered else np.nan)
        axes.plot(np.arange(len(medians)) + shift, medians, color=f"C{i}", linewidth=1.5, label=name)
    names = next(iter(curves.values()), [])
    axes.axhline(updates_per_task, color="0.6", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(names)), [task for task, _ in names], rotation=30 if len(names) > 4 else 0)
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="while learning", ylabel="updates to 90 % of the first task", ylim=(-0.2, 2.2 * never))
    axes.grid(alpha=0.25)


def plot_differences(
    path: Path, measures: Mapping[str, Sequence[tuple[str, Sequence[float], tuple[float, float] | None]]]
) -> None:
    """One panel a measure: the paired differences of every setting in points, one dot a seed, mean and interval."""
    labels = [textwrap.fill(setting, LABEL) for setting, *_ in next(iter(measures.values()), [])]
    height = 1.5 + 0.16 * sum(1 + len(label.splitlines()) for label in labels)
    figure, panels = plt.subplots(1, len(measures), figsize=(2.8 * len(measures) + 1.5, height), sharey=True)
    for axes, (name, rows) in zip(np.atleast_1d(panels), measures.items(), strict=True):
        for y, (_, points, ends) in enumerate(rows):
            axes.plot(points, [y] * len(points), "o", color="C0", alpha=0.35, markersize=5)
            axes.plot([np.mean(points)], [y], "d", color="C3", markersize=6)
            if ends is not None:
                axes.plot(ends, [y, y], color="C3", linewidth=1.5)
        axes.axvline(0, color="0.5", linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(rows)), labels, fontsize=8)
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.25)
    np.atleast_1d(panels)[0].invert_yaxis()
    figure.supxlabel("trust region less replay, points", fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, path)


ALIGNED = {
    "cosine_replay": "replay",
    "cosine_trust_region": "replay + penalty",
    "cosine_penalty": "penalty",
    "cosine_best": "replay + penalty of the best strength",
}
STEPS = {
    "replay_query": "replay / the task's own gradient",
    "linear_gradient": "H (theta - theta*) / gradient",
    "fisher_hessian": "Fisher / Hessian, times theta - theta*",
    "estimate_fisher": "its estimate / Fisher, the same",
    "penalty_correction": "penalty / correction by MAML",
}
ERRORS = {
    "error_replay_is_query": STEPS["replay_query"],
    "error_gradient_is_linear": STEPS["linear_gradient"],
    "error_hessian_is_fisher": STEPS["fisher_hessian"],
    "error_fisher_is_estimate": STEPS["estimate_fisher"],
    "error_first_order": "first order / correction by MAML",
}


def plot_alignment(path: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Cosines with MAML's meta-gradient, and cosine and error of the argument's steps, after every task.

    As policy.alignment measures them. Marks are earlier tasks, lines their medians.
    """
    panels = (
        ("cosine with the meta-gradient", ALIGNED),
        ("cosine of both sides of a step", {f"cosine_{key}": label for key, label in STEPS.items()}),
        ("relative error of a step", ERRORS),
    )
    figure, columns = plt.subplots(1, 3, figsize=(16, 5.5), layout="constrained")
    for axes, (title, quantities) in zip(columns, panels, strict=True):
        for i, (key, label) in enumerate(quantities.items()):
            found = [[r[key] for r in rows if r["after"] == name and r[key] is not None] for name in names[1:]]
            for x, values in enumerate(found):
                axes.plot([x] * len(values), values, ".", color=f"C{i}", alpha=0.3)
            medians = [np.median(values) if values else np.nan for values in found]
            axes.plot(range(len(medians)), medians, color=f"C{i}", label=label)
        axes.set_xticks(range(len(names) - 1), names[1:])
        if len(names) > 4:
            axes.tick_params("x", rotation=90)
        axes.set(title=title, xlabel="after learning")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.1))
    for axes in columns[:2]:
        axes.set_ylim(-1.05, 1.05)
    columns[2].set_yscale("log")
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, path)


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
    figure.savefig(partial, dpi=120, bbox_inches="tight")
    plt.close(figure)
    partial.replace(path)
