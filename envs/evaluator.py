"""Rollouts of a whole task sequence: one batched simulator a task, made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envs.rollout import Actor, Rollout, rollout
from envs.tasks import Task
from envs.vector import VectorEnv


class Evaluator:
    """Runs actors on the tasks of a sequence, by index; `diverged` counts simulations that failed."""

    def __init__(self, tasks: Sequence[Task], slots: int, workers: int | None = None):
        self._tasks, self._slots, self._workers = tasks, slots, workers
        self._envs: dict[int, VectorEnv] = {}
        self.diverged = 0

    def on(self, seeds: Sequence[int]) -> Callable[[Actor, int], list[bool]]:
        """A function from an actor and a task to the success of the episodes of `seeds`, in order."""

        def evaluate(actor: Actor, task: int) -> list[bool]:
            return [result.success for result in self.rollouts(actor, task, seeds)]

        return evaluate

    def rollouts(self, actor: Actor, task: int, seeds: Sequence[int]) -> list[Rollout]:
        """One episode for each seed, in order."""
        results = rollout(self.env(task), actor, seeds)
        self.diverged += sum(result.diverged for result in results)
        return results

    def env(self, task: int) -> VectorEnv:
        """The simulator of a task."""
        if task not in self._envs:
            self._envs[task] = VectorEnv(self._tasks[task], self._slots, self._workers)
        return self._envs[task]
