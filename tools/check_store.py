"""Look through demonstration stores: `python -m tools.check_store store=demonstrations/lift.zarr
playback=10`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.datasets.checks import Bounds, Dimension, Finding, dimensions, findings
from reconverge.datasets.store import DemonstrationStore, StoreError
from reconverge.envs.suites import in_frame
from reconverge.envs.vector import VectorEnv
from reconverge.envs.workers import MOST_WORKERS
from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.demonstrations.fit import (
    bounds_of,
    check_meaning,
    input_frame,
    task_of,
    unplayable,
)
from reconverge.policy.demonstrations.playback import play_episodes
from reconverge.policy.runs.metrics import wilson
from reconverge.process import printable

SLOTS = 20  # episodes that are played back at the same time
EXIT_CODE = 1  # if a store should not be used as it is


@dataclass(frozen=True)
class CheckStoreOptions:
    """Look through demonstration stores."""

    store: list[str] = option([], "stores, or folders of stores: store=demonstrations", text="path")
    playback: int = option(
        0, "episodes of each store whose actions are played back in the simulator", at_least=0
    )
    dimensions: bool = option(True, "false: leave the table of dimensions out")
    workers: int | None = option(
        None, "simulation threads (default: all cores)", at_least=1, at_most=MOST_WORKERS
    )


COMMAND = Command(
    "check_store",
    "python -m tools.check_store store=demonstrations/lift.zarr playback=10",
    CheckStoreOptions,
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: CheckStoreOptions) -> None:
    """Print a report of every store; exit code 1 if anything is wrong with one."""
    console = Console()
    wrong = [path for path in find_stores(options.store) if not report(console, path, options)]
    if wrong:
        console.print(
            f"[red]something is wrong with {_plain(', '.join(map(str, wrong)))}[/red]",
            soft_wrap=True,
        )
        raise SystemExit(EXIT_CODE)


def find_stores(names: list[str]) -> list[Path]:
    """Return the named stores and those in the named folders; ReconvergeError for none."""
    if not names:
        raise ReconvergeError("store= is missing; give one or more stores, or a folder of them")
    found: list[Path] = []
    for path in map(Path, names):
        if not path.is_dir():
            raise ReconvergeError(
                f"store={path}: no directory; give a store, or a folder of stores (*.zarr)"
            )
        is_store = any((path / file).exists() for file in ("zarr.json", ".zgroup"))
        inside = [path] if is_store else sorted(path.glob("*.zarr"))
        if not inside:
            raise ReconvergeError(
                f"store={path}: is no store and holds none (*.zarr); "
                "give a store, or a folder of them"
            )
        found += inside
    return found


def report(console: Console, path: Path, options: CheckStoreOptions) -> bool:
    """Print the findings of the store at `path`; return True if nothing is wrong."""
    try:
        store = DemonstrationStore.open(path)
        input_frame(store)
    except StoreError as error:
        console.print(summary(str(path), [Finding("readable", True, str(error))]))
        return False
    if not len(store):
        console.print(summary(str(path), [Finding("episodes", True, "none")]))
        return False
    described = dimensions(store, declared_bounds(store))
    found = findings(store, described, timestamps(store))
    if task := task_of(store):
        found += check_meaning(store, task)
    if options.playback:
        found.append(play(store, options.playback, options.workers))
    console.print(summary(str(path), found))
    if options.dimensions:
        console.print(dimension_table(described))
    return not any(finding.wrong for finding in found)


def declared_bounds(store: DemonstrationStore) -> dict[str, Bounds]:
    """Return the bounds of the store's task, by key; actions are in [-1, 1]."""
    task = task_of(store)
    if task is None:
        return {}
    same = [key for key, size in task.sizes.items() if store.observation_sizes.get(key) == size]
    return bounds_of(task, same) | {
        "action": (np.full(store.action_size, -1.0), np.full(store.action_size, 1.0))
    }


def timestamps(store: DemonstrationStore) -> np.ndarray | None:
    """Return the seconds of every step, None if the store lacks them."""
    if store.attributes.get("extra_sizes", {}).get("timestamp") != 1:
        return None
    return store.read(["timestamp"])["timestamp"].ravel()


def play(store: DemonstrationStore, count: int, workers: int | None) -> Finding:
    """Play `count` episodes back; wrong if too few succeed again, or if it cannot be done."""
    task = task_of(store)
    if task is None:
        return Finding("playback", True, unplayable(store))
    try:
        with VectorEnv(in_frame(task, input_frame(store)), min(SLOTS, count), workers) as env:
            result = play_episodes(store, env, count)
    except StoreError as error:
        return Finding("playback", True, str(error))
    low, high = wilson(result.succeeded, result.recorded) if result.recorded else (0.0, 1.0)
    return Finding("playback", result.fails, f"{result}; 95 % interval {low:.0%} to {high:.0%}")


def summary(title: str, found: list[Finding]) -> Table:
    """Return a table with one row a check."""
    table = Table(title=_plain(title))
    for column in ("check", "", "found"):
        table.add_column(column, overflow="fold")
    for finding in found:
        table.add_row(
            finding.check, "[red]wrong[/red]" if finding.wrong else "", _plain(finding.text)
        )
    return table


def dimension_table(described: list[Dimension]) -> Table:
    """Return a table with one row a dimension."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("dimension", "least", "most", "mean", "bounds", "remark"):
        table.add_column(
            column, justify="left" if column in ("dimension", "remark") else "right", no_wrap=True
        )
    for d in described:
        bounds = "-" if d.bounds is None else f"{d.bounds[0]:.3g}..{d.bounds[1]:.3g}"
        table.add_row(
            _plain(d.name),
            *(f"{value:.2g}" for value in (d.least, d.most, d.mean)),
            bounds,
            _remark(d),
        )
    return table


def _plain(text: str) -> str:
    """Return a text that neither rich nor a terminal takes for more than that."""
    return escape(printable(text))


def _remark(d: Dimension) -> str:
    if d.outside:
        return f"[red]{d.outside} outside[/red]"
    if d.constant:
        return "constant"
    return "saturated" if d.saturated else ""


if __name__ == "__main__":
    main()
