"""Batched simulation: many episodes of one task behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reconverge.envs.suites import make_simulator
from reconverge.envs.task import Task
from reconverge.envs.workers import WorkerError, Workers, available_cores
from reconverge.errors import ReconvergeError

TIMEOUT = 120.0  # seconds that a control step or a reset may take before it counts as hanging


class SimulationError(ReconvergeError):
    """A simulation failed or hangs; names the task and the seed."""


def check_action(task: Task, action: np.ndarray) -> None:
    """Raise ValueError for another number of entries: native code would read beyond them."""
    if np.shape(action) != (task.action_size,):
        raise ValueError(
            f"{task.name}: an action of shape {np.shape(action)}; give [{task.action_size}]"
        )


class VectorEnv:
    """Episodes of one task in `slots`, stepped by `workers` threads (default: one a processor
    core).

    Stepping is native and holds no interpreter lock. An episode depends on its seed and its actions
    alone, not on the slot, the number of slots or the number of workers. Methods raise
    SimulationError, which names the seed, for a simulation that raises or does not come back within
    `timeout` seconds. MuJoCo's fatal errors (out of memory) end the process. Actions are given in
    the task's input frame.
    """

    def __init__(
        self, task: Task, slots: int, workers: int | None = None, timeout: float = TIMEOUT
    ):
        if slots < 1 or (workers is not None and workers < 1):
            raise ReconvergeError(
                f"slots and workers must be at least 1, got {slots} and {workers}"
            )
        self.task = task
        self.simulator = make_simulator(task)
        self.episodes = [self.simulator.new_episode() for _ in range(slots)]
        self.workers = min(workers or available_cores(), slots)
        self._seeds = [-1] * slots
        self.pool = Workers(self.workers, timeout)

    def __len__(self) -> int:
        return len(self.episodes)

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Start episodes from `seeds` in `slots`; return observations [n, Do]."""
        for slot, seed in zip(slots, seeds, strict=True):
            self._seeds[slot] = seed
        self._run(
            lambda slot, seed: self.simulator.reset(self.episodes[slot], seed),
            zip(slots, seeds, strict=True),
        )
        return self.observe(slots)

    def restore(self, slots: Sequence[int], states: Sequence[np.ndarray]) -> np.ndarray:
        """Start episodes from recorded states (`RobosuiteSimulator.restore`) in `slots`; return
        observations [n, Do].
        """
        for slot in slots:
            self._seeds[slot] = -1
        for slot, state in zip(slots, states, strict=True):
            self.simulator.restore(self.episodes[slot], state)
        return self.observe(slots)

    def step(
        self, slots: Sequence[int], actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Advance one control step; return observations [n, Do], success [n], diverged [n] (a
        failed simulation, not a success).
        """
        for action in actions:
            check_action(self.task, action)
        self._run(
            lambda slot, action: self.simulator.step(self.episodes[slot], action),
            zip(slots, actions, strict=True),
        )
        episodes = [self.episodes[slot] for slot in slots]
        success = np.array([episode.success for episode in episodes], dtype=bool)
        diverged = np.array([episode.diverged for episode in episodes], dtype=bool)
        return self.simulator.observe(episodes), success, diverged

    def observe(self, slots: Sequence[int]) -> np.ndarray:
        """Return flat observations [n, Do] of `slots`."""
        return self.simulator.observe([self.episodes[slot] for slot in slots])

    def close(self) -> None:
        """Stop the worker threads."""
        self.pool.close()

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _run(self, function: Callable[..., None], jobs) -> None:
        try:
            self.pool.run(function, jobs)
        except WorkerError as error:
            seeds = ", ".join(str(self._seeds[slot]) for slot in error.slots)
            raise SimulationError(
                f"{self.task.name}: simulation of seed {seeds} failed: {error}"
            ) from error
