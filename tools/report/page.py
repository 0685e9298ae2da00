"""report.html: everything about a run, or several compared, on one page that needs no network."""

from __future__ import annotations

import base64
import io
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from policy.files import write_text
from policy.metrics import success_matrix
from tools import compare
from tools.report import charts, tables
from tools.report.run import Run, read_run, success_curves


@dataclass(frozen=True)
class Video:
    task: str
    source: str  # data URI
    poster: str  # data URI of its last frame


def write_report(paths: Sequence[Path], output: Path) -> None:
    """Write the page of one run, or of several, to `output`, whole or not at all; ValueError for unreadable runs."""
    runs = [read_run(path) for path in paths]
    environment = Environment(loader=PackageLoader("tools.report"), autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"indent": 1}
    if len(runs) == 1:
        text = environment.get_template("run.html").render(_run_context(runs[0]))
    else:
        text = environment.get_template("comparison.html").render(_comparison_context(runs))
    write_text(output, text)


def _run_context(run: Run) -> dict[str, Any]:
    s, lines = run.summary, run.lines
    names, updates = s["tasks"], s["updates_per_task"]
    learned = any(line["kind"] == "update" for line in lines)
    return {
        "title": f"{s['method']} on {_tasks(names)}",
        "name": run.path.resolve().name,
        "summary": s,
        "headlines": tables.headlines(s),
        "by_task": tables.success_by_task(s),
        "matrix": tables.matrix(s),
        "success": charts.success(success_curves(run), updates),
        "probed": any(line["kind"] == "probe" for line in lines),
        "recovery": tables.recovery(s) if s["recovery"] else None,
        "losses": charts.losses(lines, updates) if learned else None,
        "distances": tables.replay_distances(run) if run.replay else None,
        "nearest": charts.nearest(run.replay) if run.replay else None,
        "marginals": [(entry["task"], charts.marginals(entry)) for entry in run.replay],
        "videos": [_video(task, path) for task, path in run.videos.items()],
        "config": run.config or json.dumps(s.get("options", {}), indent=1),
    }


def _comparison_context(runs: Sequence[Run]) -> dict[str, Any]:
    names = _names(runs)
    context: dict[str, Any] = {
        "title": f"{len(runs)} runs of {_tasks(runs[0].summary['tasks'])}",
        "runs": tables.runs_table(runs, names),
        "final": tables.final_success(runs, names),
        "differences": _differences(runs, names),
        "unlike": None,
    }
    try:
        groups = compare.group([run.summary for run in runs])
    except ValueError as reason:
        return context | {"unlike": str(reason)}
    tasks, updates = (runs[0].summary[name] for name in ("tasks", "updates_per_task"))
    reference = compare.find_reference(groups)
    pairs = compare.paired_table(groups, reference)
    recovered = compare.recovery_table(groups)
    averages = {name: [_averages(summary) for summary in found] for name, found in groups.items()}
    return context | {
        "means": tables.plain(compare.HEADINGS["success"], compare.success_table(groups)),
        "paired": tables.plain(compare.HEADINGS["paired"].format(reference=reference), pairs) if pairs else None,
        "averages": charts.averages(averages, tasks),
        "recovery": tables.plain(compare.HEADINGS["recovery"], recovered) if recovered else None,
        "recovery_chart": charts.recovery(compare.recovery_curves(groups), updates) if recovered else None,
    }


def _tasks(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{len(names)} tasks"


def _names(runs: Sequence[Run]) -> list[str]:
    """Names of folders or files, with their folder where two have one name."""
    paths = [run.path.resolve().with_suffix("") if run.path.is_file() else run.path.resolve() for run in runs]
    short = [path.name for path in paths]
    return short if len(set(short)) == len(short) else [f"{path.parent.name}/{path.name}" for path in paths]


def _averages(summary: compare.Summary) -> list[float]:
    """Mean success of the tasks seen after each task."""
    R = success_matrix(summary["success"])
    return [float(R[i, : i + 1].mean()) for i in range(len(R))]


def _differences(runs: Sequence[Run], names: Sequence[str]) -> tables.Table | None:
    """Options in which the runs differ."""
    settings = [dict(_flat({name: run.summary.get(name) for name in _SETTINGS})) for run in runs]
    options = sorted({option for setting in settings for option in setting})
    rows = []
    for option in options:
        values = [json.dumps(setting.get(option)) for setting in settings]
        if len(set(values)) > 1:
            rows.append([tables.Cell(option), *map(tables.Cell, values)])
    return tables.Table("Options in which the runs differ.", ["option", *names], rows) if rows else None


_SETTINGS = ("method", "replay", "fisher", "network", "seed", "updates_per_task", "n_rollouts", "options", "versions")


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}".removeprefix("options."), value


def _video(task: str, path: Path) -> Video:
    """ValueError for a file that is no video."""
    try:
        last = deque(iio.imiter(path), maxlen=1).pop()
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: cannot be read as a video; film it again with tools.export_video") from error
    picture = io.BytesIO()
    Image.fromarray(last).save(picture, "JPEG", quality=80)
    return Video(task, _uri("video/mp4", path.read_bytes()), _uri("image/jpeg", picture.getvalue()))


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
