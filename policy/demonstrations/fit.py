"""Does a store fit a task: its name, the sizes and frame of its numbers, how its episodes began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from reconverge.datasets.store import DemonstrationStore, StoreError
from reconverge.envs.catalog import TASKS, simulated_by
from reconverge.envs.suites import SUITES, in_frame
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError

SIMULATORS = ("mujoco", "robosuite", "metaworld")
STATES = "states"  # array of robosuite's flattened states, one a step


def task_of(store: DemonstrationStore) -> Task | None:
    """Return the task that a store names, or whose environment its `env_args` name; else that of
    its file name.
    """
    if "task" in store.attributes:
        return TASKS.get(str(store.attributes["task"]))
    environment = store.attributes.get("env_args", {}).get("env_name")
    return simulated_by(environment) or TASKS.get(store.path.stem)


def input_frame(store: DemonstrationStore) -> str:
    """Return the frame of a store's actions: its attribute `input_frame`, "base" by default.

    Raises StoreError for a frame that the suite of its task does not have.
    """
    frame = store.attributes.get("input_frame", "base")
    try:
        in_frame(task_of(store) or TASKS["lift"], frame)
    except ReconvergeError as error:
        raise StoreError(f"{store.path}: {error}; convert it again") from error
    return frame


def in_frames_of(tasks: Sequence[Task], stores: Sequence[DemonstrationStore]) -> list[Task]:
    """Return the tasks with the input frames of their stores; StoreError as of `input_frame`."""
    pairs = zip(tasks, stores, strict=True)
    return [replace(task, input_frame=input_frame(store)) for task, store in pairs]


def require_fit(store: DemonstrationStore, task: Task) -> None:
    """Raise StoreError unless a store from elsewhere has the task's action and observations.

    Warns of other versions of the simulators.
    """
    made_for = task_of(store)
    if made_for is not None and made_for.name != task.name:
        raise StoreError(
            f"{store.path}: is of {made_for.name}, wanted {task.name}; name another store"
        )
    recorded = store.attributes.get("versions", {})
    running = {name: version(name) for name in SIMULATORS if name in recorded}
    store.require(action_size=task.action_size, versions=running)
    for key, size in task.sizes.items():
        found = store.observation_sizes.get(key)
        if found != size:
            has = "is missing" if found is None else f"has {found} numbers"
            raise StoreError(
                f"{store.path}: observation {key} {has}, {task.name} wants {size}; convert it again"
            )
    if not len(store):
        raise StoreError(
            f"{store.path}: has no episode; convert it again, or delete it to record demonstrations"
        )


def unplayable(store: DemonstrationStore) -> str:
    """Return in one line why a store's episodes cannot be played back, "" if they can."""
    task = task_of(store)
    if task is None:
        return "the store names no task that can be simulated"
    if any(store.observation_sizes.get(key) != size for key, size in task.sizes.items()):
        return f"the store lacks observations of {task.name}"
    if store.action_size != task.action_size:
        return (
            f"the store's actions have {store.action_size} numbers, "
            f"{task.name} wants {task.action_size}"
        )
    has_states = STATES in store.attributes.get("extra_sizes", {})
    if "seed" in store.scalars() or (has_states and SUITES[task.suite].restores_states):
        return ""
    return f"the store has neither meta/seed nor data/{STATES}, which say how an episode began"
