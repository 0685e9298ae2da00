"""Does a store fit a task: its name, the sizes and frame of its numbers, how its episodes began."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from reconverge.datasets.checks import Bounds, Finding, check_actions, dimensions
from reconverge.datasets.formats.env_args import convention
from reconverge.datasets.formats.exchange import dictionary
from reconverge.datasets.layout import StoreWarning
from reconverge.datasets.store import DemonstrationStore, StoreError
from reconverge.envs.catalog import TASKS, find_task, simulated_by
from reconverge.envs.render.sight import numbers_of
from reconverge.envs.suites import SUITES, in_frame
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError

SIMULATORS = ("mujoco", "robosuite", "metaworld", "rpent-libero")  # the last one where it is
CLIPPED_SHARE = 0.05  # of steps beyond a bound, from which on a store's units may be others
STATES = "states"  # array of robosuite's flattened states, one a step


def simulator_versions() -> dict[str, str]:
    """Return the versions of the simulators that are installed."""
    found = {}
    for name in SIMULATORS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def task_of(store: DemonstrationStore) -> Task | None:
    """Return the task that a store names, or whose environment its `env_args` name; that of its
    file name if it has neither.
    """
    if "task" in store.attributes:
        return find_task(str(store.attributes["task"]))
    environment = dictionary(store.attributes, "env_args").get("env_name")
    if environment is not None:
        return simulated_by(environment)
    return find_task(store.path.stem)


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


def misfit(attributes: Mapping[str, Any], task: Task) -> str:
    """Say in a line in what the actions of these attributes are of another convention than the
    task's; "" if in nothing that is recorded.
    """
    wanted = {"control_hz": SUITES[task.suite].control_hz, **SUITES[task.suite].convention}
    found = {"control_hz": attributes.get("fps"), **convention(dictionary(attributes, "env_args"))}
    found |= dictionary(attributes, "convention")
    other = [
        name
        for name, value in found.items()
        if value is not None and name in wanted and not _same(value, wanted[name])
    ]
    if not other:
        return ""
    theirs, ours = ({name: values[name] for name in other} for values in (found, wanted))
    return f"actions are of {_listed(theirs)}, {task.name} takes {_listed(ours)}"


def _same(found: Any, wanted: Any) -> bool:
    """Compare a name, or a number or list that numbers may stand for."""
    try:
        return bool(np.allclose(np.asarray(found, np.float64), np.asarray(wanted, np.float64)))
    except (TypeError, ValueError):
        return found == wanted


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def check_meaning(store: DemonstrationStore, task: Task) -> list[Finding]:
    """Look whether a store's actions are of the task's convention and in [-1, 1]."""
    found = misfit(store.attributes, task)
    return [
        Finding("convention", bool(found), found or "nothing recorded differs from the task's"),
        check_actions(store),
    ]


def _require_meaning(store: DemonstrationStore, task: Task) -> None:
    """Raise StoreError for another environment than the task's, and as `check_meaning` finds."""
    environment = dictionary(store.attributes, "env_args").get("env_name")
    if task_of(store) is None and environment not in (None, task.simulator):
        raise StoreError(
            f"{store.path}: is of the environment {environment!r}, {task.name} wants "
            f"{task.simulator!r}; name another store, or convert it with task={task.name}"
        )
    for finding in check_meaning(store, task):
        if finding.wrong:
            raise StoreError(
                f"{store.path}: {finding.text}; bring demonstrations of {task.name}'s convention, "
                "or turn these into it"
            )


def require_fit(store: DemonstrationStore, task: Task) -> None:
    """Raise StoreError unless a store from elsewhere has the task's observations and actions, of
    its convention and in [-1, 1].

    Warns of other versions of the simulators, and of observations that are clipped.
    """
    made_for = task_of(store)
    if made_for is not None and made_for.name != task.name:
        raise StoreError(
            f"{store.path}: is of {made_for.name}, wanted {task.name}; name another store"
        )
    recorded = store.attributes.get("versions", {})
    running = {name: made for name, made in simulator_versions().items() if name in recorded}
    store.require(action_size=task.action_size, versions=running)
    for key, size in numbers_of(task).items():
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
    _require_meaning(store, task)
    _warn_of_clipped(store, task)


def bounds_of(task: Task, keys: Collection[str]) -> dict[str, Bounds]:
    """Return the bounds of some of a task's observations, by key."""
    return {
        key: (np.array(low), np.array(high))
        for key, (low, high) in task.observations.items()
        if key in keys
    }


def _warn_of_clipped(store: DemonstrationStore, task: Task) -> None:
    """Warn of observations that are often beyond the task's bounds, where training clips them."""
    found = dimensions(store, bounds_of(task, numbers_of(task)))
    beyond = [d for d in found if d.outside > CLIPPED_SHARE * store.n_steps]
    if beyond:
        first = beyond[0]
        warnings.warn(
            f"{store.path}: {len(beyond)} numbers of the observations are beyond {task.name}'s "
            f"bounds in {CLIPPED_SHARE:.0%} of the steps or more, and are clipped: {first.name} is "
            f"in {first.least:.4g} to {first.most:.4g}, its bounds are {first.bounds}; is it in "
            f"{task.name}'s units and frame?",
            StoreWarning,
            2,
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
