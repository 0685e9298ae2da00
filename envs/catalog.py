"""The one table of tasks, and sequences of them by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reconverge.envs.suites.libero import rows as libero
from reconverge.envs.suites.libero.installation import require
from reconverge.envs.suites.metaworld import fifty
from reconverge.envs.suites.robosuite.can import CAN
from reconverge.envs.suites.robosuite.door import DOOR
from reconverge.envs.suites.robosuite.lift import LIFT
from reconverge.envs.suites.robosuite.pick_place import BREAD, CEREAL, MILK
from reconverge.envs.suites.robosuite.square import ROUND, SQUARE
from reconverge.envs.suites.robosuite.stack import STACK
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError, unknown

ROBOSUITE = (LIFT, CAN, SQUARE, MILK, BREAD, CEREAL, ROUND, STACK, DOOR)
ALWAYS = (*ROBOSUITE, *fifty.TASKS)  # LIBERO's come where it is installed
TASKS: dict[str, Task] = {task.name: task for task in ALWAYS} | libero.TASKS

ALIASES: dict[str, tuple[str, ...]] = {
    "robosuite": ("lift", "can", "square"),
    **fifty.SEQUENCES,
    **libero.SEQUENCES,
}
NAMES = (
    f"{', '.join(task.name for task in ALWAYS)}, or of LIBERO's by place or name, such as "
    "libero_object_0"
)
TASKS_MEANING = f"one or more of {NAMES}; {', '.join(ALIASES)} stand for sequences"


def simulated_by(simulator: str | None) -> Task | None:
    """Return the task of a simulator's environment ("Lift"), None if no task uses it."""
    return next((task for task in TASKS.values() if task.simulator == simulator), None)


def find_task(name: str) -> Task | None:
    """Return the task of that name, or of LIBERO's official name; None if there is none."""
    return TASKS.get(libero.OFFICIAL.get(name, name))


def get_task(name: str) -> Task:
    """Return the task of that name or, as in `lift_2`, a later visit to it.

    LIBERO's tasks are known by their official names too. Raises ReconvergeError for an unknown
    name, and for a task of LIBERO where it is not installed.
    """
    if found := find_task(name):
        return found
    first, _, visit = name.rpartition("_")
    if first in TASKS and visit.isdecimal() and int(visit) > 1:
        return replace(TASKS[first], visit=int(visit))
    if any(name in names for names in libero.SEQUENCES.values()):
        require(name)
    listed = [*(each for each in TASKS if each not in libero.TASKS), *ALIASES]
    raise unknown("task", name, listed, more=[*libero.TASKS, *libero.OFFICIAL])


def widest(suite: str, sight: Any = None) -> tuple[int, int]:
    """Return the sizes of the largest observation, with this sight, and the largest action among a
    suite's tasks.
    """
    if suite == libero.LIBERO.name:
        require(suite)
    tasks = [task for task in TASKS.values() if task.suite == suite]
    if sight:
        tasks = [sight.of(task) for task in tasks]
    return max(task.observation_size for task in tasks), max(task.action_size for task in tasks)


def task_sequence(names: str | Sequence[str]) -> list[Task]:
    """Return tasks in learning order, from `"lift,can"` or a list, with aliases expanded.

    Each task's `index` is its place. Raises ReconvergeError if empty or repeated.
    """
    listed = names.split(",") if isinstance(names, str) else [str(name) for name in names]
    listed = [name.strip() for name in listed if name.strip()]
    expanded = [task for name in listed for task in ALIASES.get(name, (name,))]
    if not expanded:
        raise ReconvergeError(f"env= names no task; give {TASKS_MEANING}")
    tasks = [replace(get_task(name), index=i) for i, name in enumerate(expanded)]
    labels = [task.label for task in tasks]  # one task may have several names
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ReconvergeError(f"env= repeats {', '.join(repeated)}; name every task once")
    return tasks
