"""Batched simulation: many episodes of one task behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from threading import local
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np

from reconverge.envs.cameras import View
from reconverge.envs.suites import forget_simulator, make_simulator
from reconverge.envs.task import Task
from reconverge.envs.workers import WorkerError, Workers, available_cores
from reconverge.errors import ReconvergeError

TIMEOUT = 120.0  # seconds that a job may take before it counts as hanging
STEPS_A_JOB = 16  # control steps, beside which Python's share of a job is small


class SimulationError(ReconvergeError):
    """A simulation failed or hangs; names the task and the seed."""


class Advanced(NamedTuple):
    """What `VectorEnv.advance` returns for n slots."""

    observations: np.ndarray  # [n, Ta, Do] after every step that was taken
    steps: np.ndarray  # [n] control steps that were taken
    success: np.ndarray  # [n]
    diverged: np.ndarray  # [n] a failed simulation, not a success


def check_actions(task: Task, actions: np.ndarray, axes: int) -> None:
    """Raise ReconvergeError for actions [..., Da] of another number of axes or entries, which
    native code would read beyond, or that are not finite: MuJoCo would set all controls to 0.
    """
    if np.ndim(actions) != axes or np.shape(actions)[-1] != task.action_size:
        raise ReconvergeError(
            f"{task.name}: actions of shape {np.shape(actions)}; give [{task.action_size}] each"
        )
    if not np.isfinite(actions).all():
        raise ReconvergeError(f"{task.name}: an action is not finite; give numbers from -1 to 1")


class VectorEnv:
    """Episodes of one task in `slots`, stepped by `workers` threads (default: one a processor
    core).

    Stepping is native and holds no interpreter lock. An episode depends on its seed and its actions
    alone, not on the slot, the number of slots or the number of workers. Methods raise
    SimulationError, which names the seed, for a simulation that raises or does not come back within
    `timeout` seconds. MuJoCo's fatal errors (out of memory) end the process. Actions are given in
    the task's input frame.

    With a `view`, `look` returns pictures; every worker draws in a context of its own. Of a task
    with `sight` observations hold features of pictures, so that it goes step by step.
    """

    stride: int | None = None  # the most control steps of one `advance` in a rollout; None: a chunk

    def __init__(
        self,
        task: Task,
        slots: int,
        workers: int | None = None,
        timeout: float = TIMEOUT,
        view: View | None = None,
    ):
        if slots < 1 or (workers is not None and workers < 1):
            raise ReconvergeError(
                f"slots and workers must be at least 1, got {slots} and {workers}"
            )
        sight = task.sight
        self.task, self.view = task, sight.view if sight else view
        if self.view is not None:
            self.view.in_suite(task)  # before anything is made for a camera that there is not
        self.simulator = make_simulator(sight.told(task) if sight else task)
        if sight:
            self.stride = 1
            self._kept = sight.columns(task)
        self.episodes = [self.simulator.new_episode() for _ in range(slots)]
        self.workers = min(workers or available_cores(), slots)
        self._seeds = [-1] * slots
        self.pool = Workers(self.workers, timeout)
        finalize(self, self.pool.close).atexit = False  # also where nobody closes it
        self._of_thread = local()
        if self.view is not None:
            from reconverge.envs.render.painter import painters

            self._make_painter = painters(self.simulator, self.view)

    def __len__(self) -> int:
        return len(self.episodes)

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        """Start episodes from `seeds` in `slots`; return observations [n, Do]."""
        for slot, seed in zip(slots, seeds, strict=True):
            self._seeds[slot] = seed
        self._run(
            lambda slot, seed: self.simulator.reset(self.episodes[slot[0]], seed),
            [((slot,), seed) for slot, seed in zip(slots, seeds, strict=True)],
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
        done = self.advance(slots, np.asarray(actions)[:, None])
        return done.observations[:, 0], done.success, done.diverged

    def advance(
        self, slots: Sequence[int], chunks: np.ndarray, limits: Sequence[int] | None = None
    ) -> Advanced:
        """Advance each of `slots` by its actions in `chunks` [n, Ta, Da], at least one and at most
        `limits` [n] of them, until its episode succeeds or diverges.
        """
        n, length = chunks.shape[:2]
        if n != len(slots):
            raise ValueError(f"{self.task.name}: actions of {n} slots for {len(slots)}")
        check_actions(self.task, chunks, axes=3)
        most = np.minimum(length if limits is None else limits, np.full(n, length))
        if self.task.sight and length > 1:
            raise ValueError(f"{self.task.name}: pictures are taken step by step; give one action")
        size = self.simulator.task.observation_size
        observations = np.zeros((n, length, size), np.float32)
        steps = np.zeros(n, np.int64)

        def job(group: Sequence[int], rows: slice) -> None:
            episodes = [self.episodes[slot] for slot in group]
            observations[rows], steps[rows] = self.simulator.advance(
                episodes, chunks[rows], most[rows]
            )

        self._run(job, [(slots[rows], rows) for rows in self._shares(n, length)])
        episodes = [self.episodes[slot] for slot in slots]
        success = np.array([episode.success for episode in episodes], dtype=bool)
        diverged = np.array([episode.diverged for episode in episodes], dtype=bool)
        if self.task.sight:
            observations = self._with_features(observations[:, 0], slots)[:, None]
        return Advanced(observations, steps, success, diverged)

    def observe(self, slots: Sequence[int]) -> np.ndarray:
        """Return flat observations [n, Do] of `slots`."""
        flat = self.simulator.observe([self.episodes[slot] for slot in slots])
        return self._with_features(flat, slots) if self.task.sight else flat

    def _with_features(self, flat: np.ndarray, slots: Sequence[int]) -> np.ndarray:
        """Return the observations of a task with sight, of the simulator's own [n, Do]."""
        features = self.task.sight.features(self.look(slots))
        return np.concatenate([flat[:, self._kept], features], axis=1)

    def look(self, slots: Sequence[int]) -> np.ndarray:
        """Return pictures [n, cameras, size, size, 3] of the episodes in `slots` as they are now,
        uint8, RGB, upright, in the order of the view's cameras.
        """
        pictures = np.empty((len(slots), *self._seen().shape), np.uint8)

        def job(group: Sequence[int], row: int) -> None:
            self._painter().draw(self.episodes[group[0]], pictures[row])

        self._run(job, [((slot,), row) for row, slot in enumerate(slots)])
        return pictures

    @cached_property
    def picture_facts(self) -> dict[str, Any]:
        """What pictures depend on beside the episode, for stores and checkpoints: JSON's types."""
        self._seen()
        facts: list[dict[str, Any]] = []
        self._run(lambda _, found: found.append(self._painter().facts), [((0,), facts)])
        return facts[0]

    def _seen(self) -> View:
        """Return the view; ReconvergeError if there is none."""
        if self.view is None:
            raise ReconvergeError(f"{self.task.name}: no pictures without a view=View(cameras)")
        return self.view

    def _painter(self) -> Any:
        """Return the calling worker's painter."""
        if not hasattr(self._of_thread, "painter"):
            self._of_thread.painter = self._make_painter()
            self.pool.at_end(self._of_thread.painter.close)
        return self._of_thread.painter

    def close(self) -> None:
        """Stop the worker threads."""
        self.pool.close()

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _shares(self, n: int, length: int) -> list[slice]:
        """Return rows of n slots for as many jobs as each worker can do alike, of STEPS_A_JOB
        control steps at least where there are as many.
        """
        jobs = self.workers * max(1, n * length // (self.workers * STEPS_A_JOB))
        size = -(-n // jobs)
        return [slice(i, i + size) for i in range(0, n, size)]

    def _run(self, function: Callable[..., None], jobs: list[tuple[Sequence[int], Any]]) -> None:
        """Let the workers do the jobs, whose first argument is their slots."""
        slots = [slot for job in jobs for slot in job[0]]
        if len({*slots}) < len(slots) or min(slots, default=0) < 0:  # two threads in one episode
            raise ReconvergeError(f"{self.task.name}: slots {slots}: give each once, from 0 on")
        try:
            self.pool.run(function, jobs)
        except WorkerError as error:
            if isinstance(error.__cause__, ReconvergeError):  # which says all, as of no OpenGL
                raise error.__cause__ from error
            forget_simulator(self.simulator)
            seeds = ", ".join(str(self._seeds[slot]) for slot in error.slots)
            raise SimulationError(
                f"{self.task.name}: simulation of seed {seeds} failed: {error}"
            ) from error
