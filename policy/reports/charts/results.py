"""Charts of success, of recovery and of paired differences."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reconverge.policy.reports.charts.style import (
    COLORS,
    HEAT,
    INK,
    MARKS,
    SMALL,
    TRANSITION,
    Chart,
    heat_colors,
)
from reconverge.policy.reports.rows.cells import mean_interval
from reconverge.policy.reports.run import Curve, Point
from reconverge.policy.runs.summary import Rates

NEVER, BACK = "^", "osDPX*p"  # marks of what did not come back, and of each method's that did
CHARACTER = 0.09  # inches: of a title, rather more than less
FEW = 5  # fewer tasks have room for their names
NOTE = (
    "with the penalty less without it (points); dots are seeds, diamonds their means with 95 % "
    "intervals (Student's t)"
)


def success(curves: Mapping[str, Curve], tasks: int, updates_per_task: int) -> Chart:
    """A panel a task learned so far: success in %, with its interval, along the run.

    A line joins rates of the same episodes; where those are the few that are probed, evaluations of
    all are hollow marks. The updates of each of `tasks` run on a logarithmic scale, as recovery
    does. All panels share the axis of success, which begins at 0 or, where every interval ends
    above 40 or 60 %, there.
    """
    points = [point for c in curves.values() for point in (*c.line, *c.evaluations)]
    lowest = 100 * min(point.low for point in points)
    floor = next((start for start in (60, 40) if lowest > start), 0)
    apart = any(c.line_episodes < c.episodes for c in curves.values())
    updates = [updates_per_task] * tasks
    for point in points:
        updates[point.task] = point.updates

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight(0.9 + (1.0 if tasks < FEW else 0.65) * len(curves))
        panels = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
        for i, (axes, (task, curve)) in enumerate(zip(panels, curves.items(), strict=True)):
            axes.axvspan(i, i + 1, color=INK, alpha=0.07, linewidth=0)
            for transition in range(i + 1, tasks):
                axes.axvline(transition, **TRANSITION)
            _draw_curve(axes, curve, apart)
            axes.set(ylim=(floor, 100 + 0.04 * (100 - floor)), xlim=(0, tasks))
            ticks = [floor, (floor + 100) / 2, 100]
            axes.set_yticks(ticks)
            axes.hlines(ticks[1:], i, tasks, color=INK, alpha=0.15, linewidth=0.8)
            axes.grid(visible=False)
            title = f"{i + 1} {task}" if i else f"1 {task}: success (%)"
            if CHARACTER * len(title) < figure.get_figwidth() * (1 - i / tasks):
                axes.set_title(title, x=i / tasks)
            else:  # it would run into the last rate
                axes.set_title(title, loc="right")
            axes.spines.left.set_position(("data", i))
            axes.get_yticklabels()[0].set_verticalalignment("bottom")
            axes.spines.bottom.set_bounds(i, tasks)
            axes.set_xticks([])  # but of the last: many tasks have many, which take long to place
        panels[-1].tick_params(axis="x", length=0)
        names = [f"learning {task}" for task in curves] if tasks < FEW else []
        _label_updates(panels[-1], names, updates, narrow)
        if apart:
            marks = {line.get_label(): line for axes in panels for line in axes.get_lines()}
            shown = {name: mark for name, mark in marks.items() if not name.startswith("_")}
            figure.legend(shown.values(), shown, loc="outside upper right", ncols=2)

    last = ", ".join(
        f"{task} {100 * curve.evaluations[-1].rate:.0f} %" for task, curve in curves.items()
    )
    alt = f"Success of every task against gradient updates. At the end: {last}."
    return Chart("success", alt, draw)


def _draw_curve(axes: Axes, curve: Curve, apart: bool) -> None:
    """Draw the line of a task and its band, what it ends at, and its evaluations, if `apart`."""
    probed = curve.line_episodes < curve.episodes
    x = [_position(point) for point in curve.line]
    rates, low, high = 100 * np.array(curve.line).T[3:]
    axes.fill_between(x, low, high, color="C0", alpha=0.2, linewidth=0)
    style: dict[str, Any] = {"color": "C0", "markersize": 3, "linewidth": 1.4, "clip_on": False}
    label = f"first {curve.line_episodes} episodes" if probed else None
    axes.plot(x, rates, "-" if apart and not probed else "o-", **style, label=label)
    ends = [_position(point) for point in curve.evaluations]
    rates, low, high = 100 * np.array(curve.evaluations).T[3:]
    if apart:
        style |= {"markersize": 6, "markerfacecolor": "none"}
        axes.plot(ends, rates, "D", **style, label=f"all {curve.episodes} episodes")
    axes.vlines(ends[-1], low[-1], high[-1], color="C0", alpha=0.5, clip_on=False)
    axes.annotate(
        f"{rates[-1]:.0f} %",
        (ends[-1], rates[-1]),
        xytext=(7, 0),
        textcoords="offset points",
        annotation_clip=False,
        va="center",
    )


def _position(point: Point) -> float:
    """Place a point of a run: one unit a task, and a logarithmic scale within it."""
    return point.task + _share(point.update, point.updates)


def _share(update: int, updates: int) -> float:
    return float(np.log1p(update) / np.log1p(updates))


def _label_updates(axes: Axes, names: Sequence[str], updates: Sequence[int], narrow: bool) -> None:
    """Label the axis of tasks, of which each was learned for its own number of updates."""
    tasks = len(updates)
    marks = {
        task + _share(10**power, own): f"{10**power:,}"
        for task, own in enumerate(updates)
        for power in range(1, 7)
        if 1.5 * 10**power < own
    }
    room = tasks < FEW and not narrow
    axes.set_xticks(list(marks), list(marks.values()) if room else [""] * len(marks), minor=True)
    axes.tick_params(axis="x", which="minor", labelsize=SMALL, length=2)
    axes.spines.bottom.set_bounds(0, tasks)
    labels = [*names, *(str(task + 1) for task in range(len(names), tasks))]
    axes.set_xticks(np.arange(tasks) + 0.5, labels)
    axes.tick_params(axis="x", pad=15 if room else 4)
    label = "gradient updates of each task, on a logarithmic scale"
    label = label if tasks < FEW else f"task being learned: {label}"
    axes.set_xlabel(textwrap.fill(label, 45) if narrow else label)


def matrix(tasks: Sequence[str], success: Rates) -> Chart:
    """The success matrix as a heat map."""
    rates = np.array(success, dtype=float)

    def draw(figure: Figure, narrow: bool) -> None:
        size = 1.7 + 0.48 * len(tasks)
        figure.set_size_inches(size + 0.9, size)
        axes = figure.subplots()
        axes.imshow(rates, vmin=0, vmax=1, cmap=HEAT)
        for i, j in zip(*np.nonzero(~np.isnan(rates)), strict=True):
            ink = heat_colors(rates[i, j])[1]
            axes.text(j, i, f"{100 * rates[i, j]:.0f}", ha="center", va="center", color=ink)
        axes.set_xticks(range(len(tasks)), tasks)
        if len(tasks) >= FEW:
            axes.tick_params(axis="x", rotation=90)
        axes.set_yticks(range(len(tasks)), tasks)
        axes.set(xlabel="evaluated", ylabel="after learning", title="success (%)")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return Chart("matrix", "Success of every task after each task was learned.", draw)


def averages(groups: Mapping[str, Sequence[Sequence[float]]], tasks: Sequence[str]) -> Chart:
    """Mean success of the tasks seen after each task: a line a method, its runs thin."""
    lines = {name: 100 * np.array(runs) for name, runs in groups.items()}
    x = np.arange(1, len(tasks) + 1)

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight(3.2 + 0.2 * len(lines))
        axes = figure.subplots()
        for i, (name, values) in enumerate(lines.items()):
            color, mean = COLORS[i % len(COLORS)], values.mean(axis=0)
            axes.plot(x, values.T, color=color, linewidth=0.7, alpha=0.5)
            mark = MARKS[i % len(MARKS)]
            axes.plot(x, mean, mark + "-", color=color, markersize=4, linewidth=1.8, label=name)
        labels = [f"{i} {task}" for i, task in zip(x, tasks, strict=True)]
        axes.set_xticks(x, labels, rotation=40, ha="right")
        low = max(0, 20 * np.floor((min(values.min() for values in lines.values()) - 5) / 20))
        axes.set(ylim=(low, 102), ylabel="mean success (%)", xlabel="after learning")
        figure.legend(loc="outside upper left")

    said = ", ".join(f"{name} {values.mean(axis=0)[-1]:.0f} %" for name, values in lines.items())
    alt = f"Mean success of the tasks seen after each task; at the end: {said}."
    return Chart("averages", alt, draw)


def recovery(
    returns: Mapping[str, Sequence[Sequence[int | None]]],
    tasks: Sequence[str],
    updates_per_task: int,
    seeds: Mapping[str, int],
) -> Chart:
    """Updates until the first task was back at 90 % at every transition: a mark a run, a bar at
    their median, of two middle ones the upper; triangles where it never came back.

    `seeds` counts every method's runs, also those that were not probed.
    After figure 2(b) of Wang et al. 2026, arXiv 2602.02417.
    """
    never = 2.5 * updates_per_task

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight(3.6 + 0.2 * len(returns))
        axes = figure.subplots()
        width = 0.8 / len(returns)
        for i, (name, transitions) in enumerate(returns.items()):
            color, center = COLORS[i % len(COLORS)], (i + 0.5) * width - 0.4
            own = BACK[i % len(BACK)]
            label = f"{name} ({_seeds(transitions, seeds[name])})"
            axes.plot([], [], own, color=color, markersize=5, label=label)
            for x, found in zip(np.arange(len(transitions)) + center, transitions, strict=True):
                heights = sorted(never if value is None else value for value in found)
                spread = width * 0.2 * (np.arange(len(heights)) - (len(heights) - 1) / 2)
                for shift, height in zip(spread, heights, strict=True):
                    mark = NEVER if height == never else own
                    axes.plot(x + shift, height, mark, color=color, alpha=0.75, markersize=5)
                if heights:
                    ends = (x - 0.42 * width, x + 0.42 * width)
                    axes.hlines(heights[len(heights) // 2], *ends, color=color, linewidth=2)
        for transition in range(1, len(tasks) - 1):
            axes.axvline(transition - 0.5, color=INK, alpha=0.15, linewidth=0.8)
        axes.axhline(updates_per_task, **TRANSITION)
        axes.set_xticks(range(len(tasks) - 1), tasks[1:], rotation=30, ha="right")
        axes.tick_params(axis="x", length=0)
        axes.set_yscale("symlog", linthresh=2, linscale=0.5)
        decades = [10**power for power in range(1, 7) if 10**power < 0.5 * updates_per_task]
        labels = ["0", *(f"{update:,}" for update in decades), f"{updates_per_task:,}", "not back"]
        axes.set_yticks([0, *decades, updates_per_task, never], labels)
        axes.set_yticks([], minor=True)
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="while learning", ylabel=f"updates until {tasks[0]} was back at 90 %")
        axes.set(ylim=(-0.5, 1.7 * never), xlim=(-0.5, len(tasks) - 1.5))
        figure.legend(loc="outside upper left", ncols=1 if narrow else 3)

    alt = f"Updates until {tasks[0]} was back at 90 %; the table has the numbers."
    return Chart("recovery", alt, draw)


def _seeds(transitions: Sequence[Sequence[int | None]], runs: int) -> str:
    """Say how many of a method's `runs` have marks."""
    probed = max(len(found) for found in transitions)
    if probed < runs:
        return f"{probed} of {runs} seeds"
    return "1 seed" if probed == 1 else f"{probed} seeds"


def differences(
    measures: Mapping[str, Mapping[tuple[str, str], np.ndarray]], better: Mapping[str, str]
) -> Chart:
    """A panel a measure: the paired differences of every setting and penalty in points, a dot a
    seed, the mean and its interval.

    `better` names the direction in which the penalty is better, "more" or "less".
    """
    names = list(next(iter(measures.values())))
    lines: list[tuple[str, str]] = []  # a heading for every setting, then its penalties
    for setting, penalty in names:
        lines += (
            [(setting, penalty)] if (setting, "") in lines else [(setting, ""), (setting, penalty)]
        )
    labels = [textwrap.fill(penalty or setting, 48) for setting, penalty in lines]

    def draw(figure: Figure, narrow: bool) -> None:
        height = 1.2 + 0.17 * sum(1 + label.count("\n") for label in labels) + 0.05 * len(labels)
        figure.set_size_inches(3.0 + 1.9 * len(measures), height)
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axes, (measure, found) in zip(panels, measures.items(), strict=True):
            for name, points in found.items():
                y = lines.index(name)
                axes.plot(points, [y] * len(points), "o", color="C0", alpha=0.4, markersize=4)
                axes.plot(points.mean(), y, "D", color="C1", markersize=5)
                if (interval := mean_interval(points)) is not None:
                    axes.plot(interval, [y, y], color="C1", linewidth=1.6)
            axes.axvline(0, color=INK, alpha=0.6, linewidth=0.8)
            good = "better →" if better[measure] == "more" else "← better"
            axes.set_title(f"{measure}\n{good}", loc="center")
            axes.tick_params(axis="y", length=0)
            axes.margins(x=0.12)
            axes.locator_params(axis="x", nbins=5, integer=True)
            for y, (_, penalty) in enumerate(lines):
                if not penalty and y:
                    axes.axhline(y - 0.5, color=INK, alpha=0.15, linewidth=0.8)
            axes.grid(visible=False, axis="y")
        panels[0].set_yticks(range(len(lines)), labels, fontsize=SMALL)
        for text, (_, penalty) in zip(panels[0].get_yticklabels(), lines, strict=True):
            text.set_fontweight("normal" if penalty else "bold")
        panels[0].set_ylim(len(lines) - 0.5, -0.5)
        figure.supxlabel(NOTE)

    return Chart("differences", "Paired differences of every setting; the table has them.", draw)
