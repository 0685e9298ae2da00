"""How fast earlier tasks come back: rows of one run, of several, and the marks of the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from reconverge.policy.reports.rows.cells import Cell, Table, rate_cell
from reconverge.policy.reports.rows.groups import at_once
from reconverge.policy.runs.metrics import FRACTIONS
from reconverge.policy.runs.summary import ProbeCurve, Summary, TaskRecovery, lowest_shares

Measure = Literal["updates", "first_reached"]
Place = tuple[str, str, float]  # an earlier task, the one being learned, a share of its success
ByPlace = Mapping[Place, Sequence[TaskRecovery]]
FEW = 10  # rows that are read at a glance
CAPTION = (
    "Gradient updates of the new task until an earlier one was back at a share of its success "
    "just after it was learned. 0: no probe found it below; > n: not within n; -: nothing to come "
    "back to."
)
CAPTIONS: dict[Measure, str] = {
    "updates": f"{CAPTION} ?: not probed. One number a seed.",
    "first_reached": "The simpler definition: gradient updates of the new task until the first "
    "probe at a share of the earlier one's success just after it was learned, whatever came before "
    "or after. ?: not probed, or not recorded. One number a seed.",
}


def probe_episodes(*runs: Summary) -> list[int]:
    """Return the numbers of episodes of the runs' probes of earlier tasks, each once."""
    return sorted({curve.n_rollouts for run in runs for curve in run.probes})


def of_episodes(*runs: Summary) -> str:
    """Say of how many episodes, or pictures, probes are; nothing where that is not known."""
    counts = probe_episodes(*runs)
    if not counts:
        return ""
    one = "probed picture" if runs[0].judge else "probe episode"
    return f"of {' or '.join(map(str, counts))} {one}{'' if counts == [1] else 's'}"


def updates_cell(entry: TaskRecovery, measure: Measure = "updates") -> Cell:
    """Show a number of updates; one that was not enough is sorted behind those that were."""
    updates = entry.updates if measure == "updates" else entry.first_reached
    if updates is not None:
        return Cell(str(updates), updates)
    if entry.censored_at is None:
        return Cell("-")
    return Cell(f"> {entry.censored_at}", entry.censored_at + 0.5)


def recovery_table(entries: Sequence[TaskRecovery]) -> Table:
    """One row a transition and earlier task of a run, one column a share."""
    targets = sorted({entry.target for entry in entries}, reverse=True)
    rows: dict[tuple[str, str], dict[float, Cell]] = {}
    for entry in entries:
        found = rows.setdefault((entry.task, entry.while_learning), {})
        found[entry.target] = updates_cell(entry)
    return Table(
        CAPTION,
        ["task", "while learning", *(f"{100 * target:.0f} %" for target in targets)],
        [
            [Cell(task), Cell(later), *(found.get(target, Cell("")) for target in targets)]
            for (task, later), found in rows.items()
        ],
    )


def slowest_table(entries: Sequence[TaskRecovery]) -> Table:
    """One row a transition of a run: at each share the earlier task that came back last."""
    targets = sorted({entry.target for entry in entries}, reverse=True)
    transitions = list(dict.fromkeys(entry.while_learning for entry in entries))
    return Table(
        f"{CAPTION} The slowest of the earlier tasks.",
        ["while learning", *(f"{100 * target:.0f} %" for target in targets)],
        [
            [Cell(later), *(_slowest_cell(entries, later, target) for target in targets)]
            for later in transitions
        ],
    )


def recovery_tables(entries: Sequence[TaskRecovery], episodes: str = "") -> list[Table]:
    """Return the table of a run; before it, where it has many rows, the slowest tasks alone.

    `episodes` are the words of `of_episodes`.
    """
    if not entries:
        return []
    table = recovery_table(entries)
    tables = [table] if len(table.rows) <= FEW else [slowest_table(entries), table]
    return [replace(table, caption=_with_episodes(table.caption, episodes)) for table in tables]


def lowest_table(probes: Sequence[ProbeCurve]) -> Table | None:
    """One row an earlier task, one column a transition: its lowest probe over its best before.

    None where nothing was probed that had succeeded.
    """
    found = {(low.task, low.while_learning): low.share for low in lowest_shares(probes)}
    if not found:
        return None
    tasks, transitions = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    counts = " or ".join(map(str, sorted({curve.n_rollouts for curve in probes})))
    return Table(
        f"Lowest probe (n = {counts}) of the task of each row while learning the task of each "
        "column, in % of the best success measured of it before. *: below 90 %.",
        ["task", *transitions],
        [
            [Cell(task), *(_share_cell(found.get((task, later))) for later in transitions)]
            for task in tasks
        ],
        sortable=False,
        heat=True,
    )


def recovery_by_method(groups: Mapping[str, Sequence[Summary]], measure: Measure) -> Table | None:
    """One row a method, earlier task and share, one column a task being learned.

    None where nothing was probed.
    """
    tasks = next(iter(groups.values()))[0].tasks
    rows = []
    for name, runs in groups.items():
        seeds = [_by_place(run) for run in runs]
        for task in tasks[:-1]:
            for target in FRACTIONS:
                places = [(task, later, target) for later in tasks[1:]]
                cells = [_over_seeds(runs, seeds, place, measure) for place in places]
                if any(cell.text for cell in cells):
                    rows.append([Cell(name), Cell(task), Cell(f"{100 * target:.0f} %"), *cells])
    later = [f"while {task}" for task in tasks[1:]]
    columns = ["method", "task", "of its success", *later]
    episodes = of_episodes(*(run for runs in groups.values() for run in runs))
    caption = _with_episodes(CAPTIONS[measure], episodes)
    return Table(caption, columns, rows) if rows else None


def _with_episodes(caption: str, episodes: str) -> str:
    return f"{caption} Rates are {episodes}." if episodes else caption


def first_task_returns(
    groups: Mapping[str, Sequence[Summary]],
) -> dict[str, list[list[int | None]]]:
    """By method and transition: the first task's updates to 90 % in every run that had learned it.

    None: it never came back. Methods that were not probed are left out.
    """
    found = {}
    for name, runs in groups.items():
        first, *later = runs[0].tasks
        seeds = [_by_place(run) for run in runs]
        transitions = [
            [
                entry.updates
                for found_of in seeds
                for entry in found_of.get((first, task, 0.9), ())
                if (entry.updates, entry.censored_at) != (None, None)
            ]
            for task in later
        ]
        if any(transitions):
            found[name] = transitions
    return found


def _share_cell(share: float | None) -> Cell:
    cell = rate_cell(share)
    fallen = share is not None and share < 0.9 - 1e-9  # a share equal to 90 % is not below it
    return Cell(f"{cell.text}*", share) if fallen else cell


def _slowest_cell(entries: Sequence[TaskRecovery], later: str, target: float) -> Cell:
    found = [e for e in entries if (e.while_learning, e.target) == (later, target)]
    slowest = max(found, key=lambda entry: updates_cell(entry).value or 0)
    cell = updates_cell(slowest)
    return Cell(f"{cell.text} ({slowest.task})", cell.value) if cell.value else cell


def _over_seeds(
    runs: Sequence[Summary], seeds: Sequence[ByPlace], place: Place, measure: Measure
) -> Cell:
    found = [entries.get(place, []) for entries in seeds]
    if not any(found):
        return Cell("")
    cells = [
        updates_cell(entries[0], measure)
        if entries and (measure == "updates" or run.probes)
        else Cell("?")
        for run, entries in zip(runs, found, strict=True)
    ]
    first = next((cell.value for cell in cells if cell.value is not None), None)
    return Cell(", ".join(cell.text for cell in cells), first)


def _by_place(run: Summary) -> ByPlace:
    """Sort what a run tells of recovery: of fifty tasks there are thousands of entries."""
    found: dict[Place, list[TaskRecovery]] = {}
    for entry in () if at_once(run) else run.recovery:
        found.setdefault((entry.task, entry.while_learning, entry.target), []).append(entry)
    return found
