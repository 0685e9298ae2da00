"""Look through demonstration stores: `python -m tools.check_store store=demonstrations/lift.zarr playback=10`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from configs import commandline
from datasets.checks import Bounds, Dimension, Finding, dimensions, findings
from datasets.store import DemonstrationStore, StoreError
from envs.vector import VectorEnv
from policy.metrics import wilson
from tools.playback import input_frame, play_episodes, task_of

SLOTS = 20  # episodes that are played back at the same time
WRONG = 1  # exit code where a store should not be used as it is


def main() -> None:
    commandline.run("check_store", run)


def run(config: DictConfig) -> None:
    """Print a report of every store; exit code 1 if anything is wrong with one."""
    if config.playback < 0:
        raise ValueError(f"playback={config.playback}: must be at least 0")
    if config.workers is not None and config.workers < 1:
        raise ValueError(f"workers={config.workers}: must be at least 1")
    console = Console()
    wrong = [path for path in find_stores(list(config.store)) if not report(console, path, config)]
    if wrong:
        console.print(f"[red]something is wrong with {', '.join(map(str, wrong))}[/red]", soft_wrap=True)
        raise SystemExit(WRONG)


def find_stores(names: list[str]) -> list[Path]:
    """The stores named, and those in the folders named; ValueError where there are none."""
    if not names:
        raise ValueError("store= is missing; give one or more stores, or a folder of them")
    found: list[Path] = []
    for path in map(Path, names):
        if not path.is_dir():
            raise ValueError(f"store={path}: no directory is there; give a store, or a folder of stores (*.zarr)")
        is_store = any((path / file).exists() for file in ("zarr.json", ".zgroup"))
        inside = [path] if is_store else sorted(path.glob("*.zarr"))
        if not inside:
            raise ValueError(f"store={path}: is no store and holds none (*.zarr); give a store, or a folder of them")
        found += inside
    return found


def report(console: Console, path: Path, config: DictConfig) -> bool:
    """Print what was found in the store at `path`; whether nothing is wrong."""
    try:
        store = DemonstrationStore.open(path)
        frame = input_frame(store)
    except StoreError as error:
        console.print(summary(str(path), [Finding("readable", True, str(error))]))
        return False
    if not len(store):
        console.print(summary(str(path), [Finding("episodes", True, "none")]))
        return False
    described = dimensions(store, declared_bounds(store))
    found = findings(store, described, timestamps(store))
    if config.playback:
        found.append(play(store, frame, config.playback, config.workers))
    console.print(summary(str(path), found))
    if config.dimensions:
        console.print(dimension_table(described))
    return not any(finding.wrong for finding in found)


def declared_bounds(store: DemonstrationStore) -> dict[str, Bounds]:
    """Those of the store's task; actions are in [-1, 1] there."""
    task = task_of(store)
    if task is None:
        return {}
    bounds = {key: (np.array(low), np.array(high)) for key, (low, high) in task.observations.items()}
    fitting = {key: pair for key, pair in bounds.items() if store.observation_sizes.get(key) == len(pair[0])}
    return fitting | {"action": (np.full(store.action_size, -1.0), np.full(store.action_size, 1.0))}


def timestamps(store: DemonstrationStore) -> np.ndarray | None:
    """Seconds of every step, where the store has them."""
    if store.attributes.get("extra_sizes", {}).get("timestamp") != 1:
        return None
    return store.read(["timestamp"])["timestamp"].ravel()


def play(store: DemonstrationStore, frame: str, count: int, workers: int | None) -> Finding:
    """Play `count` episodes back; wrong where too few succeed again, or where it cannot be done."""
    task = task_of(store)
    try:
        if task is None:
            raise StoreError("the store names no task that can be simulated")
        with VectorEnv(task, min(SLOTS, count), workers, input_frame=frame) as env:
            result = play_episodes(store, env, count)
    except StoreError as error:
        return Finding("playback", True, str(error))
    low, high = wilson(result.succeeded, result.recorded) if result.recorded else (0.0, 1.0)
    return Finding("playback", result.fails, f"{result}; 95 % interval {low:.0%} to {high:.0%}")


def summary(title: str, found: list[Finding]) -> Table:
    """One row a check."""
    table = Table(title=title)
    for column in ("check", "", "found"):
        table.add_column(column, overflow="fold")
    for finding in found:
        table.add_row(finding.check, "[red]wrong[/red]" if finding.wrong else "", finding.text)
    return table


def dimension_table(described: list[Dimension]) -> Table:
    """One row a dimension."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("dimension", "least", "most", "mean", "bounds", "remark"):
        table.add_column(column, justify="left" if column in ("dimension", "remark") else "right", no_wrap=True)
    for d in described:
        bounds = "-" if d.bounds is None else f"{d.bounds[0]:.3g}..{d.bounds[1]:.3g}"
        table.add_row(d.name, *(f"{value:.2g}" for value in (d.least, d.most, d.mean)), bounds, _remark(d))
    return table


def _remark(d: Dimension) -> str:
    if d.outside:
        return f"[red]{d.outside} outside[/red]"
    if d.constant:
        return "constant"
    return "saturated" if d.saturated else ""


if __name__ == "__main__":
    main()
