"""What a run prints: a progress bar while it works, a table after each task, the whole matrix at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from policy.metrics import wilson
from policy.summary import percent, rate, updates_text
from policy.training import Progress


def print_task(console: Console, progress: Progress, names: Sequence[str]) -> None:
    """Success of every task seen, after the task just learned."""
    table = Table(title=f"after learning {names[progress.task]} ({progress.task + 1} of {len(names)})")
    for column in ("task", "success %", "95 % interval", "just learned %"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, successes in enumerate(progress.successes[progress.task]):
        low, high = wilson(sum(successes), len(successes))
        learned = percent(rate(progress.successes[task][task]))
        table.add_row(names[task], percent(rate(successes)), f"{percent(low)} to {percent(high)}", learned)
    console.print(table)


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """Success matrix, recovery table and the headline numbers."""
    names = summary["tasks"]
    table = Table(title=f"success % ({summary['n_rollouts']} rollouts each)")
    table.add_column("after learning")
    for name in names:
        table.add_column(name, justify="right")
    for name, row in zip(names, summary["success"], strict=True):
        table.add_row(name, *(percent(value) for value in row))
    console.print(table)
    if summary["recovery"]:
        console.print(_recovery(summary["recovery"]))
    low, high = summary["average_success_ci95"]
    forgetting = summary["forgetting"]["just_learned_all"]
    console.print(
        f"average success {100 * summary['average_success']:.1f} % (95 % interval {percent(low)} to {percent(high)}), "
        f"forgetting {100 * forgetting:.1f} points, {summary['seconds']['total'] / 60:.1f} minutes"
    )


def _recovery(entries: list[dict[str, Any]]) -> Table:
    table = Table(title="updates until an earlier task was back at a share of its success (0: never below it)")
    targets = sorted({entry["target"] for entry in entries}, reverse=True)
    for column in ("task", "while learning", *(f"{100 * target:.0f} %" for target in targets)):
        table.add_column(column, justify="right" if "%" in column else "left")
    for task, later in dict.fromkeys((entry["task"], entry["while_learning"]) for entry in entries):
        found = {e["target"]: e for e in entries if (e["task"], e["while_learning"]) == (task, later)}
        table.add_row(task, later, *(updates_text(found[target]) for target in targets))
    return table
