"""Rows of one run: its headlines, the success of its tasks, the quality of its replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reconverge.policy.reports.rows.cells import (
    Cell,
    Table,
    change,
    decimals_of,
    interval_cell,
    number,
    rate_cell,
)
from reconverge.policy.reports.rows.groups import at_once
from reconverge.policy.reports.rows.recovery import of_episodes, updates_cell
from reconverge.policy.reports.run import ReplayQuality
from reconverge.policy.runs import metrics
from reconverge.policy.runs.summary import Rates, Summary

SLOWEST = "slowest return to 90 %"
LOWEST = "lowest probe"
FWT = "LIBERO's FWT"
WILSON = "Wilson's 95 % intervals"


@dataclass(frozen=True)
class Headline:
    label: str
    value: str
    note: str


def evaluated(summary: Summary) -> str:
    """Say what a task was evaluated with, and whether settings were chosen on the same episodes."""
    chosen = summary.evaluation_seeds == "selection"
    note = " (selection episodes: settings were chosen on them)" if chosen else ""
    return f"{_evaluations(summary.n_rollouts, _one(summary))} a task{note}"


def headlines(summary: Summary) -> list[Headline]:
    """Return what the run comes to, with 95 % intervals."""
    average, interval = 100 * summary.average_success, _interval(summary.average_success_ci95)
    minutes = {
        name: f"{getattr(summary.seconds, name) / 60:.1f}"
        for name in ("training", "evaluation", "total")
    }
    note = f"training {minutes['training']}, evaluation {minutes['evaluation']} minutes"
    return [
        Headline("average success", f"{number(average)} %", interval),
        *([] if at_once(summary) else _in_turn(summary)),
        Headline("time", f"{minutes['total']} minutes", note),
    ]


def _in_turn(summary: Summary) -> list[Headline]:
    """Return what comes of learning one task after the other."""
    found = []
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
        found.append(_slowest(summary))
    if low := summary.lowest_share:
        where = f"{low.task} while learning {low.while_learning}, after {low.update} updates"
        note = _with_episodes(f"of its best: {where}", summary)
        found.append(Headline(LOWEST, f"{number(100 * low.share)} %", note))
    if summary.boundaries is not None:
        found.append(_boundaries(summary.boundaries, summary.tasks))
    if summary.libero and (summary.libero.fwt, summary.libero.nbt) != (None, None):
        found.append(_libero(summary))
    return found


def _boundaries(noticed: Sequence[Sequence[int]], tasks: Sequence[str]) -> Headline:
    where = [f"update {update} of {tasks[task]}" for task, update in noticed]
    return Headline("boundaries noticed", f"{len(noticed)}", ", ".join(where) or "none was told")


def _libero(summary: Summary) -> Headline:
    measured = summary.libero
    assert measured is not None
    nbt = metrics.nbt(metrics.success_matrix(summary.success))  # older files have another mean
    rates = {"NBT": (nbt, "points"), "AUC": (measured.auc, "%")}
    note = [
        f"{name} {number(100 * v)} {unit}" for name, (v, unit) in rates.items() if v is not None
    ]
    if measured.fwt is None:
        return Headline(FWT, "not measured", ", ".join([*note, "see evaluation.probe_current"]))
    return Headline(FWT, f"{number(100 * measured.fwt)} %", ", ".join(note))


def _slowest(summary: Summary) -> Headline:
    entries = [entry for entry in summary.recovery if entry.target == 0.9]
    known = [e for e in entries if (e.updates, e.censored_at) != (None, None)]
    if not known:
        return Headline(SLOWEST, "unknown", "no task had a success to come back to")
    slowest = max(known, key=lambda entry: updates_cell(entry).value or 0.0)
    if slowest.updates == 0:
        note = "no probe found a task below 90 % of its success"
        return Headline(SLOWEST, "none fell", _with_episodes(note, summary))
    note = f"of {slowest.task} while learning {slowest.while_learning}"
    text = f"{updates_cell(slowest).text} updates"
    return Headline(SLOWEST, text, _with_episodes(note, summary))


def _with_episodes(note: str, summary: Summary) -> str:
    episodes = of_episodes(summary)
    return f"{note}, {episodes}" if episodes else note


def task_table(summary: Summary) -> Table:
    """One row a task: as `success_by_task`; of tasks learned at once the end alone."""
    s, caption = summary, "Success of every task"
    if not at_once(s):
        return success_by_task(caption, s.tasks, s.success, s.n_rollouts, _one(s))
    rows = [
        [Cell(f"{i + 1} {task}", i), interval_cell(rate, s.n_rollouts)]
        for i, (task, rate) in enumerate(zip(s.tasks, s.success[-1], strict=True))
    ]
    caption = f"{caption}: {_evaluations(s.n_rollouts, _one(s))} each, {WILSON}."
    return Table(caption, ["task", "at the end (%)"], rows)


def success_by_task(
    caption: str, tasks: Sequence[str], success: Rates, n_rollouts: int, of: str = "rollout"
) -> Table:
    """One row a task of those learned so far: just learned, and after the last of them."""
    rows = []
    for i, task in enumerate(tasks):
        learned, last = success[i][i], success[len(tasks) - 1][i]
        gained = None if learned is None or last is None else 100 * (last - learned)
        text = "" if gained is None else change(gained, decimals_of(n_rollouts))
        cells = [interval_cell(learned, n_rollouts), interval_cell(last, n_rollouts)]
        rows.append([Cell(f"{i + 1} {task}", i), *cells, Cell(text, gained)])
    columns = ["task", "just learned (%)", "after the last task (%)", "change (points)"]
    return Table(f"{caption}: {_evaluations(n_rollouts, of)} each, {WILSON}.", columns, rows)


def success_matrix(summary: Summary) -> Table:
    """One row a task learned; of tasks learned at once one an evaluation."""
    together, updates = at_once(summary), summary.updates_per_task
    heads = [
        f"{updates * (i + 1)} updates" if together else f"{i + 1} {task}"
        for i, task in enumerate(summary.tasks)
    ]
    rows = [
        [Cell(head), *(rate_cell(rate, summary.n_rollouts) for rate in row)]
        for head, row in zip(heads, summary.success, strict=True)
    ]
    after = "the updates" if together else "learning the task"
    caption = (
        f"Success (%) of the task of each column after {after} of each row; "
        "empty where not measured."
    )
    columns = ["after" if together else "after learning", *summary.tasks]
    return Table(caption, columns, rows, sortable=False, heat=True)


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


def _one(summary: Summary) -> str:
    return "generated picture" if summary.judge else "rollout"


def _evaluations(n: int, one: str) -> str:
    return f"{n} {one}{'' if n == 1 else 's'}"


def _interval(bounds: Sequence[float]) -> str:
    return f"95 % interval {' to '.join(number(100 * bound) for bound in bounds)}"
