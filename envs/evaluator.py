"""Rollouts of a whole task sequence: one batched simulator a task, made when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence

from reconverge.envs.rollout import Actor, Rollout, rollout
from reconverge.envs.task import Task
from reconverge.envs.vector import VectorEnv

MOST_OPEN = 12  # simulators in memory, of 70 to 250 MB each, or 400 to 500 with pictures


class Evaluator:
    """Rollouts of actors on the tasks of a sequence, named by their place in it.

    Of a longer sequence than MOST_OPEN the first simulators stay in memory, and the others take
    turns in one place.
    """

    def __init__(self, tasks: Sequence[Task], slots: int, workers: int | None = None):
        self._tasks, self._slots, self._workers = tasks, slots, workers
        self._envs: dict[int, VectorEnv] = {}

    def rollouts(self, actor: Actor, task: int, seeds: Sequence[int]) -> list[Rollout]:
        """Run one episode for each seed; return them in this order."""
        return rollout(self.env(task), actor, seeds)

    def close(self) -> None:
        """Stop the simulators' threads."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def env(self, task: int) -> VectorEnv:
        """Return the batched simulator of a task, good until that of another task is asked for."""
        if task not in self._envs:
            if len(self._envs) == MOST_OPEN:
                self._envs.popitem()[1].close()
            self._envs[task] = VectorEnv(self._tasks[task], self._slots, self._workers)
        return self._envs[task]
