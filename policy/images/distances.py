"""The Frechet distances of a run in summary.json: after each task, forgetting, recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reconverge.policy.continual.loop import Distance, Progress
from reconverge.policy.runs import metrics
from reconverge.policy.runs.configuration import EvaluationOptions
from reconverge.policy.runs.summary import Forgetting, Rates, TaskRecovery
from reconverge.schema import read_record


@dataclass(frozen=True)
class DistanceCurve:
    """An earlier task's distance against the updates on a later one, from the same noise."""

    task: str
    while_learning: str
    just_learned: float
    updates: list[int]
    distance: list[float]


@dataclass(frozen=True)
class Distances:
    """Distances to the test pictures, in features of the name; a distance is better if small.

    `matrix` [K][K] is of task j (column) after learning task i (row), from `pictures` generated
    ones; those of probes and of `just_learned` among them are from fewer, and larger. Forgetting is
    how much they grow. Recovery is that of the quality, which is 1 when a task has just been
    learned and falls as the distance grows: that distance over the present one.
    """

    features: str
    pictures: int
    matrix: Rates
    average: float  # of all tasks, after the last one
    forgetting: Forgetting
    probes: list[DistanceCurve]
    recovery: list[TaskRecovery]

    @classmethod
    def from_json(cls, value: Any, where: str) -> Distances:
        """Read what `asdict` gave; ReconvergeError names the file `where` and the field."""
        return read_record(cls, value, f"{where}: distances")


def summarize_distances(
    progress: Progress, names: Sequence[str], features: str, options: EvaluationOptions
) -> dict[str, Any] | None:
    """Return the distances of a finished run as JSON; None of too few pictures for any."""
    after = _last(progress.distances, options.n_rollouts)
    if not after:
        return None
    tasks = range(len(names))
    matrix: Rates = [[after.get((i, j)) for j in tasks] for i in tasks]
    D = -metrics.success_matrix(matrix)  # so that more is better, as of a success
    average, all_tasks = metrics.average_success(D), metrics.just_learned_all(D)
    assert average is not None
    assert all_tasks is not None
    forgetting = Forgetting(
        all_tasks, metrics.just_learned_without_last(D), metrics.max_without_last(D)
    )
    curves = _curves(progress.distances, names, options)
    n, recovery = options.n_rollouts, _recovery(curves)
    return asdict(Distances(features, n, matrix, -average, forgetting, curves, recovery))


def _last(distances: Sequence[Distance], samples: int) -> dict[tuple[int, int], float]:
    """Return the last distance of every task while each was learned."""
    return {(d.while_learning, d.task): d.value for d in distances if d.samples == samples}


def _curves(
    distances: Sequence[Distance], names: Sequence[str], options: EvaluationOptions
) -> list[DistanceCurve]:
    """Return the curves of what was probed, by the task being learned, then the earlier task."""
    samples = options.probe_rollouts
    just_learned, found = _last(distances, samples), []
    for pair in sorted(just_learned):
        later, task = pair
        if task not in options.probing.earlier(later):
            continue
        points = {
            d.update: d.value
            for d in distances
            if (d.while_learning, d.task, d.samples) == (*pair, samples)
        }
        start = just_learned[task, task]
        curve = DistanceCurve(names[task], names[later], start, [*points], [*points.values()])
        found.append(curve)
    return found


def _recovery(curves: Sequence[DistanceCurve]) -> list[TaskRecovery]:
    """Return when each earlier task's quality was back at each of `metrics.FRACTIONS`."""
    return [
        TaskRecovery(curve.task, curve.while_learning, **asdict(entry))
        for curve in curves
        for entry in metrics.recovery(
            curve.updates, [curve.just_learned / max(d, 1e-12) for d in curve.distance], 1.0
        )
    ]
