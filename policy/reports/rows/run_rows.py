"""Rows of one run: its headlines, the success of its tasks, the quality of its replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reconverge.policy.reports.rows.cells import Cell, Table, number, rate_cell
from reconverge.policy.reports.rows.recovery import updates_cell
from reconverge.policy.reports.run import ReplayQuality
from reconverge.policy.runs import metrics
from reconverge.policy.runs.summary import Libero, Rates, Summary, TaskRecovery

SLOWEST = "slowest return to 90 %"
LOWEST = "lowest probe"
FWT = "LIBERO's FWT"


@dataclass(frozen=True)
class Headline:
    label: str
    value: str
    note: str


def headlines(summary: Summary) -> list[Headline]:
    """Return what the run comes to, with 95 % intervals."""
    average, interval = 100 * summary.average_success, _interval(summary.average_success_ci95)
    found = [Headline("average success", f"{number(average)} %", interval)]
    R, K = metrics.success_matrix(summary.success), len(summary.tasks)
    rates = np.concatenate([np.diag(R)[:-1], R[-1, :-1]]).tolist()
    for label, value, terms, sign in (
        ("forgetting", summary.forgetting.just_learned_all, K, 1),
        ("backward transfer", summary.backward_transfer, K - 1, -1),
    ):
        if value is None or K == 1:
            continue
        weights = [sign / terms] * (K - 1) + [-sign / terms] * (K - 1)
        bounds = metrics.combination_interval(weights, rates, [summary.n_rollouts] * len(rates))
        found.append(Headline(label, f"{number(100 * value)} points", _interval(bounds)))
    if summary.recovery:
        found.append(_slowest(summary.recovery))
    if low := summary.lowest_share:
        where = f"{low.task} while learning {low.while_learning}, after {low.update} updates"
        found.append(Headline(LOWEST, f"{number(100 * low.share)} %", f"of its best: {where}"))
    if summary.libero and (summary.libero.fwt, summary.libero.nbt) != (None, None):
        found.append(_libero(summary.libero))
    minutes = {
        name: f"{getattr(summary.seconds, name) / 60:.1f}"
        for name in ("training", "evaluation", "total")
    }
    note = f"training {minutes['training']}, evaluation {minutes['evaluation']} minutes"
    return [*found, Headline("time", f"{minutes['total']} minutes", note)]


def _libero(measured: Libero) -> Headline:
    rates = {"NBT": (measured.nbt, "points"), "AUC": (measured.auc, "%")}
    note = [
        f"{name} {number(100 * v)} {unit}" for name, (v, unit) in rates.items() if v is not None
    ]
    if measured.fwt is None:
        return Headline(FWT, "not measured", ", ".join([*note, "see evaluation.probe_current"]))
    return Headline(FWT, f"{number(100 * measured.fwt)} %", ", ".join(note))


def _slowest(entries: Sequence[TaskRecovery]) -> Headline:
    known = [e for e in entries if e.target == 0.9 and (e.updates, e.censored_at) != (None, None)]
    if not known:
        return Headline(SLOWEST, "unknown", "no task had a success to come back to")
    slowest = max(known, key=lambda entry: updates_cell(entry).value or 0.0)
    if slowest.updates == 0:
        return Headline(SLOWEST, "none fell", "no probe found a task below 90 % of its success")
    note = f"of {slowest.task} while learning {slowest.while_learning}"
    return Headline(SLOWEST, f"{updates_cell(slowest).text} updates", note)


def success_by_task(caption: str, tasks: Sequence[str], success: Rates, n_rollouts: int) -> Table:
    """One row a task of those learned so far: just learned, and after the last of them."""
    rows = []
    for i, task in enumerate(tasks):
        learned, last = success[i][i], success[len(tasks) - 1][i]
        change = None if learned is None or last is None else 100 * (last - learned)
        text = "" if change is None else f"{change:+.0f}" if change else "0"
        cells = [rate_cell(learned, n_rollouts), rate_cell(last, n_rollouts), Cell(text, change)]
        rows.append([Cell(f"{i + 1} {task}", i), *cells])
    columns = ["task", "just learned (%)", "after the last task (%)", "change (points)"]
    rollouts = "1 rollout" if n_rollouts == 1 else f"{n_rollouts} rollouts"
    return Table(f"{caption}: {rollouts} each, Wilson's 95 % intervals.", columns, rows)


def success_matrix(summary: Summary) -> Table:
    rows = [
        [Cell(f"{i + 1} {task}"), *map(rate_cell, row)]
        for i, (task, row) in enumerate(zip(summary.tasks, summary.success, strict=True))
    ]
    caption = (
        "Success (%) of the task of each column after learning the task of each row; "
        "empty where not measured."
    )
    return Table(caption, ["after learning", *summary.tasks], rows, sortable=False, heat=True)


def replay_distances(replay: Sequence[ReplayQuality]) -> Table:
    """One row a task: median distances to the nearest real window."""
    rows = []
    for task in replay:
        middle = len(task.nearest.quantile) // 2
        real, made = task.nearest.real[middle], task.nearest.generated[middle]
        numbers = [Cell(f"{made:.3f}", made), Cell(f"{real:.3f}", real)]
        rows.append([Cell(task.task), *numbers, Cell(f"{task.ratio:.2f}", task.ratio)])
    return Table(
        "Median distance from a window to the nearest real one, in half ranges of an entry "
        "(root mean square).",
        ["task", "generated", "real", "ratio"],
        rows,
    )


def _interval(bounds: Sequence[float]) -> str:
    return f"95 % interval {' to '.join(number(100 * bound) for bound in bounds)}"
