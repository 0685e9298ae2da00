"""What a run prints: a table after each task; at the end the matrix, recovery and headlines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from reconverge.policy.continual.loop import Progress
from reconverge.policy.reports.render import print_table
from reconverge.policy.reports.rows import recovery, run_rows
from reconverge.policy.reports.rows.distance_rows import distance_tables
from reconverge.policy.runs.summary import Summary, success_rows


def print_task(console: Console, progress: Progress, names: Sequence[str]) -> None:
    """Print the success of every task seen, after the task just learned."""
    seen = progress.task + 1
    caption = f"After learning {names[progress.task]} ({seen} of {len(names)})"
    rows, n = success_rows(progress, len(names)), len(progress.successes[0][0])
    print_table(console, run_rows.success_by_task(caption, names[:seen], rows, n))


def print_summary(console: Console, summary: Summary) -> None:
    """Print the success matrix, recovery, and the headlines."""
    print_table(console, run_rows.success_matrix(summary))
    if lowest := recovery.lowest_table(summary.probes):
        print_table(console, lowest)
    for table in recovery.recovery_tables(summary.recovery)[:1]:
        print_table(console, table)
    for table in distance_tables(summary)[:1]:
        print_table(console, table)
    for headline in run_rows.headlines(summary):
        console.print(f"{headline.label} {headline.value} ({headline.note})", highlight=False)
