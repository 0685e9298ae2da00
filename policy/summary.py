"""From what a run measured to its summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from policy import metrics
from policy.training import Progress


def rate(successes: Sequence[bool]) -> float:
    return sum(successes) / len(successes)


def success_rows(progress: Progress, tasks: int) -> list[list[float | None]]:
    """Success rates [K][K], row i after learning task i; None where not measured."""
    rows: list[list[float | None]] = [[None] * tasks for _ in range(tasks)]
    for i, row in enumerate(progress.successes):
        rows[i][: len(row)] = [rate(successes) for successes in row]
    return rows


def probes_of(progress: Progress, task: int, while_learning: int) -> list[dict[str, Any]]:
    """The probes of `task` along the learning of a later one."""
    return [p for p in progress.probes if (p["task"], p["while_learning"]) == (task, while_learning)]


def recovery_table(progress: Progress, names: Sequence[str]) -> list[dict[str, Any]]:
    """Updates until each earlier task was back at 99, 90 and 80 % of its success just after it was learned."""
    table = []
    for curve in probe_curves(progress, names):
        for entry in metrics.recovery(curve["updates"], curve["success"], curve["just_learned"]):
            row = {"task": curve["task"], "while_learning": curve["while_learning"], "target": entry.target}
            found = {name: getattr(entry, name) for name in ("updates", "censored_at", "first_reached")}
            table.append({**row, **found})
    return table


def probe_curves(progress: Progress, names: Sequence[str]) -> list[dict[str, Any]]:
    """The probes themselves: an earlier task's success against the updates on a later one, on the same episodes.

    `just_learned` is its success on them when it had just been learned, the same seeds on both sides of a ratio.
    """
    curves = []
    for later in range(1, len(names)):
        for task in range(later):
            probes = probes_of(progress, task, later)
            if probes:
                n = len(probes[0]["successes"])
                curves.append(
                    {
                        "task": names[task],
                        "while_learning": names[later],
                        "n_rollouts": n,
                        "just_learned": rate(progress.successes[task][task][:n]),
                        "updates": [p["update"] for p in probes],
                        "success": [rate(p["successes"]) for p in probes],
                    }
                )
    return curves


def summarize(progress: Progress, names: Sequence[str]) -> dict[str, Any]:
    """The measured part of summary.json; METHOD names as in `policy.metrics`."""
    rows = success_rows(progress, len(names))
    matrix = metrics.success_matrix(rows)
    n_rollouts = len(progress.successes[0][0]) if progress.successes else 0
    complete = len(progress.successes) == len(names)
    interval = metrics.average_success_interval(matrix, n_rollouts) if complete else None
    return {
        "tasks": list(names),
        "n_rollouts": n_rollouts,
        "success": rows,
        "success_ci95": [
            [list(metrics.wilson(sum(s), len(s))) for s in row] + [None] * (len(names) - len(row))
            for row in progress.successes
        ],
        "average_success": metrics.average_success(matrix),
        "average_success_ci95": None if interval is None else list(interval),
        "forgetting": {
            "just_learned_all": metrics.just_learned_all(matrix),
            "just_learned_without_last": metrics.just_learned_without_last(matrix),
            "max_without_last": metrics.max_without_last(matrix) if len(names) > 1 else None,
        },
        "backward_transfer": metrics.backward_transfer(matrix),
        "diverged_rollouts": progress.diverged,
        "recovery": recovery_table(progress, names),
        "probes": probe_curves(progress, names),
    }


def updates_text(entry: dict[str, Any], measure: str = "updates") -> str:
    """An entry of the recovery table: its number of updates, or that they were not enough."""
    if entry[measure] is not None:
        return str(entry[measure])
    return "-" if entry["censored_at"] is None else f"> {entry['censored_at']}"


def percent(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{100 * value:.0f}"
