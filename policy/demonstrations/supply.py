"""The demonstration stores of a run: found or recorded, and the same again when it goes on."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reconverge.datasets.layout import StoreWarning
from reconverge.datasets.store import EXPERT, DemonstrationStore, StoreError
from reconverge.envs.render.sight import learns_to_see, numbers_of
from reconverge.envs.seeds import DEMONSTRATION
from reconverge.envs.task import Task, require_experts
from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.demonstrations.encoding import (
    PICTURES_AT_ONCE,
    encoded,
    require_no_other,
    require_pictures,
)
from reconverge.policy.demonstrations.fit import require_fit
from reconverge.policy.demonstrations.scripted import collect_with_bar, store_path

Identities = dict[str, dict[str, Any]]
"""`identity` of the demonstrations of every task, by its name"""


@dataclass(frozen=True)
class DemonstrationOptions:
    """Where demonstrations are, and how the scripted experts make them where they are missing."""

    path: str = option(
        "demonstrations",
        "folder of the stores <task>.zarr; scripted experts make those that are missing",
        text="path",
    )
    episodes: int = option(
        200,
        "demonstrations of each task that experts record",
        at_least=1,
        at_most=len(DEMONSTRATION),
    )
    collect: bool = option(
        True, "true: experts record what is missing | false: all stores must be there"
    )
    noise: float = option(
        0.2,
        "standard deviation of the noise on the expert's executed actions, in units of the action",
        at_least=0,
        at_most=1,
    )


def identity(store: DemonstrationStore, task: Task, episodes: int) -> dict[str, Any]:
    """Return which demonstrations a run learns from: the first episodes of a store.

    `sha256` is of their observations and actions, wherever the store lies and however it grows.
    """
    ends = store.episode_ends[:episodes]
    steps = int(ends[-1]) if len(ends) else 0
    digest = hashlib.sha256(ends.tobytes())
    for name, rows in store.read([*numbers_of(task), "action"]).items():
        digest.update(f"{name} {rows.dtype} {rows[:steps].shape}".encode())
        digest.update(rows[:steps].tobytes())
    for camera in task.sight.view.cameras if learns_to_see(task) else ():
        digest.update(f"{camera} {store.pictures[camera]}".encode())
        for start in range(0, steps, PICTURES_AT_ONCE):
            stop = min(start + PICTURES_AT_ONCE, steps)
            digest.update(store.read_pictures(camera, start, stop).tobytes())
    return {
        **store.identity(),
        "episodes": len(ends),
        "sha256": digest.hexdigest(),
        "path": str(store.path.absolute()),
    }


def identities(
    stores: Mapping[str, DemonstrationStore],
    tasks: Sequence[Task],
    episodes: int,
    begun: Identities | None = None,
) -> Identities:
    """Return `identity` of the stores that there are, by the tasks' names.

    Of those that a run has `begun` with count as many episodes as they had.
    """
    return {
        task.name: identity(stores[task.name], task, _wanted(task, episodes, begun))
        for task in tasks
        if task.name in stores
    }


def find_stores(tasks: Sequence[Task], folder: Path) -> dict[str, DemonstrationStore]:
    """Open the tasks' stores in `folder` that exist, by the tasks' names.

    StoreError for one from elsewhere that does not fit its task.
    """
    found = {}
    for task in tasks:
        store = None if task.name in found else find_store(task, folder)
        if store is not None:
            found[task.name] = store
            if EXPERT not in store.attributes:
                require_fit(store, task)
    return found


def open_store(task: Task, folder: Path) -> DemonstrationStore:
    """Open the task's store; StoreError where there is none."""
    return find_store(task, folder) or DemonstrationStore.open(store_path(folder, task))


def find_store(task: Task, folder: Path) -> DemonstrationStore | None:
    """Open the task's store if there is one; one from elsewhere whose pictures are to be seen is
    encoded, or taken as it is by a policy that learns to see.
    """
    path, plain = store_path(folder, task), folder / f"{task.name}.zarr"
    source = DemonstrationStore.open(plain) if task.sight and _is_there(plain) else None
    if source is None or EXPERT in source.attributes:
        return DemonstrationStore.open(path) if _is_there(path) else None
    if not learns_to_see(task):
        return encoded(source, task, path)
    require_pictures(source, task)
    require_no_other(source, path)
    return source


def _is_there(path: Path) -> bool:
    """Whether there is a store; StoreError for a link to one that is gone."""
    if path.is_symlink() and not path.exists():
        raise StoreError(
            f"{path}: is a link to {path.readlink()}, which is not there; bring it back (is its "
            "disk mounted?), or delete the link"
        )
    return path.exists()


def require_same(found: Identities, begun: Identities, folder: Path) -> None:
    """Raise ReconvergeError where the demonstrations that a run began with are gone or others."""
    for name, was in begun.items():
        if name not in found:
            raise ReconvergeError(
                f"{folder / Path(was['path']).name}: is gone, and the run began with it "
                f"({_described(was)}); bring it back, or say where it is with "
                "demonstrations.path=<folder>"
            )
        now = found[name]
        if now["sha256"] != was["sha256"]:
            raise ReconvergeError(
                f"{folder / Path(was['path']).name}: holds other demonstrations "
                f"({_described(now)}) than those that the run began with ({_described(was)}); "
                "bring those back, or say where they are with demonstrations.path=<folder>"
            )


def require_all(
    tasks: Sequence[Task], found: Mapping[str, DemonstrationStore], folder: Path
) -> None:
    """Raise ReconvergeError, naming them all, where stores are missing and none may be made.

    StoreError for one that does not fit its task.
    """
    missing = [store_path(folder, task).name for task in tasks if task.name not in found]
    if missing:
        raise ReconvergeError(
            f"demonstrations.collect=false: {folder.absolute()} has no "
            f"{', '.join(missing)}; correct demonstrations.path, or "
            "let scripted experts record them with demonstrations.collect=true"
        )
    for name, task in {task.name: task for task in tasks}.items():
        if EXPERT in found[name].attributes:  # `find_stores` has looked at the others
            require_fit(found[name], task)


def warn_of_fewer(found: Identities, begun: Identities, episodes: int) -> None:
    """Warn of stores that our experts have not recorded to their end, unless a run has `begun`
    with them.
    """
    for name, one in found.items():
        held = one["episodes"]
        if one["origin"] == "scripted" and held < episodes and name not in begun:
            message = (
                f"{one['path']}: has {held} of demonstrations.episodes={episodes}, and "
                "demonstrations.collect=false records none; to learn from all of them, begin anew "
                "with demonstrations.collect=true"
            )
            warnings.warn(message, StoreWarning, 2)


def announce(tasks: Sequence[Task], found: Identities, folder: Path, episodes: int) -> None:
    """Print which demonstrations were found in `folder`, and which will be recorded there."""
    names = list(dict.fromkeys(task.name for task in tasks))
    there = [f"{name} ({_described(found[name])})" for name in names if name in found]
    missing = [name for name in names if name not in found]
    parts = [f"found {', '.join(there)}"] if there else []
    parts += [f"to be recorded ({episodes} each): {', '.join(missing)}"] if missing else []
    tqdm.write(f"demonstrations in {folder.absolute()}: {'; '.join(parts)}")


def complete(
    tasks: Sequence[Task],
    found: Mapping[str, DemonstrationStore],
    folder: Path,
    *,
    episodes: int,
    noise: float,
    workers: int | None,
    begun: Identities | None = None,
) -> list[DemonstrationStore]:
    """Return the store of every task, recorded by its expert where it is missing or too small.

    A store from elsewhere is taken as it is; one that a run has `begun` with need not grow beyond
    what it had. StoreError for one that another expert recorded,
    ReconvergeError, before any is made, where one is missing and its task has no expert.
    """
    stores = dict(found)
    require_experts([task for task in tasks if task.name not in stores], tasks)
    for task in tasks:
        if task.name not in stores or EXPERT in stores[task.name].attributes:
            held = len(stores[task.name]) if task.name in stores else 0
            wanted = _wanted(task, episodes, begun)
            stores[task.name] = collect_with_bar(
                task, folder, episodes=wanted, noise=noise, workers=workers, held=held
            )
    return [stores[task.name] for task in tasks]


def _wanted(task: Task, episodes: int, begun: Identities | None) -> int:
    """Return how many episodes of a task a run learns from."""
    return begun[task.name]["episodes"] if begun and task.name in begun else episodes


def _described(store: Mapping[str, Any]) -> str:
    origin = "scripted" if store["origin"] == "scripted" else "brought from elsewhere"
    return f"{store['episodes']} {origin}"
