"""Rows of results, and the one wording of their numbers; `render` and the page draw them.

Rates are shown in %, differences of rates in points, intervals as "80 (49 to 94)".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reconverge.policy.runs.metrics import student, wilson

PERCENT, POINTS, UNBOUNDED = (0.0, 100.0), (-100.0, 100.0), (-np.inf, np.inf)
"""Spans of what is shown."""
ALIKE = 1e-9  # differences below it are of rounding
INTERVALS = "95 % intervals (Student's t, cut to what there can be)"


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


def number(value: float, decimals: int = 1) -> str:
    """Write so many decimals, and no minus before zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def change(value: float, decimals: int) -> str:
    """Write a change with its sign; 0 has none."""
    rounded = round(value, decimals)
    return f"{rounded:+.{decimals}f}" if rounded else "0"


def decimals_of(n: int | None) -> int:
    """Return the decimals of a rate in %: one where one of `n` rollouts is less than 1 %."""
    return 1 if n is not None and n > 100 else 0


def with_interval(value: str, low: str, high: str) -> str:
    return f"{value} ({low} to {high})"


def rate_cell(rate: float | None, n: int | None = None) -> Cell:
    """Show a rate in %, as finely as `n` rollouts tell it."""
    return Cell("") if rate is None else Cell(number(100 * rate, decimals_of(n)), rate)


def interval_cell(rate: float | None, n: int) -> Cell:
    """Show a success rate of `n` rollouts in %, with Wilson's 95 % interval."""
    if rate is None:
        return Cell("")
    shown = (rate, *wilson(round(rate * n), n))
    return Cell(with_interval(*(number(100 * each, decimals_of(n)) for each in shown)), rate)


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

    The interval is cut to the `span` of what there can be, which is at least what there was; there
    is none where all seeds are alike. Seeds that have no value are left out, and told.
    """
    points = scale * np.array([value for value in values if value is not None])
    if not len(points):
        return Cell("")
    interval = mean_interval(points)
    text = write(points.mean())
    if interval is not None and np.ptp(points) < ALIKE:
        text = f"{text} (all alike)"
    elif interval is not None:
        low, high = min(span[0], points.min()), max(span[1], points.max())
        text = with_interval(text, *(write(float(np.clip(end, low, high))) for end in interval))
    if len(points) < len(values):
        text += f", {len(points)} of {len(values)} seeds"
    return Cell(text, float(points.mean()))
