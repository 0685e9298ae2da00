"""report.html: everything about a run, or several compared, on one page that needs no network."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
from jinja2 import Environment, PackageLoader, StrictUndefined

from reconverge.errors import ReconvergeError
from reconverge.files import write_text
from reconverge.policy.reports.charts import results as charts
from reconverge.policy.reports.charts import training_charts
from reconverge.policy.reports.charts.frontier import frontier
from reconverge.policy.reports.charts.style import heat_css, svg
from reconverge.policy.reports.rows import comparison
from reconverge.policy.reports.rows.distance_rows import distance_tables
from reconverge.policy.reports.rows.groups import at_once, group
from reconverge.policy.reports.rows.recovery import (
    first_task_returns,
    lowest_table,
    of_episodes,
    recovery_tables,
)
from reconverge.policy.reports.rows.run_rows import (
    evaluated,
    headlines,
    replay_distances,
    success_matrix,
    task_table,
)
from reconverge.policy.reports.run import Run, read_run, success_curves
from reconverge.policy.runs import metrics
from reconverge.policy.runs.summary import Summary

LAST_PICTURE = "-vf reverse -frames:v 1 -q:v 3 -c:v mjpeg -f image2pipe -"  # of the last second


@dataclass(frozen=True)
class Video:
    task: str
    source: str  # data URI
    poster: str  # data URI of its last frame


def write_report(paths: Sequence[Path], output: Path) -> None:
    """Write the page of one run, or of several, to `output`."""
    runs = [read_run(path) for path in paths]
    environment = Environment(
        loader=PackageLoader("reconverge.policy.reports"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.globals["heat_css"] = heat_css
    if len(runs) == 1:
        text = environment.get_template("run.html").render(_run_context(runs[0]))
    else:
        text = environment.get_template("comparison.html").render(_comparison_context(runs))
    write_text(output, text)


def _run_context(run: Run) -> dict[str, Any]:
    s, replay = run.summary, run.replay
    updates, n = s.updates_per_task, s.n_rollouts
    curves = success_curves(s.tasks, s.success, n, [*s.probes, *s.learning], updates)
    episodes = of_episodes(s)
    losses = training_charts.losses(run.updates, run.generator_updates, updates)
    return {
        "title": f"{s.method} on {_tasks(s.tasks)}",
        "name": run.path.resolve().name,
        "summary": s,
        "seconds": asdict(s.seconds),
        "headlines": headlines(s),
        "evaluated": evaluated(s),
        "at_once": at_once(s),
        "probe_episodes": episodes,
        "by_task": task_table(s),
        "matrix": success_matrix(s),
        "success": svg(charts.success(curves, len(s.tasks), updates)),
        "lowest": lowest_table(s.probes),
        "recovery": [] if at_once(s) else recovery_tables(s.recovery, episodes),
        "losses": svg(losses) if run.updates else None,
        "distances": replay_distances(replay) if replay else None,
        "nearest": svg(training_charts.nearest(replay)) if replay else None,
        "marginals": [(task.task, svg(training_charts.marginals(task))) for task in replay],
        "videos": [_video(task, path) for task, path in run.videos.items()],
        "samples": [(task, _uri("image/png", _read(path))) for task, path in run.samples.items()],
        "frechet": distance_tables(s),
        "config": run.config or json.dumps(s.options, indent=1),
    }


def _comparison_context(runs: Sequence[Run]) -> dict[str, Any]:
    names, summaries = _names(runs), [run.summary for run in runs]
    context: dict[str, Any] = {
        "title": f"{len(runs)} runs of {_tasks(summaries[0].tasks)}",
        "evaluated": "; ".join(dict.fromkeys(map(evaluated, summaries))),
        "runs": comparison.runs_table(summaries, names),
        "final": comparison.final_success(summaries, names),
        "differences": comparison.differing_options(summaries, names),
        "unlike": None,
    }
    try:
        groups = group(summaries)
    except ReconvergeError as reason:
        return context | {"unlike": str(reason)}
    tasks, updates = summaries[0].tasks, summaries[0].updates_per_task
    averages = {name: [_averages(run) for run in found] for name, found in groups.items()}
    returns = first_task_returns(groups)
    seeds = {name: len(found) for name, found in groups.items()}
    return context | {
        "tables": comparison.comparison_tables(groups),
        "averages": svg(charts.averages(averages, tasks)),
        "frontier": svg(frontier(comparison.costs(groups))),
        "recovery_chart": svg(charts.recovery(returns, tasks, updates, seeds)) if returns else None,
    }


def _tasks(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{len(names)} tasks"


def _names(runs: Sequence[Run]) -> list[str]:
    """Name runs by their folders or files, with the folder above where two have one name."""
    paths = [
        run.path.resolve().with_suffix("") if run.path.is_file() else run.path.resolve()
        for run in runs
    ]
    short = [path.name for path in paths]
    return (
        short
        if len(set(short)) == len(short)
        else [f"{path.parent.name}/{path.name}" for path in paths]
    )


def _averages(summary: Summary) -> list[float]:
    """Return the mean success of the tasks seen after each task."""
    R = metrics.success_matrix(summary.success)
    return [float(R[i, : i + 1].mean()) for i in range(len(R))]


def _video(task: str, path: Path) -> Video:
    source = ["-nostdin", "-sseof", "-1", "-i", f"file:{path}"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *source, *LAST_PICTURE.split()]
    last = subprocess.run(command, capture_output=True).stdout
    if not last:
        raise ReconvergeError(
            f"{path}: cannot be read as a video; film it again with tools.export_video"
        )
    return Video(task, _uri("video/mp4", path.read_bytes()), _uri("image/jpeg", last))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReconvergeError(f"{path}: cannot be read ({error}); delete it") from error


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
