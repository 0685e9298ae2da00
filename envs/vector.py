"""Batched simulation: many episodes of one task behind one interface."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from envs.tasks import Task


def _robosuite(task: Task) -> Any:
    from envs.robosuite_tasks import RobosuiteSimulator

    return RobosuiteSimulator(task)


# A suite makes simulators with `new_episode`, `reset`, `step`, `success` and `observe`.
SUITES: dict[str, Callable[[Task], Any]] = {"robosuite": _robosuite}


class VectorEnv:
    """`slots` running episodes of one task, stepped by `workers` threads (default: one a processor core).

    Stepping is native and holds no interpreter lock. What an episode does depends on its seed and its actions alone,
    not on the slot, the number of slots or the number of workers.
    """

    def __init__(self, task: Task, slots: int, workers: int | None = None):
        if slots < 1 or (workers is not None and workers < 1):
            raise ValueError(f"slots and workers must be at least 1, got {slots} and {workers}")
        self.task = task
        self.simulator = SUITES[task.suite](task)
        self.episodes = [self.simulator.new_episode() for _ in range(slots)]
        self.workers = min(workers or os.cpu_count() or 1, slots)
        self._pool = ThreadPoolExecutor(self.workers) if self.workers > 1 else None

    def __len__(self) -> int:
        return len(self.episodes)

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Start episodes from `seeds` in `slots`; observations [n, Do]."""
        for slot, seed in zip(slots, seeds, strict=True):
            self.simulator.reset(self.episodes[slot], seed)
        return self.observe(slots)

    def step(self, slots: Sequence[int], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One control step: observations [n, Do], success [n], diverged [n] (a failed simulation, not a success)."""
        self._run(list(zip(slots, actions, strict=True)))
        episodes = [self.episodes[slot] for slot in slots]
        diverged = np.array([episode.diverged for episode in episodes])
        success = np.array([not bad and self.simulator.success(e) for e, bad in zip(episodes, diverged, strict=True)])
        return self.simulator.observe(episodes), success, diverged

    def observe(self, slots: Sequence[int]) -> np.ndarray:
        """Flat observations [n, Do] of `slots`."""
        return self.simulator.observe([self.episodes[slot] for slot in slots])

    def close(self) -> None:
        """Stop the worker threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _run(self, jobs: list[tuple[int, np.ndarray]]) -> None:
        if self._pool is None:
            self._step_all(jobs)
            return
        parts = [jobs[worker :: self.workers] for worker in range(self.workers)]
        for future in [self._pool.submit(self._step_all, part) for part in parts if part]:
            future.result()

    def _step_all(self, jobs: list[tuple[int, np.ndarray]]) -> None:
        for slot, action in jobs:
            self.simulator.step(self.episodes[slot], action)
