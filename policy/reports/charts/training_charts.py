"""Charts of training: losses, and how much the replay is like real windows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from reconverge.policy.reports.charts.style import INK, TRANSITION, Chart, label_powers
from reconverge.policy.reports.run import GeneratorUpdate, LoggedUpdate, ReplayQuality

BINS = 300  # points of a loss curve


class Panel(NamedTuple):
    title: str
    x_label: str
    y_label: str
    transitions: list[int]  # updates at which a task begins
    series: dict[str, list[tuple[int, float]]]


def losses(
    updates: Sequence[LoggedUpdate], generator: Sequence[GeneratorUpdate], updates_per_task: int
) -> Chart:
    """Training losses against updates, and the replay generator's against its own."""
    panels = _loss_panels(updates, generator, updates_per_task)

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight(0.4 + 1.9 * len(panels))
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            for name, points in panel.series.items():
                axes.plot(*_binned(points), linewidth=1.2, label=name)
            end = max(x for points in panel.series.values() for x, _ in points)
            for transition in panel.transitions:
                axes.axvline(transition, **TRANSITION)
            axes.set(yscale="log", xlim=(0, end), xlabel=panel.x_label, ylabel=panel.y_label)
            label_powers(axes.yaxis)
            axes.set_title(panel.title)
            if len(panel.series) > 1:
                axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)

    said = "; ".join(panel.title for panel in panels)
    return Chart("losses", f"Against updates, on logarithmic axes: {said}.", draw)


def _loss_panels(
    updates: Sequence[LoggedUpdate], generator: Sequence[GeneratorUpdate], updates_per_task: int
) -> list[Panel]:
    found = []
    starts = _starts([(line.task_index, line.update) for line in updates], updates_per_task)
    for title, y_label, names in (
        ("policy's loss", "mean squared error", ("loss", "distillation", "replayed")),
        ("trust region", "penalty", ("penalty", "trust_region")),
    ):
        series = {
            name.replace("_", " "): [
                (starts[line.task_index] + line.update, getattr(line, name))
                for line in updates
                if getattr(line, name) > 0
            ]
            for name in names
        }
        series = {name: points for name, points in series.items() if points}
        if series:
            found.append(Panel(title, "gradient updates", y_label, starts[1:], series))
    if generator:
        places = [(line.task_index, line.generator_update) for line in generator]
        starts = _starts(places, max(update for _, update in places))
        points = [
            (starts[line.task_index] + line.generator_update, line.loss) for line in generator
        ]
        labels = ("replay generator's loss", "updates of the generator", "mean squared error")
        found.append(Panel(*labels, starts[1:], {"loss": points}))
    return found


def _starts(places: Sequence[tuple[int, int]], updates_per_task: int) -> list[int]:
    """Return the update at which every task begins, by the last of each task in `places`."""
    last: dict[int, int] = {}
    for task, update in places:
        last[task] = max(update, last.get(task, 0))
    tasks = range(max(last, default=0))
    return list(accumulate((last.get(task, updates_per_task) for task in tasks), initial=0))


def _binned(points: Sequence[tuple[int, float]]) -> np.ndarray:
    """Return updates and means [2, N] over at most `BINS` runs of neighbouring points."""
    parts = np.array_split(np.array(points, dtype=float), min(BINS, len(points)))
    return np.array([part.mean(axis=0) for part in parts]).T


def nearest(replay: Sequence[ReplayQuality]) -> Chart:
    """Distances to the nearest real window, cumulated: of generated windows and of real ones."""

    def draw(figure: Figure, narrow: bool) -> None:
        columns = min(2 if narrow else 3, len(replay))
        rows = -(-len(replay) // columns)
        figure.set_figheight(0.5 + 2.0 * rows)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(replay) :]:
            axes.set_axis_off()
        for axes, task in zip(grid.flat, replay, strict=False):
            real, generated = task.nearest.real, task.nearest.generated
            shares = 100 * np.array(task.nearest.quantile)
            axes.plot(real, shares, color=INK, label="real")
            axes.plot(generated, shares, color="C1", label="generated")
            axes.set(ylim=(0, 100), xlim=(0, max(real[-3], generated[-3])))
            axes.set_title(task.task)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        figure.supxlabel("distance to the nearest real window (half ranges)")
        figure.supylabel("windows nearer than that (%)")

    said = ", ".join(f"{task.task} {task.ratio:.2f}" for task in replay)
    alt = f"Median distance of generated windows over that of real ones: {said}."
    return Chart("nearest", alt, draw)


def marginals(task: ReplayQuality) -> Chart:
    """Histograms of the entries whose marginals differ most."""

    def draw(figure: Figure, narrow: bool) -> None:
        columns = min(2 if narrow else 4, len(task.marginals))
        rows = -(-len(task.marginals) // columns)
        figure.set_figheight(0.5 + 1.7 * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, entry in zip(grid.flat, task.marginals, strict=False):
            real, generated = 100 * np.array(entry.real), 100 * np.array(entry.generated)
            axes.stairs(real, entry.edges, fill=True, color=INK, alpha=0.3, label="real")
            axes.stairs(generated, entry.edges, color="C1", linewidth=1.3, label="generated")
            axes.set_title(entry.name)
            axes.locator_params(axis="x", nbins=4)
        grid[0, 0].legend()
        figure.supylabel("windows (%)")
        figure.supxlabel("value of the entry, in its own unit")

    said = ", ".join(f"{entry.name} {entry.distance:.3f}" for entry in task.marginals)
    name = f"marginals-{re.sub(r'[^a-z0-9]', '-', task.task.lower())}"
    alt = f"Histograms of {task.task}'s entries; earth mover's distances: {said}."
    return Chart(name, alt, draw)
