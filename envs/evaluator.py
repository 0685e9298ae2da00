"""Rollouts of a whole task sequence: one batched simulator a task, made when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from envs.rollout import Actor, Rollout, rollout
from envs.tasks import Task
from envs.vector import VectorEnv


class Evaluator:
    """Runs actors on the tasks of a sequence, by index. `input_frames`: of tasks that are not acted on in "base"."""

    def __init__(
        self,
        tasks: Sequence[Task],
        slots: int,
        workers: int | None = None,
        input_frames: Mapping[str, str] = MappingProxyType({}),
    ):
        self._tasks, self._slots, self._workers, self._frames = tasks, slots, workers, input_frames
        self._envs: dict[int, VectorEnv] = {}

    def rollouts(self, actor: Actor, task: int, seeds: Sequence[int]) -> list[Rollout]:
        """One episode for each seed, in order."""
        return rollout(self.env(task), actor, seeds)

    def close(self) -> None:
        """Stop the simulators' threads."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def env(self, task: int) -> VectorEnv:
        """The simulator of a task."""
        if task not in self._envs:
            frame = self._frames.get(self._tasks[task].label, "base")
            self._envs[task] = VectorEnv(self._tasks[task], self._slots, self._workers, input_frame=frame)
        return self._envs[task]
