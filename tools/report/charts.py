"""Charts of a report: SVG that takes its ink from the page, each in a wide and in a narrow shape."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from markupsafe import Markup
from matplotlib.figure import Figure

from policy.plots import draw_recovery
from tools.report.run import Point

WIDTHS = {"wide": 9.0, "narrow": 4.3}  # inches; the page shows the one that its reader's screen has room for
INK = "#010203"  # stands for the page's text colour
COLORS = ("#2f7fc1", "#c8701a", "#2e9a6a", "#b0569f", "#8a7a2e", "#5c6bc0", "#c2504a", "#3a9ca6")
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "reconverge",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
BINS = 300  # points of a loss curve

Draw = Callable[[Figure, bool], None]
"""Draws on an empty figure, whose width is set; True if it is the narrow one."""


@dataclass(frozen=True)
class Chart:
    """One picture in both shapes, with what it says in words."""

    alt: str
    wide: Markup
    narrow: Markup


def make_chart(name: str, alt: str, draw: Draw) -> Chart:
    """`name` keeps the ids of the charts on one page apart."""
    with matplotlib.rc_context(STYLE):
        shapes = {shape: _svg(f"{name}-{shape}", alt, draw, shape) for shape in WIDTHS}
    return Chart(alt, **shapes)


def _svg(name: str, alt: str, draw: Draw, shape: str) -> Markup:
    figure = Figure(figsize=(WIDTHS[shape], 3.0), layout="constrained")
    draw(figure, shape == "narrow")
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1))


def success(curves: Mapping[str, Sequence[Point]], updates_per_task: int) -> Chart:
    """A panel a task: success with its interval against updates, transitions dashed, its own learning shaded."""
    tasks = list(curves)

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight(1.0 + (1.0 if len(tasks) < 5 else 0.8) * len(tasks))
        panels = figure.subplots(len(tasks), 1, sharex=True, squeeze=False)[:, 0]
        for i, (axes, (task, points)) in enumerate(zip(panels, curves.items(), strict=True)):
            axes.axvspan(i * updates_per_task, (i + 1) * updates_per_task, color=INK, alpha=0.07, linewidth=0)
            for transition in range(1, len(tasks)):
                axes.axvline(transition * updates_per_task, color=INK, alpha=0.5, linewidth=0.8, linestyle="--")
            x, rates, low, high = (100 * np.array(points).T) if points else np.zeros((4, 0))
            axes.fill_between(x / 100, low, high, color="C0", alpha=0.25, linewidth=0)
            axes.vlines(x / 100, low, high, color="C0", alpha=0.5, linewidth=0.8, clip_on=False)
            axes.plot(x / 100, rates, color="C0", marker="o", markersize=3, linewidth=1.4, clip_on=False)
            axes.set(ylim=(-4, 104), yticks=(0, 50, 100), xlim=(0, len(tasks) * updates_per_task))
            axes.set_title(f"{i + 1} {task}", loc="left", fontsize=9)
        figure.supylabel("success (%)", fontsize=9)
        panels[-1].set_xlabel("gradient updates")

    last = ", ".join(f"{task} {100 * points[-1].rate:.0f} %" for task, points in curves.items() if points)
    return make_chart("success", f"Success of every task against gradient updates. At the end: {last}.", draw)


def losses(lines: Sequence[dict[str, Any]], updates_per_task: int) -> Chart:
    """Training losses against updates, and the replay generator's against its own."""
    panels = _loss_panels(lines, updates_per_task)

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight(0.4 + 1.9 * len(panels))
        for axes, (title, x_label, span, series) in zip(
            figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True
        ):
            for name, points in series.items():
                axes.plot(*_binned(points), linewidth=1.2, label=name)
            end = max(x for points in series.values() for x, _ in points)
            for transition in range(span, end, span):
                axes.axvline(transition, color=INK, alpha=0.5, linewidth=0.8, linestyle="--")
            axes.set(
                yscale="log",
                xlim=(0, end),
                xlabel=x_label,
                ylabel="mean squared error" if "loss" in title else "penalty",
            )
            axes.set_title(title, loc="left", fontsize=9)
            if len(series) > 1:
                axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0, fontsize=8)

    return make_chart("losses", f"Against updates, on logarithmic axes: {'; '.join(p[0] for p in panels)}.", draw)


def _loss_panels(lines: Sequence[dict[str, Any]], updates_per_task: int) -> list[tuple[str, str, int, dict]]:
    """Title, label of the x axis, updates between transitions, and points by series."""
    found = []
    logged = [line for line in lines if line["kind"] == "update"]
    for title, names in (
        ("policy's loss", ("loss", "distillation")),
        ("trust region", ("penalty", "trust_region")),
    ):
        series = {n: [(_update(x, updates_per_task), x[n]) for x in logged if x.get(n, 0) > 0] for n in names}
        series = {name: points for name, points in series.items() if points}
        if series:
            found.append((title, "gradient updates", updates_per_task, series))
    generator = [line for line in lines if line["kind"] == "generator"]
    if generator:
        span = max(line["generator_update"] for line in generator)
        points = [(line["task_index"] * span + line["generator_update"], line["loss"]) for line in generator]
        found.append(("replay generator's loss", "updates of the generator", span, {"loss": points}))
    return found


def _update(line: dict[str, Any], updates_per_task: int) -> int:
    return line["task_index"] * updates_per_task + line["update"]


def _binned(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Means over at most `BINS` runs of neighbouring points."""
    parts = np.array_split(np.array(points, dtype=float), min(BINS, len(points)))
    return tuple(np.array([part.mean(axis=0) for part in parts]).T)  # type: ignore[return-value]


def nearest(replay: Sequence[dict[str, Any]]) -> Chart:
    """Distances to the nearest real window, cumulated: of generated windows and of real ones."""

    def draw(figure: Figure, narrow: bool) -> None:
        columns = min(2 if narrow else 3, len(replay))
        rows = -(-len(replay) // columns)
        figure.set_figheight(0.5 + 2.0 * rows)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(replay) :]:
            axes.set_axis_off()
        for axes, task in zip(grid.flat, replay, strict=False):
            quantiles = task["nearest"]
            for color, name in ((INK, "real"), ("C1", "generated")):
                axes.plot(quantiles[name], 100 * np.array(quantiles["quantile"]), color=color, label=name)
            axes.set(ylim=(0, 100), xlim=(0, max(quantiles["real"][-3], quantiles["generated"][-3])))
            axes.set_title(task["task"], loc="left", fontsize=9)
        grid[0, 0].legend(loc="lower right", fontsize=8)
        figure.supxlabel("distance to the nearest real window (half ranges)", fontsize=9)
        figure.supylabel("windows nearer than that (%)", fontsize=9)

    said = ", ".join(f"{task['task']} {task['ratio']:.2f}" for task in replay)
    return make_chart("nearest", f"Median distance of generated windows over that of real ones: {said}.", draw)


def marginals(task: dict[str, Any]) -> Chart:
    """Histograms of the entries whose marginals differ most."""
    entries = task["marginals"]

    def draw(figure: Figure, narrow: bool) -> None:
        columns = min(2 if narrow else 4, len(entries))
        rows = -(-len(entries) // columns)
        figure.set_figheight(0.5 + 1.7 * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, entry in zip(grid.flat, entries, strict=False):
            real, generated = (100 * np.array(entry[name]) for name in ("real", "generated"))
            axes.stairs(real, entry["edges"], fill=True, color=INK, alpha=0.3, label="real")
            axes.stairs(generated, entry["edges"], color="C1", linewidth=1.3, label="generated")
            axes.set_title(entry["name"], loc="left", fontsize=9)
            axes.locator_params(axis="x", nbins=4)
        grid[0, 0].legend(fontsize=8)
        figure.supylabel("windows (%)", fontsize=9)
        figure.supxlabel("value of the entry, in its own unit", fontsize=9)

    said = ", ".join(f"{entry['name']} {entry['distance']:.3f}" for entry in entries)
    name = f"marginals-{re.sub(r'[^a-z0-9]', '-', task['task'].lower())}"
    return make_chart(name, f"Histograms of {task['task']}'s entries; earth mover's distances: {said}.", draw)


def averages(groups: Mapping[str, Iterable[Sequence[float]]], tasks: Sequence[str]) -> Chart:
    """Mean success of the tasks seen after each task: a line a method, its runs thin."""
    lines = {name: np.array(list(runs)) * 100 for name, runs in groups.items()}
    x = np.arange(1, len(tasks) + 1)

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight(3.2 + 0.2 * len(lines))
        axes = figure.subplots()
        for i, (name, values) in enumerate(lines.items()):
            color = COLORS[i % len(COLORS)]
            axes.plot(x, values.T, color=color, linewidth=0.7, alpha=0.5)
            axes.plot(x, values.mean(axis=0), color=color, marker="o", markersize=4, linewidth=1.8, label=name)
        axes.set_xticks(x, [f"{i} {task}" for i, task in zip(x, tasks, strict=True)], rotation=40, ha="right")
        low = max(0, 20 * np.floor((min(values.min() for values in lines.values()) - 5) / 20))
        axes.set(ylim=(low, 102), ylabel="mean success (%)", xlabel="after learning")
        figure.legend(loc="outside upper left", fontsize=8)

    said = ", ".join(f"{name} {values.mean(axis=0)[-1]:.0f} %" for name, values in lines.items())
    return make_chart("averages", f"Mean success of the tasks seen after each task; at the end: {said}.", draw)


def recovery(curves: Mapping[str, Any], updates_per_task: int) -> Chart:
    """As the figure of tools.compare."""

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight(3.4 + 0.2 * len(curves))
        axes = figure.subplots()
        draw_recovery(axes, curves, updates_per_task)
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right")
        figure.legend(loc="outside upper left", fontsize=8)

    return make_chart("recovery", "Updates until the first task was back at 90 %; the table has the numbers.", draw)
