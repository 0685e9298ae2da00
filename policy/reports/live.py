"""What a run shows while it goes on: tables on the console, pictures in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reconverge.policy.continual.loop import Progress
from reconverge.policy.reports.charts import results as charts
from reconverge.policy.reports.charts.style import write_png
from reconverge.policy.reports.render import print_table
from reconverge.policy.reports.rows import recovery, run_rows
from reconverge.policy.reports.rows.distance_rows import distance_tables
from reconverge.policy.reports.rows.groups import at_once
from reconverge.policy.reports.run import success_curves
from reconverge.policy.runs.summary import Summary, learning_curves, probe_curves, success_rows


class LiveReporter:
    """Prints a table after each task and at the end, and draws `plots/` in the run's folder."""

    def __init__(self, folder: Path, tasks: Sequence[str], updates_per_task: int):
        self._folder, self._tasks, self._updates = folder, tasks, updates_per_task
        self._console = Console()

    def task_ended(self, progress: Progress) -> None:
        plot_run(self._folder / "plots", progress, self._tasks, self._updates)
        print_task(self._console, progress, self._tasks)

    def finished(self, summary: Summary) -> None:
        print_summary(self._console, summary)
        self._console.print(f"everything is in {self._folder}", markup=False, soft_wrap=True)


def print_task(console: Console, progress: Progress, names: Sequence[str]) -> None:
    """Print the success of every task seen, after the task just learned."""
    seen = progress.task + 1
    caption = f"After learning {names[progress.task]} ({seen} of {len(names)})"
    rows, n = success_rows(progress, len(names)), len(progress.successes[0][0])
    print_table(console, run_rows.success_by_task(caption, names[:seen], rows, n))


def print_summary(console: Console, summary: Summary) -> None:
    """Print the success matrix, recovery, and the headlines."""
    print_table(console, run_rows.success_matrix(summary))
    if not at_once(summary):
        lowest = recovery.lowest_table(summary.probes)
        for table in [
            *([lowest] if lowest else []),
            *recovery.recovery_tables(summary.recovery)[:1],
        ]:
            print_table(console, table)
    for table in distance_tables(summary)[:1]:
        print_table(console, table)
    for headline in run_rows.headlines(summary):
        console.print(f"{headline.label} {headline.value} ({headline.note})", highlight=False)


def plot_run(folder: Path, progress: Progress, names: Sequence[str], updates_per_task: int) -> None:
    """Write `success.png` and `matrix.png` into `folder`, anew after every task."""
    rows, n = success_rows(progress, len(names)), len(progress.successes[0][0])
    probes = [*probe_curves(progress, names), *learning_curves(progress, names)]
    curves = success_curves(names, rows, n, probes, updates_per_task)
    write_png(charts.success(curves, len(names), updates_per_task), folder / "success.png")
    write_png(charts.matrix(names, rows), folder / "matrix.png")
