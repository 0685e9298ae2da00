"""Where the penalty helps: the trust region against replay alone under stress. `python -m tools.stress runs/stress/*`.

Each folder is one setting and holds its runs (or their summary.json files): the same seeds without a Fisher penalty
and with one, or with several to compare. Differences are paired by seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs import commandline
from policy.files import write_text
from policy.metrics import bootstrap
from policy.plots import plot_differences
from tools.compare import Summary, comma_separated, group, interval, markdown, read

EARLY = 50  # updates after a transition in which a dip is looked for


def average_success(run: Summary) -> float:
    return run["average_success"]


def forgetting(run: Summary) -> float:
    return run["forgetting"]["just_learned_all"]


def dip(run: Summary) -> float:
    """Success just after learning less the worst probe of the first EARLY updates, over all transitions."""
    curves = run["probes"]
    falls = [
        c["just_learned"] - min(y for x, y in zip(c["updates"], c["success"], strict=True) if x <= EARLY)
        for c in curves
    ]
    return float(np.mean(falls))


def loss_while_learning(run: Summary) -> float:
    """Success just after learning less the mean of all probes, over all transitions."""
    return float(np.mean([c["just_learned"] - np.mean(c["success"]) for c in run["probes"]]))


def new_tasks(run: Summary) -> float:
    """Success of every task just after it was learned."""
    return float(np.mean([row[i] for i, row in enumerate(run["success"])]))


MEASURES: dict[str, Callable[[Summary], float]] = {
    "average success": average_success,
    "forgetting": forgetting,
    "dip": dip,
    "loss while learning": loss_while_learning,
    "just learned": new_tasks,
}
"""In points of a hundred in the table. More is better in the first and the last, less in the others."""


@dataclass(frozen=True)
class Setting:
    """Runs with one penalty and without, in the order of the seeds that both have."""

    name: str
    penalty: str  # the method and the options in which several differ, as in tools.compare
    replay: list[Summary]
    trust_region: list[Summary]

    def differences(self, measure: Callable[[Summary], float]) -> np.ndarray:
        """Trust region less replay, one number a seed."""
        return np.array([measure(a) - measure(b) for a, b in zip(self.trust_region, self.replay, strict=True)])


def main() -> None:
    """Exit code 2 and one line for input that cannot be compared."""
    arguments = _arguments()
    try:
        settings = [setting for folder in arguments.settings for setting in read_settings(Path(folder))]
        report(settings, Path(arguments.output))
    except (ValueError, OSError) as error:
        commandline.report(error)
        raise SystemExit(commandline.ERROR) from None


def read_settings(folder: Path) -> list[Setting]:
    """The runs in a folder, for each penalty; ValueError where they are not pairs of one setting."""
    files = sorted([*folder.glob("*/summary.json"), *(f for f in folder.glob("*.json") if f.name != "summary.json")])
    runs = [read(file) for file in files]
    for file, run in zip(files, runs, strict=True):
        if not run.get("probes"):
            raise ValueError(f"{file}: holds no probes, so no dip can be read; run it with evaluation.probe_rollouts")
    if len({run.get("replay") for run in runs}) > 1:
        raise ValueError(f"{folder}: runs differ in replay; keep one setting in one folder")
    try:
        groups = group(runs)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    free = [name for name, held in groups.items() if held[0].get("fisher", "none") == "none"]
    if len(free) > 1:
        raise ValueError(f"{folder}: {' and '.join(free)} are both without a Fisher penalty; keep one of them")
    without = {run["seed"]: run for name in free for run in groups.pop(name)}
    settings = []
    for name, held in groups.items():
        if pairs := [(without[run["seed"]], run) for run in held if run["seed"] in without]:
            settings.append(Setting(folder.name, name, *map(list, zip(*pairs, strict=True))))
    if not settings:
        raise ValueError(f"{folder}: no seed has a run with a Fisher penalty and one without; add the missing one")
    return settings


def report(settings: Sequence[Setting], output: Path) -> None:
    """Write `stress.md`, `stress.csv` and `stress.png` into `output`; print the table."""
    rows = []
    for setting in settings:
        for name, measure in MEASURES.items():
            row = {"setting": setting.name, "penalty": setting.penalty}
            row |= {"seeds": str(len(setting.replay)), "measure": name}
            row |= {key: interval([measure(r) for r in runs]) for key, runs in _sides(setting).items()}
            rows.append({**row, "difference": interval(list(setting.differences(measure)))})
    text = "Points of a hundred; means over seeds with 95 % bootstrap intervals, differences paired by seed.\n\n"
    write_text(output / "stress.md", text + markdown(rows))
    write_text(output / "stress.csv", comma_separated(rows))
    plot_differences(output / "stress.png", _differences(settings))
    print(text + markdown(rows))


def _sides(setting: Setting) -> dict[str, list[Summary]]:
    return {"replay": setting.replay, "trust region": setting.trust_region}


def _differences(settings: Sequence[Setting]) -> dict[str, list[tuple[str, list[float], tuple[float, float] | None]]]:
    """For each measure, by setting: the difference of every seed in points, and their interval."""
    found = {}
    for name, measure in MEASURES.items():
        rows = []
        for setting in settings:
            points = 100 * setting.differences(measure)
            ends = bootstrap(points, np.random.default_rng(0)) if len(points) > 1 else None
            rows.append((f"{setting.name}: {setting.penalty}", list(points), ends))
        found[name] = rows
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.stress", description=__doc__)
    parser.add_argument("settings", nargs="+", help="folders, each with the runs of one setting")
    parser.add_argument("--output", default="stress", help="folder for the table and the figure (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
