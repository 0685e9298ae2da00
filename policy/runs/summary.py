"""summary.json: what a run is and what it measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.loop import Probe, Progress
from reconverge.policy.runs import metrics
from reconverge.schema import parse_json, read_record, read_text
from reconverge.seal import check_signed

Rates = list[list[float | None]]
"""Success rates [K][K] of task j (column) after learning task i (row); None where not measured."""


@dataclass(frozen=True)
class Forgetting:
    """The three definitions of `policy.runs.metrics`; two of them need an earlier task."""

    just_learned_all: float
    just_learned_without_last: float | None
    max_without_last: float | None


@dataclass(frozen=True)
class TaskRecovery:
    """`metrics.Recovery` of an earlier task while a later one was learned.

    In a summary without `probes`, `first_reached` is not known.
    """

    task: str
    while_learning: str
    target: float
    updates: int | None
    censored_at: int | None
    first_reached: int | None


@dataclass(frozen=True)
class ProbeCurve:
    """An earlier task's success against the updates on a later one, on the same episodes.

    `just_learned` is its success on these episodes when it had just been learned. Among `learning`
    both names are of the task that was learned.
    """

    task: str
    while_learning: str
    n_rollouts: int
    just_learned: float
    updates: list[int]
    success: list[float]


@dataclass(frozen=True)
class LowestShare:
    """An earlier task's lowest probe while a later one was learned.

    `share` is that success over the best that was measured of the task before, on the same
    episodes: just after it was learned, or by a probe of an earlier transition.
    """

    task: str
    while_learning: str
    update: int
    success: float
    share: float


@dataclass(frozen=True)
class Libero:
    """LIBERO's metrics; FWT and AUC need probes of the current task, NBT an earlier task."""

    fwt: float | None
    nbt: float | None
    auc: float | None


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds of a run; `training_cpu` are processor seconds over all threads."""

    demonstrations: float
    training: float
    evaluation: float
    total: float
    training_cpu: float | None


OF_SOME_RUNS = ("judge", "distances", "boundaries")
"""Fields of runs that learn to generate pictures, and of those that are told no boundaries."""


@dataclass(frozen=True)
class Summary:
    """A finished run; rates are 0 to 1."""

    method: str
    replay: str
    fisher: str
    network: str
    seed: int
    updates_per_task: int
    evaluation_seeds: str
    options: dict[str, Any]
    parameters: int
    command: str
    versions: dict[str, str | None]
    hardware: dict[str, Any]
    tasks: list[str]
    n_rollouts: int
    success: Rates
    success_ci95: list[list[list[float] | None]]
    average_success: float
    average_success_ci95: list[float]
    forgetting: Forgetting
    backward_transfer: float | None
    diverged_rollouts: int
    recovery: list[TaskRecovery]
    probes: list[ProbeCurve]
    seconds: Seconds
    peak_memory_mib: int
    # Files of before have none of these:
    lowest_share: LowestShare | None = None  # of all transitions
    learning: list[ProbeCurve] = field(default_factory=list)  # of the task being learned
    libero: Libero | None = None
    memory_bytes: int | None = None  # kept of past tasks; None where a reference keeps all data
    demonstrations: dict[str, Any] = field(default_factory=dict)  # `identity` by task
    changes: list[dict[str, Any]] = field(default_factory=list)  # options, from which update on
    judge: dict[str, Any] = field(default_factory=dict)  # of generated pictures
    distances: dict[str, Any] | None = None  # `policy.images.distances.Distances`
    boundaries: list[list[int]] | None = None  # noticed: task and update; None where they are told

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; without what runs of its kind have not."""
        record = asdict(self)
        missing = [name for name in OF_SOME_RUNS if record[name] in (None, {})]
        return {name: record[name] for name in record if name not in missing}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Summary:
        """Read parsed JSON; ReconvergeError names the file `where` and the field that is wrong."""
        summary = read_record(cls, value, where, extra=True)
        K = len(summary.tasks)
        if not K or [len(row) for row in summary.success] != [K] * K:
            raise ReconvergeError(f"{where}: success must have {K} rows of {K}, one a task")
        if min(summary.updates_per_task, summary.n_rollouts) < 1:
            raise ReconvergeError(f"{where}: updates_per_task and n_rollouts must be at least 1")
        if len(summary.average_success_ci95) != 2:
            raise ReconvergeError(f"{where}: average_success_ci95 must be two numbers")
        for name in summary.tasks:
            if {"/", "\\", "\0"} & {*name}:
                raise ReconvergeError(f"{where}: tasks: {name!r:.80} is no name; restore it")
        curves = [*summary.probes, *summary.learning]
        for curve in curves:
            if (
                len(curve.updates) != len(curve.success)
                or not curve.updates
                or curve.n_rollouts < 1
            ):
                raise ReconvergeError(f"{where}: probes need a success of rollouts for each update")
        for found in summary.boundaries or []:
            if len(found) != 2 or not 0 <= found[0] < K:
                raise ReconvergeError(
                    f"{where}: boundaries holds {found}: must be a task, 0 to {K - 1}, and an "
                    "update; restore it"
                )
        if any(rate is None for i, row in enumerate(summary.success) for rate in row[: i + 1]):
            raise ReconvergeError(f"{where}: success lacks a task already learned")
        rates = {
            "average_success": [summary.average_success, *summary.average_success_ci95],
            "success": [rate for row in summary.success for rate in row if rate is not None],
            "probes": [r for curve in curves for r in (*curve.success, curve.just_learned)],
        }
        for name, values in rates.items():
            if wrong := [rate for rate in values if not 0 <= rate <= 1]:
                raise ReconvergeError(f"{where}: {name} holds {wrong[0]}: must be 0 to 1")
        if any(number != number for number in _numbers(asdict(summary))):
            raise ReconvergeError(f"{where}: holds NaN, which is no number; restore it")
        pairs = [(entry.task, entry.while_learning) for entry in summary.recovery]
        for pair in pairs + [(curve.task, curve.while_learning) for curve in curves]:
            if not set(pair) <= set(summary.tasks):
                raise ReconvergeError(
                    f"{where}: {' while learning '.join(pair)} is not of its tasks "
                    f"{', '.join(summary.tasks)}"
                )
        return summary


def _numbers(value: Any) -> Iterator[float]:
    """Yield every number in lists and maps."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)


def read_summary(path: Path) -> Summary:
    """Read the summary of a finished run, from its folder or from the file itself."""
    file = path / "summary.json" if path.is_dir() else path
    if not file.exists():
        raise ReconvergeError(
            f"{path}: no summary.json; give folders of finished runs, or summary.json files"
        )
    value = parse_json(read_text(file), str(file))
    check_signed(value, str(file))
    return Summary.from_json(value, str(file))


def summarize(progress: Progress, names: Sequence[str]) -> dict[str, Any]:
    """Return the measured part of summary.json."""
    rows = success_rows(progress, len(names))
    matrix = metrics.success_matrix(rows)
    n_rollouts = len(progress.successes[0][0]) if progress.successes else 0
    curves, learning = probe_curves(progress, names), learning_curves(progress, names)
    areas = learning_areas(learning, names)
    lowest = min(lowest_shares(curves), key=lambda found: found.share, default=None)
    interval = metrics.average_success_interval(matrix, n_rollouts)
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
            "max_without_last": metrics.max_without_last(matrix),
        },
        "backward_transfer": metrics.backward_transfer(matrix),
        "diverged_rollouts": progress.diverged,
        "recovery": [asdict(entry) for entry in recovery_table(curves)],
        "probes": [asdict(curve) for curve in curves],
        "lowest_share": None if lowest is None else asdict(lowest),
        "learning": [asdict(curve) for curve in learning],
        "libero": {
            "fwt": metrics.fwt(areas),
            "nbt": metrics.nbt(matrix),
            "auc": metrics.auc(matrix, areas),
        },
    }


def rate(successes: Sequence[bool]) -> float:
    """Return the share of successes."""
    return sum(successes) / len(successes)


def success_rows(progress: Progress, tasks: int) -> Rates:
    """Return the success rates of what was evaluated."""
    rows: Rates = [[None] * tasks for _ in range(tasks)]
    for i, row in enumerate(progress.successes):
        rows[i][: len(row)] = [rate(successes) for successes in row]
    return rows


def recovery_table(curves: Sequence[ProbeCurve]) -> list[TaskRecovery]:
    """Return when each earlier task was back at `metrics.FRACTIONS` of its success just after it
    was learned, at every transition that was probed.
    """
    return [
        TaskRecovery(curve.task, curve.while_learning, **asdict(entry))
        for curve in curves
        for entry in metrics.recovery(curve.updates, curve.success, curve.just_learned)
    ]


def lowest_shares(curves: Sequence[ProbeCurve]) -> list[LowestShare]:
    """Return the lowest probe of every curve, as a share of the task's best success before it.

    `curves` are in the order of `probe_curves`. A task that was never seen to succeed has none.
    """
    best: dict[str, float] = {}
    found = []
    for curve in curves:
        task, later, lowest = curve.task, curve.while_learning, min(curve.success)
        before = max(curve.just_learned, best.get(task, 0.0))
        best[task] = max(before, *curve.success)
        if before > 0:
            update = curve.updates[curve.success.index(lowest)]
            found.append(LowestShare(task, later, update, lowest, lowest / before))
    return found


def learning_areas(curves: Sequence[ProbeCurve], names: Sequence[str]) -> list[float | None]:
    """Return `metrics.learning_area` of every task; None where it was not probed."""
    found = {curve.task: metrics.learning_area(curve.updates, curve.success) for curve in curves}
    return [found.get(name) for name in names]


def probe_curves(progress: Progress, names: Sequence[str]) -> list[ProbeCurve]:
    """Return the curves of earlier tasks, by the task being learned, then the earlier task."""
    return _curves(progress, names, [(i, k) for k in range(len(names)) for i in range(k)])


def learning_curves(progress: Progress, names: Sequence[str]) -> list[ProbeCurve]:
    """Return the curve of every task that was probed while it was learned itself."""
    return _curves(progress, names, [(k, k) for k in range(len(names))])


def _curves(
    progress: Progress, names: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> list[ProbeCurve]:
    """Return the curve of each pair of a task and the one being learned that was probed."""
    probes: dict[tuple[int, int], list[Probe]] = {}
    for probe in progress.probes:
        probes.setdefault((probe.task, probe.while_learning), []).append(probe)
    return [_curve(progress, names, probes[pair]) for pair in pairs if pair in probes]


def _curve(progress: Progress, names: Sequence[str], probes: Sequence[Probe]) -> ProbeCurve:
    """Return the curve of the probes of one task while one other, or itself, was learned."""
    task, n = probes[0].task, len(probes[0].successes)
    return ProbeCurve(
        task=names[task],
        while_learning=names[probes[0].while_learning],
        n_rollouts=n,
        just_learned=rate(progress.successes[task][task][:n]),
        updates=[probe.update for probe in probes],
        success=[rate(probe.successes) for probe in probes],
    )
