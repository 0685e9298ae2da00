"""Rows of results, and the one wording of their numbers; `render` and the page draw them.

Rates are shown in %, differences of rates in points, intervals as "80 (49 to 94)".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reconverge.policy.runs.metrics import student, wilson

PERCENT, UNBOUNDED = (0.0, 100.0), (-np.inf, np.inf)  # spans of what is shown


@dataclass(frozen=True)
class Cell:
    """What is shown, and the number that its column is sorted by and coloured from."""

    text: str
    value: float | int | None = None


@dataclass(frozen=True)
class Table:
    """Rows under a caption; the first cell of a row is its heading."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = True
    heat: bool = False  # values are success rates, shown as small coloured cells


def number(value: float) -> str:
    """Write one decimal, and no minus before zero."""
    return f"{round(value, 1) + 0.0:.1f}"


def with_interval(value: str, low: str, high: str) -> str:
    return f"{value} ({low} to {high})"


def rate_cell(rate: float | None, n: int | None = None) -> Cell:
    """Show a success rate in %, with Wilson's 95 % interval where it is of `n` rollouts."""
    if rate is None:
        return Cell("")
    text = f"{100 * rate:.0f}"
    if n is not None:
        low, high = wilson(round(rate * n), n)
        text = with_interval(text, f"{100 * low:.0f}", f"{100 * high:.0f}")
    return Cell(text, rate)


def mean_interval(points: np.ndarray) -> tuple[float, float] | None:
    """Return Student's 95 % interval of a mean over seeds; None for one seed."""
    return student(points) if len(points) > 1 else None


def mean_cell(
    values: Sequence[float | None],
    scale: float = 100.0,
    write: Callable[[float], str] = number,
    span: tuple[float, float] = UNBOUNDED,
) -> Cell:
    """Show the mean over seeds, times a scale, with its interval; of fractions, as percent.

    The interval is cut to the `span` of what there can be. Seeds that have none are left out, and
    told.
    """
    points = scale * np.array([value for value in values if value is not None])
    if not len(points):
        return Cell("")
    interval = mean_interval(points)
    mean = write(points.mean())
    text = mean
    if interval is not None:
        text = with_interval(mean, *(write(float(np.clip(end, *span))) for end in interval))
    if len(points) < len(values):
        text += f", {len(points)} of {len(values)} seeds"
    return Cell(text, float(points.mean()))
