"""Read what a run left behind; everything but summary.json may be missing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reconverge.errors import ReconvergeError
from reconverge.policy.images.sample_sheets import sheet_path
from reconverge.policy.runs.metrics import wilson
from reconverge.policy.runs.summary import ProbeCurve, Rates, Summary, read_summary
from reconverge.schema import parse_json, read_record, read_text


@dataclass(frozen=True)
class LoggedUpdate:
    """A line of metrics.jsonl; a term that the method does not have is 0."""

    task_index: int
    update: int
    loss: float
    distillation: float = 0.0
    replayed: float = 0.0
    penalty: float = 0.0
    trust_region: float = 0.0


@dataclass(frozen=True)
class GeneratorUpdate:
    """A line of metrics.jsonl about the replay generator."""

    task_index: int
    generator_update: int
    loss: float


@dataclass(frozen=True)
class Nearest:
    """Quantiles of the distances to the nearest real window."""

    quantile: list[float]
    real: list[float]
    generated: list[float]


@dataclass(frozen=True)
class Marginal:
    """Histograms of one entry; `distance` is the earth mover's, in half ranges."""

    name: str
    distance: float
    edges: list[float]
    real: list[float]
    generated: list[float]


@dataclass(frozen=True)
class ReplayQuality:
    """An entry of replay_quality.json, see `policy.reports.replay_quality`."""

    task: str
    windows: int
    ratio: float
    nearest: Nearest
    marginals: list[Marginal]


@dataclass(frozen=True)
class Run:
    """A finished run; `config` is the text of config.yaml."""

    path: Path
    summary: Summary
    updates: list[LoggedUpdate]
    generator_updates: list[GeneratorUpdate]
    config: str | None
    replay: list[ReplayQuality]
    videos: Mapping[str, Path]  # by task
    samples: Mapping[str, Path] = field(default_factory=dict)  # generated pictures, by task learned


class Point(NamedTuple):
    """A success rate and its 95 % interval, after `update` of the `updates` of the task `task`."""

    task: int
    update: int
    updates: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One task's success along a run.

    All points of `line` are of the first `line_episodes`: those that are probed, or all where there
    are no probes. `evaluations` are of all `episodes`.
    """

    line: list[Point]
    evaluations: list[Point]
    line_episodes: int
    episodes: int


def finished_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the paths of finished runs, as `runs/*` may hold more; say which are not finished.

    A file that ends in .json counts as a summary. ReconvergeError for a path that does not exist,
    and where no run is left.
    """
    for path in paths:
        if not path.exists():
            raise ReconvergeError(
                f"{path}: does not exist, so no summary.json; give folders of finished runs"
            )
    found = [path for path in paths if _holds_summary(path)]
    begun = [path for path in paths if path not in found and (path / "config.yaml").exists()]
    for path in begun:
        print(f"left out, not finished: {path}", file=sys.stderr)
    if not found:
        raise ReconvergeError(
            f"{', '.join(map(str, paths))}: no summary.json; give folders of finished runs, or "
            "summary.json files"
        )
    return found


def _holds_summary(path: Path) -> bool:
    return (path / "summary.json").exists() if path.is_dir() else path.suffix == ".json"


def read_run(path: Path) -> Run:
    """Read a run's folder, or what a summary.json alone says of one.

    ReconvergeError names a file that cannot be read.
    """
    summary = read_summary(path)
    if not path.is_dir():
        return Run(path, summary, [], [], None, [], {})
    updates, generator_updates = _read_metrics(path / "metrics.jsonl")
    config = path / "config.yaml"
    videos = {task: path / "videos" / f"{task}.mp4" for task in summary.tasks}
    samples = {task: sheet_path(path, i, task) for i, task in enumerate(summary.tasks)}
    return Run(
        path,
        summary,
        updates,
        generator_updates,
        config=read_text(config) if config.exists() else None,
        replay=_read_replay(path / "replay_quality.json"),
        videos={task: file for task, file in videos.items() if file.exists()},
        samples={task: file for task, file in samples.items() if file.exists()},
    )


def success_curves(
    tasks: Sequence[str],
    success: Rates,
    n_rollouts: int,
    probes: Sequence[ProbeCurve],
    updates_per_task: int,
) -> dict[str, Curve]:
    """Return every task's success along the run: evaluations after each task, probes in between.

    A run that went on with more updates took fewer for the tasks before: as many as the last probe.
    """
    last = {curve.while_learning: curve.updates[-1] for curve in probes}
    updates = [last.get(task, updates_per_task) for task in tasks]
    found = {}
    for k, task in enumerate(tasks):
        rates = {(i, updates[i]): row[k] for i, row in enumerate(success) if row[k] is not None}
        evaluations = _points(rates, updates, n_rollouts)
        own = [curve for curve in probes if curve.task == task]
        if own:
            n, probed = own[0].n_rollouts, {(k, updates[k]): own[0].just_learned}
            for curve in own:
                later = tasks.index(curve.while_learning)
                places = [(later, update) for update in curve.updates]
                probed |= dict(zip(places, curve.success, strict=True))
            found[task] = Curve(_points(probed, updates, n), evaluations, n, n_rollouts)
        elif evaluations:
            found[task] = Curve(evaluations, evaluations, n_rollouts, n_rollouts)
    return found


def _points(
    rates: Mapping[tuple[int, int], float | None], updates: Sequence[int], n: int
) -> list[Point]:
    """Return the points of rates of `n` episodes, by task and update, in their order."""
    known = sorted((place, rate) for place, rate in rates.items() if rate is not None)
    return [
        Point(task, update, updates[task], rate, *wilson(round(rate * n), n))
        for (task, update), rate in known
    ]


def _read_metrics(path: Path) -> tuple[list[LoggedUpdate], list[GeneratorUpdate]]:
    updates, generator_updates = [], []
    lines = read_text(path).splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        where = f"{path}: line {number}"
        value = parse_json(line, where)
        kind = value.get("kind") if isinstance(value, dict) else None
        if kind == "update":
            updates.append(read_record(LoggedUpdate, value, where, extra=True))
        elif kind == "generator":
            generator_updates.append(read_record(GeneratorUpdate, value, where, extra=True))
        elif kind not in ("probe", "evaluation"):
            raise ReconvergeError(f"{where}: kind must be update, generator, probe or evaluation")
    return updates, generator_updates


def _read_replay(path: Path) -> list[ReplayQuality]:
    if not path.exists():
        return []
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, list):
        raise ReconvergeError(f"{path}: must be a list, one entry a task; restore the file")
    tasks = [
        read_record(ReplayQuality, each, f"{path}: [{i}]", extra=True)
        for i, each in enumerate(value)
    ]
    for task in tasks:
        lengths = {len(task.nearest.quantile), len(task.nearest.real), len(task.nearest.generated)}
        edges = [len(m.edges) == len(m.real) + 1 == len(m.generated) + 1 for m in task.marginals]
        if len(lengths) > 1 or min(lengths) < 3 or not edges or not all(edges):
            raise ReconvergeError(
                f"{path}: lists of {task.task} differ in length; restore the file"
            )
    return tasks
