"""The chart that a method is chosen by: success against what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reconverge.policy.reports.charts.style import COLORS, MARKS, Chart, label_powers

MEAN: Any = {  # hollow, as two methods may have the same
    "markersize": 7,
    "markeredgewidth": 1.5,
    "markerfacecolor": "none",
    "linestyle": "",
}
NOTHING = 1e-3  # MB: where a method stands that keeps nothing, on the logarithmic axis


@dataclass(frozen=True)
class Cost:
    """A run: its final success and what it took.

    `megabytes` of past tasks' data, generators, metrics and masks; None where all data was kept.
    """

    success: float
    megabytes: float | None
    cpu_seconds: float | None  # of training, over all threads; None where not recorded


def frontier(groups: Mapping[str, Sequence[Cost]]) -> Chart:
    """Two panels: final success against memory, and against processor seconds of training."""

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_figheight((6.4 if narrow else 3.4) + 0.2 * (len(groups) // (1 if narrow else 3)))
        memory, time = figure.subplots(2, 1) if narrow else figure.subplots(1, 2, sharey=True)
        for i, (name, costs) in enumerate(groups.items()):
            style: Any = {"color": COLORS[i % len(COLORS)], "marker": MARKS[i % len(MARKS)]}
            memory.plot([], [], label=name, **MEAN, **style)
            kept = [c for c in costs if c.megabytes is not None]
            _place(memory, [max(c.megabytes or 0.0, NOTHING) for c in kept], kept, **style)
            timed = [c for c in costs if c.cpu_seconds is not None]
            _place(time, [c.cpu_seconds or 0.0 for c in timed], timed, **style)
        costs = [cost for found in groups.values() for cost in found]
        if any(cost.megabytes is not None for cost in costs):
            _label_megabytes(memory)
        else:
            _say_nothing_recorded(memory)
        if all(cost.cpu_seconds is None for cost in costs):
            _say_nothing_recorded(time)
        memory.set(xlabel="MB kept of past tasks", ylabel="average success at the end (%)")
        time.set(xlabel="processor seconds of training")
        figure.legend(loc="outside upper left", ncols=1 if narrow else 3)

    said = ", ".join(
        f"{name} {100 * np.mean([c.success for c in costs]):.0f} %"
        for name, costs in groups.items()
    )
    return Chart("frontier", f"Final success against memory and against time: {said}.", draw)


def _label_megabytes(axes: Axes) -> None:
    axes.set_xscale("log")
    label_powers(axes.xaxis)
    low, high = axes.get_xlim()
    if low <= NOTHING:
        powers = [power for power in range(-2, 6) if 10.0**power < high]
        ticks = [NOTHING, *(10.0**power for power in powers)]
        axes.set_xticks(ticks, ["nothing", *(f"{tick:g}" for tick in ticks[1:])])
        axes.set_xticks([], minor=True)
    axes.set_xlim(low, high)


def _say_nothing_recorded(axes: Axes) -> None:
    axes.set_xticks([])
    axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)


def _place(axes: Axes, x: Sequence[float], costs: Sequence[Cost], **look: Any) -> None:
    """Mark every run faintly, and the mean of all."""
    if not x:
        return
    y = [100 * cost.success for cost in costs]
    axes.plot(x, y, alpha=0.35, markersize=4, linestyle="", **look)
    axes.plot(np.mean(x), np.mean(y), **MEAN, **look)
