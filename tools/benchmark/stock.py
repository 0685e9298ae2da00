"""What users would otherwise step: robosuite's and metaworld's own environments, an episode for
each given seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from reconverge.envs.suites import make_simulator
from reconverge.envs.task import Task


class StockEnv(gymnasium.Env):
    """Episodes of the seeds in turn, each from the same start as ours; once they are used up, a
    step does nothing.

    Observations are those of the table of tasks, so that an expert sees what it sees in ours.
    """

    def __init__(self, task: Task, seeds: Sequence[int]):
        self.task = task
        self.observation_space = gymnasium.spaces.Box(task.low, task.high)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (task.action_size,), np.float64)
        self._waiting = list(seeds)[::-1]
        self._running = False
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        self._running, self._steps = bool(self._waiting), 0
        observation = (
            self.start(self._waiting.pop())
            if self._running
            else np.zeros(self.task.observation_size)
        )
        return np.clip(observation.astype(np.float32), self.task.low, self.task.high), {}

    def step(self, action):
        if not self._running:
            return self.task.low, 0.0, False, False, {}
        observation, success = self.advance(action)
        self._steps += 1
        clipped = np.clip(observation.astype(np.float32), self.task.low, self.task.high)
        return clipped, float(success), success, self._steps >= self.task.max_steps, {}

    def start(self, seed: int) -> np.ndarray:
        """Start an episode; its observation [Do]."""
        raise NotImplementedError

    def advance(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """One control step of the stock environment: observation [Do] and success."""
        raise NotImplementedError


class StockRobosuite(StockEnv):
    """robosuite's own stepping, observations and resets (soft unless `hard`)."""

    def __init__(self, task: Task, seeds: Sequence[int] = (), hard: bool = False):
        from reconverge.envs.suites.robosuite.model import make_robosuite

        super().__init__(task, seeds)
        self.env: Any = make_robosuite(task, hard_reset=hard)

    def start(self, seed: int) -> np.ndarray:
        initializer = self.env.placement_initializer
        self.env.rng = np.random.default_rng(seed)
        for sampler in getattr(initializer, "samplers", {"": initializer}).values():
            sampler.rng = self.env.rng
        return self._flat(self.env.reset())

    def advance(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        observation, reward, _, _ = self.env.step(action)
        return self._flat(observation), reward > 0.0  # sparse: the success condition

    def _flat(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        keys = ("object-state", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
        return np.concatenate([observation[key] for key in keys])


class StockLibero(StockEnv):
    """LIBERO's own stepping and observations, without pictures, for tasks whose objects of interest
    it observes: no regions.

    Its own resets build the scene anew (`hard`); else an episode is put where ours starts.
    """

    def __init__(self, task: Task, seeds: Sequence[int] = (), hard: bool = False):
        from reconverge.envs.suites.libero.model import make_libero

        super().__init__(task, seeds)
        self.env: Any = make_libero(task, lean=False, hard_reset=hard)
        self._ours: Any = None if hard else make_simulator(task)

    def start(self, seed: int) -> np.ndarray:
        if self._ours is None:
            return self._flat(self.env.reset())
        episode = self._ours.new_episode()
        self._ours.reset(episode, seed)
        self.env.reset()
        show_libero(self.env, episode)
        return self._flat(self.env._get_observations(force_update=True))

    def advance(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        observation, _, success, _ = self.env.step(action)
        return self._flat(observation), bool(success)

    def _flat(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([observation[key] for key in self.task.observations])


def show_libero(env: Any, episode: Any) -> None:
    """Put LIBERO's own environment into the state of our episode, fixtures too."""
    model, data = env.sim.model._model, episode.data
    for body in np.flatnonzero(episode.model.body_mocapid >= 0):
        place = episode.model.body_mocapid[body]
        model.body_pos[body], model.body_quat[body] = data.mocap_pos[place], data.mocap_quat[place]
    env.sim.set_state_from_flattened(np.concatenate([[0.0], data.qpos, data.qvel]))
    env.sim.forward()
    env.robots[0].part_controllers["right"].update_initial_joints(data.qpos[:7])


class StockMetaworld(StockEnv):
    """metaworld's own stepping, rewards and resets, with the random vectors that our seeds draw."""

    def __init__(self, task: Task, seeds: Sequence[int] = ()):
        from metaworld import _encode_task
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        super().__init__(task, seeds)
        self._class = ALL_V3_ENVIRONMENTS[task.simulator]
        self.env: Any = self._class()
        self._encode = partial(_encode_task, task.simulator)
        self._vectors = _random_vectors(task, seeds)

    def start(self, seed: int) -> np.ndarray:
        if seed not in self._vectors:
            self._vectors |= _random_vectors(self.task, [seed])
        vector = self._vectors[seed]
        content = {"env_cls": self._class, "rand_vec": vector, "partially_observable": False}
        self.env.set_task(self._encode(content))
        return self.env.reset()[0]

    def advance(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        observation, _, _, _, info = self.env.step(action)
        return observation, bool(info["success"])


def _random_vectors(task: Task, seeds: Sequence[int]) -> dict[int, np.ndarray]:
    """What our simulator draws from each seed."""
    simulator = make_simulator(task)
    episode = simulator.new_episode()
    found = {}
    for seed in seeds:
        simulator.reset(episode, seed)
        found[seed] = episode.env._last_rand_vec
    return found


STOCK: dict[str, Any] = {
    "robosuite": StockRobosuite,
    "metaworld": StockMetaworld,
    "libero": StockLibero,
}


def make_stock(task: Task, seeds: Sequence[int]) -> StockEnv:
    """For a process of its own, in which OPENBLAS_NUM_THREADS=1 is set: BLAS threads fight over 7 x
    7 matrices.
    """
    return STOCK[task.suite](task, seeds)
