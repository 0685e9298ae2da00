"""What a run shows while it goes on: tables on the console, pictures in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reconverge.policy.continual.loop import Progress
from reconverge.policy.reports.console import print_summary, print_task
from reconverge.policy.reports.plots import plot_run
from reconverge.policy.runs.summary import Summary


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
