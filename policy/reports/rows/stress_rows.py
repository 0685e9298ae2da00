"""Where the penalty helps: runs with a Fisher penalty against runs without one, under stress.

A setting is a folder of runs; differences are paired by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reconverge.errors import ReconvergeError
from reconverge.files import write_text
from reconverge.policy.reports.charts import results as charts
from reconverge.policy.reports.charts.style import write_png
from reconverge.policy.reports.render import comma_separated, markdown
from reconverge.policy.reports.rows.cells import INTERVALS, PERCENT, POINTS, Cell, Table, mean_cell
from reconverge.policy.reports.rows.groups import group, words
from reconverge.policy.runs.summary import Summary, read_summary

EARLY = 50  # updates after a transition in which a dip is looked for


def dip(run: Summary) -> float:
    """Return the success just after learning less the worst probe of the first EARLY updates, the
    mean over all transitions.
    """
    falls = []
    for curve in run.probes:
        probes = zip(curve.updates, curve.success, strict=True)
        early = [success for update, success in probes if update <= EARLY]
        falls.append(curve.just_learned - min(early, default=curve.just_learned))
    return float(np.mean(falls))


def loss_while_learning(run: Summary) -> float:
    """Return the success just after learning less the mean of all probes, over all transitions."""
    return float(np.mean([c.just_learned - np.mean(c.success) for c in run.probes]))


def just_learned(run: Summary) -> float:
    """Return the mean success of every task just after it was learned."""
    return float(np.diag(np.array(run.success, dtype=float)).mean())


@dataclass(frozen=True)
class Measure:
    of: Callable[[Summary], float]
    unit: str  # "%" or "points"
    better: str  # "more" or "less"

    @property
    def span(self) -> tuple[float, float]:
        """What there can be, in the unit."""
        return PERCENT if self.unit == "%" else POINTS


MEASURES = {
    "average success": Measure(lambda run: run.average_success, "%", "more"),
    "forgetting": Measure(lambda run: run.forgetting.just_learned_all, "points", "less"),
    "dip": Measure(dip, "points", "less"),
    "loss while learning": Measure(loss_while_learning, "points", "less"),
    "just learned": Measure(just_learned, "%", "more"),
}


@dataclass(frozen=True)
class Setting:
    """Runs with one penalty and without, in the order of the seeds that both have; of the two runs
    of a seed the probes that both have.
    """

    name: str
    penalty: str
    without: list[Summary]
    held: list[Summary]

    def differences(self, measure: Callable[[Summary], float]) -> np.ndarray:
        """Return the measure with the penalty less without it, one number a seed."""
        pairs = zip(self.held, self.without, strict=True)
        return np.array([measure(held) - measure(without) for held, without in pairs])


def with_probes_of(run: Summary, other: Summary) -> Summary:
    """Return the run with those of its probes that `other` has too: of the same task while the same
    one was learned, after the same updates, of the same number of rollouts.
    """
    theirs = {(c.task, c.while_learning, c.n_rollouts): c.updates for c in other.probes}
    curves = []
    for curve in run.probes:
        shared = theirs.get((curve.task, curve.while_learning, curve.n_rollouts), [])
        probes = zip(curve.updates, curve.success, strict=True)
        kept = {update: success for update, success in probes if update in shared}
        if kept:
            curves.append(replace(curve, updates=list(kept), success=list(kept.values())))
    return replace(run, probes=curves)


def write_stress(folders: Sequence[Path], output: Path) -> str:
    """Write `stress.md`, `stress.csv` and `stress.png` into `output`; return the text."""
    settings = [setting for folder in folders for setting in read_settings(folder)]
    table = stress_table(settings)
    text = f"{table.caption}\n\n{markdown(table)}"
    write_text(output / "stress.md", text)
    write_text(output / "stress.csv", comma_separated(table))
    differences = {
        name: {(s.name, s.penalty): 100 * s.differences(measure.of) for s in settings}
        for name, measure in MEASURES.items()
    }
    better = {name: measure.better for name, measure in MEASURES.items()}
    write_png(charts.differences(differences, better), output / "stress.png")
    return text


def read_settings(folder: Path) -> list[Setting]:
    """Read the runs in a folder, for each penalty; ReconvergeError where they are not pairs of one
    setting.

    The setting is named by the folder, its underscores read as spaces.
    """
    summaries = [file for file in folder.glob("*.json") if file.name != "summary.json"]
    files = sorted([*folder.glob("*/summary.json"), *summaries])
    runs = [read_summary(file) for file in files]
    for file, run in zip(files, runs, strict=True):
        if not run.probes:
            raise ReconvergeError(
                f"{file}: holds no probes, so no dip can be read; run it with "
                "evaluation.probe_rollouts"
            )
    if len({run.replay for run in runs}) > 1:
        raise ReconvergeError(f"{folder}: runs differ in replay; keep one setting in one folder")
    try:
        groups = group(runs)
    except ReconvergeError as error:
        raise ReconvergeError(f"{folder}: {error}") from error
    free = [name for name, held in groups.items() if held[0].fisher == "none"]
    if len(free) > 1:
        raise ReconvergeError(
            f"{folder}: {' and '.join(free)} are both without a Fisher penalty; keep one of them"
        )
    without = {run.seed: run for name in free for run in groups.pop(name)}
    settings = []
    for name, runs in groups.items():
        held = [run for run in runs if run.seed in without]
        if held:
            penalty = name.removeprefix(f"{words(held[0].method)}, ")
            settings.append(_pair(words(folder.name), penalty, without, held))
    if not settings:
        raise ReconvergeError(
            f"{folder}: no seed has a run with a Fisher penalty and one without; add the missing "
            "one"
        )
    return settings


def _pair(
    name: str, penalty: str, without: Mapping[int, Summary], held: Sequence[Summary]
) -> Setting:
    """Pair runs with those `without` a penalty, by seed; ReconvergeError without shared probes."""
    pairs = [(without[run.seed], run) for run in held]
    setting = Setting(
        name,
        penalty,
        [with_probes_of(one, other) for one, other in pairs],
        [with_probes_of(other, one) for one, other in pairs],
    )
    for run in setting.held:
        if not run.probes:
            raise ReconvergeError(
                f"{name}: seed {run.seed}: no probe of the run with {penalty} is in the one "
                "without a penalty; probe both after the same updates, with one "
                "evaluation.probe_rollouts"
            )
    return setting


def stress_table(settings: Sequence[Setting]) -> Table:
    """One row a setting, penalty and measure."""
    rows = []
    for setting in settings:
        for name, measure in MEASURES.items():
            seeds = len(setting.held)
            what = [setting.name, setting.penalty, str(seeds), f"{name} ({measure.unit})"]
            without, held = (
                mean_cell([measure.of(run) for run in runs], span=measure.span)
                for runs in (setting.without, setting.held)
            )
            widest = measure.span[1] - measure.span[0]
            difference = mean_cell(list(setting.differences(measure.of)), span=(-widest, widest))
            rows.append([*map(Cell, what), without, held, difference])
    sides = ["without the penalty", "with the penalty", "difference (points)"]
    return Table(
        f"Means over seeds, with {INTERVALS}; differences are paired by seed, "
        "dip and loss are of the probes that both runs of a pair have.",
        ["setting", "penalty", "seeds", "measure", *sides],
        rows,
    )
