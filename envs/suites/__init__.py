"""The table of suites, and the simulator of any task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from reconverge.envs.suites.libero.rows import LIBERO
from reconverge.envs.suites.metaworld.fifty import METAWORLD
from reconverge.envs.suites.robosuite.scene import ROBOSUITE
from reconverge.envs.suites.suite import Simulator
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError, unknown

LATEST = 3
"""Simulators that stay in memory: a run records demonstrations of its tasks, then evaluates."""
_latest: list[tuple[Task, Simulator]] = []


def _shared(task: Task, make: Callable[[Task], Simulator]) -> Simulator:
    """Return the simulator that was made lately for such a task, or make it."""
    task = replace(task, index=0, visit=1)
    for made, simulator in _latest:
        if made == task:
            return simulator
    simulator = make(task)
    _latest.append((task, simulator))
    del _latest[:-LATEST]
    return simulator


def forget_simulator(simulator: Simulator) -> None:
    """Do not give it again: a simulation in it failed, and a thread may hang there."""
    _latest[:] = [entry for entry in _latest if entry[1] is not simulator]


SUITES = {
    suite.name: replace(suite, make=partial(_shared, make=suite.make))
    for suite in (ROBOSUITE, METAWORLD, LIBERO)
}

STARTS = ("seeds", "official")


def in_frame(task: Task, input_frame: str) -> Task:
    """Return the task with actions in `input_frame`; ReconvergeError unless its suite has it."""
    legal = list(SUITES[task.suite].input_frames)
    if input_frame not in legal:
        raise unknown(f"input_frame of {task.name}", input_frame, legal)
    return replace(task, input_frame=input_frame)


def with_starts(task: Task, starts: str) -> Task:
    """Return the task with start states drawn from "seeds", or the suite's "official" ones.

    ReconvergeError where the suite has none.
    """
    if starts not in STARTS:
        raise unknown("starts", starts, STARTS)
    if starts == "official" and not SUITES[task.suite].official_starts:
        having = ", ".join(suite.name for suite in SUITES.values() if suite.official_starts)
        raise ReconvergeError(
            f"starts=official: {task.suite} ({task.name}) publishes none, only {having} does; "
            "leave it out"
        )
    return replace(task, starts=starts)


def make_simulator(task: Task) -> Simulator:
    """Return the simulator of a task, which any number of episodes and threads may share;
    ReconvergeError for an input frame that its suite lacks.
    """
    return SUITES[task.suite].make(in_frame(task, task.input_frame))
