"""Where the penalty helps: the trust region against replay alone under stress. `python -m tools.stress runs/stress/*`.

Each folder is one setting and holds its runs (or their summary.json files): the same seeds with a Fisher penalty and
without. Differences are paired by seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs import commandline
from policy.metrics import bootstrap
from policy.plots import plot_differences
from tools.compare import Summary, comma_separated, interval, markdown, read, write_text

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
    """Runs with the penalty and without, in the order of the seeds that both have."""

    name: str
    replay: list[Summary]
    trust_region: list[Summary]

    def differences(self, measure: Callable[[Summary], float]) -> np.ndarray:
        """Trust region less replay, one number a seed."""
        return np.array([measure(a) - measure(b) for a, b in zip(self.trust_region, self.replay, strict=True)])


def main() -> None:
    """Exit code 2 and one line for input that cannot be compared."""
    arguments = _arguments()
    try:
        settings = [read_setting(Path(folder)) for folder in arguments.settings]
        report(settings, Path(arguments.output))
    except (ValueError, OSError) as error:
        commandline.report(error)
        raise SystemExit(commandline.ERROR) from None


def read_setting(folder: Path) -> Setting:
    """The runs in a folder; ValueError where they are not pairs of one setting."""
    files = sorted([*folder.glob("*/summary.json"), *(f for f in folder.glob("*.json") if f.name != "summary.json")])
    runs = [read(file) for file in files]
    held = {run["seed"]: run for run in runs if run.get("fisher", "none") != "none"}
    free = {run["seed"]: run for run in runs if run.get("fisher", "none") == "none"}
    if len(held) + len(free) < len(runs):
        raise ValueError(f"{folder}: two runs have one seed and one kind of method; leave one out")
    seeds = sorted(held.keys() & free.keys())
    if not seeds:
        raise ValueError(f"{folder}: no seed has a run with a Fisher penalty and one without; add the missing one")
    for name in ("tasks", "updates_per_task", "n_rollouts", "replay", "evaluation_seeds"):
        if len({str(run.get(name)) for run in runs}) > 1:
            raise ValueError(f"{folder}: runs differ in {name}; keep one setting in one folder")
    return Setting(folder.name, [free[seed] for seed in seeds], [held[seed] for seed in seeds])


def report(settings: Sequence[Setting], output: Path) -> None:
    """Write `stress.md`, `stress.csv` and `stress.png` into `output`; print the table."""
    rows = []
    for setting in settings:
        for name, measure in MEASURES.items():
            row = {"setting": setting.name, "seeds": str(len(setting.replay)), "measure": name}
            row |= {key: interval([measure(r) for r in runs]) for key, runs in _sides(setting).items()}
            rows.append({**row, "difference": interval(list(setting.differences(measure)))})
    output.mkdir(parents=True, exist_ok=True)
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
            rows.append((setting.name, list(points), ends))
        found[name] = rows
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.stress", description=__doc__)
    parser.add_argument("settings", nargs="+", help="folders, each with the runs of one setting")
    parser.add_argument("--output", default="stress", help="folder for the table and the figure (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
