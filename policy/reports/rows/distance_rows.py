"""Rows of Frechet distances between generated and real pictures: of one run, of several."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from reconverge.policy.images.distances import Distances
from reconverge.policy.reports.rows.cells import INTERVALS, Cell, Table, change, mean_cell, number
from reconverge.policy.reports.rows.groups import Groups
from reconverge.policy.reports.rows.recovery import recovery_tables
from reconverge.policy.runs.summary import Summary

RECOVERY = (
    "Gradient updates of the new task until an earlier one's quality was back at a share of that "
    "just after it was learned; the quality is its Frechet distance then over that of a probe. 0: "
    "no probe found it below; > n: not within n."
)

WORDS = {"classifier": "the classifier", "inception": "Inception"}


def distances_of(summary: Summary) -> Distances | None:
    """Return the distances of a run; None where nothing is generated."""
    if summary.distances is None:
        return None
    return Distances.from_json(summary.distances, "summary.json")


def distance_tables(summary: Summary) -> list[Table]:
    """Return the distances after each task, then the recovery; none where nothing is generated."""
    found = distances_of(summary)
    if found is None:
        return []
    rows = [
        [Cell(f"{i + 1} {task}"), *map(_cell, row)]
        for i, (task, row) in enumerate(zip(summary.tasks, found.matrix, strict=True))
    ]
    caption = (
        f"Frechet distance in the features of {WORDS[found.features]} between {found.pictures} "
        "generated pictures and the test pictures of the task of each column, after learning the "
        f"task of each row. At the end {found.average:.2f} in the mean, "
        f"{change(found.forgetting.just_learned_all, 2)} since each task was learned."
    )
    matrix = Table(caption, ["after learning", *summary.tasks], rows, sortable=False)
    return [matrix, *(replace(t, caption=RECOVERY) for t in recovery_tables(found.recovery))]


def distances_by_method(groups: Groups) -> Table | None:
    """One row a method: mean distance at the end and its growth; None without distances."""
    rows, features = [], set()
    for name, runs in groups.items():
        found = [each for run in runs if (each := distances_of(run))]
        if not found:
            continue
        features |= {WORDS[each.features] for each in found}
        two = partial(number, decimals=2)
        average = mean_cell([each.average for each in found], 1.0, two, (0.0, np.inf))
        growth = mean_cell([each.forgetting.just_learned_all for each in found], 1.0, two)
        rows.append([Cell(name), Cell(str(len(found)), len(found)), average, growth])
    if not rows:
        return None
    caption = (
        f"Frechet distance in the features of {' and '.join(sorted(features))}: mean of all "
        "tasks after the last one, and how much it has grown since each was learned. Means over "
        f"seeds, with {INTERVALS}."
    )
    return Table(caption, ["method", "seeds", "distance", "growth"], rows)


def _cell(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{value:.2f}", value)
