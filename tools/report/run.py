"""What a run left behind, as the report reads it; everything but summary.json may be missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from yaml import YAMLError

from policy.metrics import wilson
from tools.compare import Summary, read


@dataclass(frozen=True)
class Run:
    """A finished run."""

    path: Path
    summary: Summary
    lines: list[dict[str, Any]]  # of metrics.jsonl
    config: str | None  # config.yaml
    replay: list[dict[str, Any]]  # replay_quality.json: one entry a task
    videos: Mapping[str, Path]  # by task


class Point(NamedTuple):
    """A success rate and its 95 % interval, after `update` updates of the whole run."""

    update: int
    rate: float
    low: float
    high: float


def read_run(path: Path) -> Run:
    """The run in a folder, or what a summary.json alone says of one; ValueError names a file that cannot be read."""
    summary = read(path)
    missing = [name for name in ("success", "average_success_ci95") if name not in summary]
    if missing:
        raise ValueError(f"{path}: its summary has no {missing[0]!r}; give the summary.json of a run")
    folder = path if path.is_dir() else None
    return Run(
        path=path,
        summary=summary,
        lines=_lines(folder / "metrics.jsonl") if folder else [],
        config=_text(folder / "config.yaml") if folder else None,
        replay=_replay(folder / "replay_quality.json") if folder else [],
        videos=_videos(folder / "videos", summary["tasks"]) if folder else {},
    )


def success_curves(run: Run) -> dict[str, list[Point]]:
    """Success of every task along the run: evaluations after each task, and recovery probes between them."""
    tasks, updates, n = (run.summary[name] for name in ("tasks", "updates_per_task", "n_rollouts"))
    curves: dict[str, list[Point]] = {}
    for j, task in enumerate(tasks):
        measured = [((i + 1) * updates, row[j]) for i, row in enumerate(run.summary["success"])]
        curves[task] = [_point(update, rate, n) for update, rate in measured if rate is not None]
    n_probe = _probe_rollouts(run) or n
    for line in run.lines:
        if line["kind"] == "probe" and line["update"] < updates:
            update = line["task_index"] * updates + line["update"]
            curves[line["evaluated"]].append(_point(update, line["success"], n_probe))
    return {task: sorted(points) for task, points in curves.items()}


def _point(update: int, rate: float, n: int) -> Point:
    return Point(update, rate, *wilson(round(rate * n), n))


def _probe_rollouts(run: Run) -> int | None:
    if run.config is None:
        return None
    try:
        return OmegaConf.select(OmegaConf.create(run.config), "evaluation.probe_rollouts")
    except YAMLError as error:
        raise ValueError(f"{run.path / 'config.yaml'}: cannot be read ({error}); restore it") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate((_text(path) or "").splitlines(), 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number} is no JSON ({error}); restore the file, or remove it") from error
    return found


def _replay(path: Path) -> list[dict[str, Any]]:
    text = _text(path)
    try:
        return [] if text is None else json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: is no JSON ({error}); restore the file, or remove it") from error


def _videos(folder: Path, tasks: list[str]) -> dict[str, Path]:
    files = {task: folder / f"{task}.mp4" for task in tasks}
    return {task: file for task, file in files.items() if file.exists()}


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
