"""Batched simulation: many episodes of one task behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from envs.tasks import Task
from envs.workers import WorkerError, Workers, available_cores

TIMEOUT = 120.0  # seconds after which a simulation that has not finished a control step or reset counts as hanging


class Simulator(Protocol):
    """What a suite offers for one task. Different episodes may be used in different threads.

    An episode has `data` (MuJoCo's), `success` and `diverged` (whether MuJoCo has found a bad state) after a step.
    """

    model: Any  # MuJoCo's
    task: Task

    @property
    def landmarks(self) -> dict[str, np.ndarray]: ...
    @property
    def versions(self) -> dict[str, str]: ...
    @property
    def fingerprint(self) -> dict[str, Any]: ...
    def new_episode(self) -> Any: ...
    def reset(self, episode: Any, seed: int) -> None: ...
    def restore(self, episode: Any, state: np.ndarray) -> None: ...
    def step(self, episode: Any, action: np.ndarray) -> None: ...
    def success(self, episode: Any) -> bool: ...
    def observe(self, episodes: list[Any]) -> np.ndarray: ...


class SimulationError(ValueError):
    """A simulation failed or hangs; names the task and the seed."""


def _robosuite(task: Task, input_frame: str = "base") -> Simulator:
    from envs.robosuite_tasks import RobosuiteSimulator

    return RobosuiteSimulator(task, input_frame)


def _metaworld(task: Task) -> Simulator:
    from envs.metaworld_tasks import MetaworldSimulator

    return MetaworldSimulator(task)


SUITES: dict[str, Callable[..., Simulator]] = {"robosuite": _robosuite, "metaworld": _metaworld}
INPUT_FRAMES = {"robosuite": ("base", "world")}  # of the suites that have a choice; "base" elsewhere


def make_simulator(task: Task, input_frame: str = "base") -> Simulator:
    """A simulator whose actions are given in `input_frame`; ValueError where its suite does not have that frame."""
    legal = INPUT_FRAMES.get(task.suite, ("base",))
    if input_frame not in legal:
        raise ValueError(f"{task.name}: unknown input_frame {input_frame!r}; choose from {', '.join(legal)}")
    return SUITES[task.suite](task, **({} if input_frame == "base" else {"input_frame": input_frame}))


def check_action(task: Task, action: np.ndarray) -> None:
    """ValueError for another number of entries: native code would read beyond them."""
    if np.shape(action) != (task.action_size,):
        raise ValueError(f"{task.name}: an action of shape {np.shape(action)}; give [{task.action_size}]")


class VectorEnv:
    """`slots` running episodes of one task, stepped by `workers` threads (default: one a processor core).

    Stepping is native and holds no interpreter lock. What an episode does depends on its seed and its actions alone,
    not on the slot, the number of slots or the number of workers. SimulationError, naming the seed, where a simulation
    raises or does not come back within `timeout` seconds. MuJoCo's fatal errors (out of memory) end the process.
    Actions are given in `input_frame`, the robot's "base" or, for robosuite, the "world".
    """

    def __init__(
        self,
        task: Task,
        slots: int,
        workers: int | None = None,
        timeout: float = TIMEOUT,
        input_frame: str = "base",
    ):
        if slots < 1 or (workers is not None and workers < 1):
            raise ValueError(f"slots and workers must be at least 1, got {slots} and {workers}")
        self.task = task
        self.simulator = make_simulator(task, input_frame)
        self.episodes = [self.simulator.new_episode() for _ in range(slots)]
        self.workers = min(workers or available_cores(), slots)
        self._seeds = [-1] * slots
        self._workers = Workers(self.workers, timeout)

    def __len__(self) -> int:
        return len(self.episodes)

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Start episodes from `seeds` in `slots`; observations [n, Do]."""
        for slot, seed in zip(slots, seeds, strict=True):
            self._seeds[slot] = seed
        self._run(lambda slot, seed: self.simulator.reset(self.episodes[slot], seed), zip(slots, seeds, strict=True))
        return self.observe(slots)

    def restore(self, slots: Sequence[int], states: Sequence[np.ndarray]) -> np.ndarray:
        """Start episodes from recorded states (`RobosuiteSimulator.restore`) in `slots`; observations [n, Do]."""
        for slot in slots:
            self._seeds[slot] = -1
        for slot, state in zip(slots, states, strict=True):
            self.simulator.restore(self.episodes[slot], state)
        return self.observe(slots)

    def step(self, slots: Sequence[int], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One control step: observations [n, Do], success [n], diverged [n] (a failed simulation, not a success)."""
        for action in actions:
            check_action(self.task, action)
        self._run(
            lambda slot, action: self.simulator.step(self.episodes[slot], action), zip(slots, actions, strict=True)
        )
        episodes = [self.episodes[slot] for slot in slots]
        success = np.array([episode.success for episode in episodes], dtype=bool)
        diverged = np.array([episode.diverged for episode in episodes], dtype=bool)
        return self.simulator.observe(episodes), success, diverged

    def observe(self, slots: Sequence[int]) -> np.ndarray:
        """Flat observations [n, Do] of `slots`."""
        return self.simulator.observe([self.episodes[slot] for slot in slots])

    def close(self) -> None:
        """Stop the worker threads."""
        self._workers.close()

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _run(self, function: Callable[..., None], jobs) -> None:
        try:
            self._workers.run(function, jobs)
        except WorkerError as error:
            seeds = ", ".join(str(self._seeds[slot]) for slot in error.slots)
            raise SimulationError(f"{self.task.name}: simulation of seed {seeds} failed: {error}") from error
