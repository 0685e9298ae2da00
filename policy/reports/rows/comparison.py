"""Several runs compared: means over seeds, paired differences, recovery."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from reconverge.files import write_text
from reconverge.policy.reports.charts import results as charts
from reconverge.policy.reports.charts.frontier import Cost, frontier
from reconverge.policy.reports.charts.style import write_png
from reconverge.policy.reports.render import comma_separated, markdown
from reconverge.policy.reports.rows.cells import (
    INTERVALS,
    PERCENT,
    POINTS,
    Cell,
    Table,
    mean_cell,
    number,
    rate_cell,
    with_interval,
)
from reconverge.policy.reports.rows.distance_rows import distances_by_method
from reconverge.policy.reports.rows.groups import Groups, at_once, find_reference, group
from reconverge.policy.reports.rows.recovery import (
    first_task_returns,
    of_episodes,
    probe_episodes,
    recovery_by_method,
)
from reconverge.policy.reports.rows.run_rows import evaluated
from reconverge.policy.runs import metrics
from reconverge.policy.runs.summary import Summary, learning_areas, read_summary

Measures = dict[str, Callable[[Summary], float | None]]
SUCCESS: Measures = {"average success (%)": lambda s: s.average_success}
"""Columns, from fractions."""
FORGETTING: Measures = {
    "forgetting (points)": lambda s: s.forgetting.just_learned_all,
    "forgetting without the last task (points)": lambda s: s.forgetting.just_learned_without_last,
    "forgetting from the best (points)": lambda s: s.forgetting.max_without_last,
    "backward transfer (points)": lambda s: s.backward_transfer,
}
"""Columns that a run has whose tasks were learned in turn, as those of TRANSFER."""
TRANSFER: Measures = {
    "FWT (%)": lambda s: s.libero.fwt if s.libero else None,
    "NBT (points)": lambda s: metrics.nbt(metrics.success_matrix(s.success)),  # see `metrics.nbt`
    "AUC (%)": lambda s: s.libero.auc if s.libero else None,
    "lowest probe (% of its best)": lambda s: s.lowest_share.share if s.lowest_share else None,
}
SPANS = {
    **dict.fromkeys((*SUCCESS, "FWT (%)", "AUC (%)", "lowest probe (% of its best)"), PERCENT),
    "forgetting from the best (points)": PERCENT,
    "forward transfer (%)": (-np.inf, 100.0),
}
"""What there can be of a measure; POINTS of the others."""
DECIDING = (
    "tasks",
    "method",
    "replay",
    "fisher",
    "network",
    "seed",
    "updates_per_task",
    "n_rollouts",
    "evaluation_seeds",
    "options",
    "demonstrations",
    "changes",
    "versions",
)
UNEQUAL = ("demonstrations", "changes", "hardware.precision", "hardware.device", "probe episodes")
"""Of these, those that runs of one setting should share, and are told of where they do not."""


def write_comparison(paths: Sequence[Path], output: Path, reference: str | None = None) -> str:
    """Write `comparison.md`, its tables as CSV and its pictures into `output`; return the text.

    There is no `recovery.png` where nothing was probed. What an earlier comparison has left of
    tables that this one has not is removed.
    """
    runs = [read_summary(path) for path in paths]
    groups = group(runs)
    first = next(iter(groups.values()))[0]
    runs_of = "1 run of" if len(paths) == 1 else f"{len(paths)} runs of"
    text = f"{runs_of} {', '.join(first.tasks)}; {evaluated(first)}.\n"
    settings = [_setting(run) for run in runs]
    for name in UNEQUAL:
        known = [setting[name] for setting in settings if setting[name] is not None]
        if len({json.dumps(value, sort_keys=True) for value in known}) > 1:
            text += f"They differ in {name}: python -m tools.report <runs> shows how.\n"
    for name, table in comparison_tables(groups, reference).items():
        if table is None:
            (output / f"{name}.csv").unlink(missing_ok=True)
            continue
        text += f"\n{table.caption}\n\n{markdown(table)}"
        write_text(output / f"{name}.csv", comma_separated(table))
    write_text(output / "comparison.md", text)
    (output / "recovery.png").unlink(missing_ok=True)
    if returns := first_task_returns(groups):
        seeds = {name: len(found) for name, found in groups.items()}
        chart = charts.recovery(returns, first.tasks, first.updates_per_task, seeds)
        write_png(chart, output / "recovery.png")
    write_png(frontier(costs(groups)), output / "frontier.png")
    return text


def costs(groups: Groups) -> dict[str, list[Cost]]:
    """Return what the runs of every method reached and took."""
    return {name: [_cost(run) for run in runs] for name, runs in groups.items()}


def _cost(run: Summary) -> Cost:
    megabytes = None if run.memory_bytes is None else run.memory_bytes / 1e6
    return Cost(run.average_success, megabytes, run.seconds.training_cpu)


def comparison_tables(groups: Groups, reference: str | None = None) -> dict[str, Table | None]:
    """Return the tables by name; None for one without rows."""
    return {
        "success": success_table(groups),
        "transfer": transfer_table(groups),
        "distance": distances_by_method(groups),
        "paired": paired_table(groups, find_reference(groups, reference)),
        "recovery": recovery_by_method(groups, "updates"),
        "first_reached": recovery_by_method(groups, "first_reached"),
    }


def success_table(groups: Groups) -> Table:
    """One row a method: the means of every measure and of the minutes."""
    rows = []
    measures = SUCCESS | _in_turn(FORGETTING)
    measures = {name: get for name, get in measures.items() if _is_known(get, groups)}
    for row, runs in zip(_means(groups, measures), groups.values(), strict=True):
        minutes = float(np.mean([run.seconds.total for run in runs])) / 60
        kept = [run.memory_bytes / 1e6 for run in runs if run.memory_bytes is not None]
        memory = Cell(number(float(np.mean(kept))), float(np.mean(kept))) if kept else Cell("")
        rows.append([*row, Cell(number(minutes), minutes), memory])
    caption = f"Means over seeds, with {INTERVALS}; what is kept of past tasks, in MB."
    return Table(caption, ["method", "seeds", *measures, "minutes", "memory (MB)"], rows)


def transfer_table(groups: Groups) -> Table | None:
    """One row a method: the means of what a run has measured of transfer; None if nothing."""
    every = [run for runs in groups.values() for run in runs]
    alone = [run for run in every if run.method == "single"]
    forward: Measures = {"forward transfer (%)": partial(_forward_transfer, alone=alone)}
    measures = _in_turn(forward | TRANSFER)
    measures = {name: get for name, get in measures.items() if _is_known(get, groups)}
    probes = ", ".join(filter(None, ["the lowest probe of an earlier task", of_episodes(*every)]))
    caption = (
        "Forward transfer as in Continual World, against the runs of single; FWT, NBT and AUC as "
        f"in LIBERO; {probes}. Means over seeds, with {INTERVALS}."
    )
    columns = ["method", "seeds", *measures]
    return Table(caption, columns, _means(groups, measures)) if measures else None


def _in_turn(measures: Measures) -> Measures:
    """Return the measures, None of a run that learned all tasks at once."""

    def limited(get: Callable[[Summary], float | None]) -> Callable[[Summary], float | None]:
        return lambda run: None if at_once(run) else get(run)

    return {name: limited(get) for name, get in measures.items()}


def _is_known(get: Callable[[Summary], float | None], groups: Groups) -> bool:
    return any(get(run) is not None for runs in groups.values() for run in runs)


def _means(groups: Groups, measures: Measures) -> list[list[Cell]]:
    return [
        [
            Cell(name),
            Cell(str(len(runs)), len(runs)),
            *(
                mean_cell([get(run) for run in runs], span=SPANS.get(measure, POINTS))
                for measure, get in measures.items()
            ),
        ]
        for name, runs in groups.items()
    ]


def _forward_transfer(run: Summary, alone: Sequence[Summary]) -> float | None:
    """Continual World's, against the mean of `alone`: runs with a policy a task.

    None for one of them, and where the current task was not probed or theirs not at the same
    updates.
    """
    counts = [curve.updates for curve in run.learning]
    areas = [
        learning_areas(reference.learning, run.tasks)
        for reference in alone
        if [curve.updates for curve in reference.learning] == counts != []
    ]
    if not areas or run in alone:
        return None
    mean = np.array(areas, dtype=np.float64).mean(axis=0).tolist()
    return metrics.forward_transfer(learning_areas(run.learning, run.tasks), mean)


def paired_table(groups: Groups, reference: str) -> Table | None:
    """Differences to the reference on the same seeds, and the probability that a run beats one of
    the reference; None where there is no other method.

    The probability is the share of all pairs of runs, ties counting half (Agarwal et al. 2021,
    arXiv 2108.13264): Mann and Whitney's U over their number.
    """
    base = {run.seed: run.average_success for run in groups[reference]}
    rows = []
    for name, runs in groups.items():
        if name == reference:
            continue
        differences = [run.average_success - base[run.seed] for run in runs if run.seed in base]
        wins = scipy.stats.mannwhitneyu(
            [run.average_success for run in runs], list(base.values())
        ).statistic
        share = float(wins) / (len(runs) * len(base))
        pairs = Cell(str(len(differences)), len(differences))
        rows.append(
            [Cell(name), pairs, mean_cell(differences, span=POINTS), Cell(f"{share:.2f}", share)]
        )
    return (
        Table(
            f"Differences of average success to {reference} on the same seeds, with {INTERVALS}.",
            ["method", "same seeds", "difference (points)", "probability of improvement"],
            rows,
        )
        if rows
        else None
    )


def runs_table(runs: Sequence[Summary], names: Sequence[str]) -> Table:
    """One row a run: what it is and what it came to."""
    rows = []
    for name, run in zip(names, runs, strict=True):
        average, (low, high) = 100 * run.average_success, run.average_success_ci95
        success = with_interval(number(average), number(100 * low), number(100 * high))
        minutes = run.seconds.total / 60
        rows.append(
            [
                Cell(name),
                Cell(run.method),
                Cell(str(run.seed), run.seed),
                Cell(success, average),
                _forgetting_cell(run),
                Cell(number(minutes), minutes),
            ]
        )
    columns = ["run", "method", "seed", "average success (%)", "forgetting (points)", "minutes"]
    return Table("The runs, with Wilson's 95 % intervals over their rollouts.", columns, rows)


def _forgetting_cell(run: Summary) -> Cell:
    points = 100 * run.forgetting.just_learned_all
    return Cell("") if at_once(run) else Cell(number(points), points)


def final_success(runs: Sequence[Summary], names: Sequence[str]) -> Table:
    """Success of every task at the end, a row a run."""
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    rows = []
    for name, run in zip(names, runs, strict=True):
        end = dict(zip(run.tasks, run.success[-1], strict=True))
        rows.append([Cell(name), *(rate_cell(end.get(task), run.n_rollouts) for task in tasks)])
    caption = "Success (%) of every task at the end of each run."
    return Table(caption, ["run", *tasks], rows, heat=True)


def differing_options(runs: Sequence[Summary], names: Sequence[str]) -> Table | None:
    """One row an option in which the runs differ, one column a run."""
    settings = [dict(_flat(_setting(run))) for run in runs]
    rows = []
    for option in sorted({option for setting in settings for option in setting}):
        values = [json.dumps(setting.get(option)) for setting in settings]
        if len(set(values)) > 1:
            rows.append([Cell(option), *map(Cell, values)])
    return Table("Options in which the runs differ.", ["option", *names], rows) if rows else None


def _setting(run: Summary) -> dict[str, Any]:
    """Return what decides a run's result: DECIDING, of demonstrations their sum, what computed it,
    and what its probes are of. None: not known, as of older runs.
    """
    setting = {name: getattr(run, name) for name in DECIDING}
    sums = {t: one["sha256"] for t, one in run.demonstrations.items() if "sha256" in one}
    machine = {f"hardware.{name}": run.hardware.get(name) for name in ("precision", "device")}
    probes = {"probe episodes": probe_episodes(run) or None}
    return {**setting, "demonstrations": sums or None, **machine, **probes}


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}".removeprefix("options."), value
