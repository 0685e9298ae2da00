"""The pictures in a run's folder, drawn anew after every task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconverge.policy.continual.loop import Progress
from reconverge.policy.reports.charts import results as charts
from reconverge.policy.reports.charts.style import write_png
from reconverge.policy.reports.run import success_curves
from reconverge.policy.runs.summary import learning_curves, probe_curves, success_rows


def plot_run(folder: Path, progress: Progress, names: Sequence[str], updates_per_task: int) -> None:
    """Write `success.png` and `matrix.png` into `folder`."""
    rows, n = success_rows(progress, len(names)), len(progress.successes[0][0])
    probes = [*probe_curves(progress, names), *learning_curves(progress, names)]
    curves = success_curves(names, rows, n, probes, updates_per_task)
    write_png(charts.success(curves, len(names), updates_per_task), folder / "success.png")
    write_png(charts.matrix(names, rows), folder / "matrix.png")
