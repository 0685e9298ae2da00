"""Many episodes of a task at once through gymnasium's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from reconverge.envs.cameras import View
from reconverge.envs.catalog import get_task
from reconverge.envs.gymnasium_env import (
    Pictures,
    check_render_mode,
    check_reset_options,
    draw_seed,
    make_action_space,
    make_metadata,
    make_observation_space,
    named,
)
from reconverge.envs.suites import in_frame
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError


class TaskVectorEnv(gymnasium.vector.VectorEnv):
    """The episodes of `num_envs` TaskEnvs, stepped natively by `workers` threads (None: all cores).

    Bit for bit what gymnasium's SyncVectorEnv of them returns. In the step after an episode's last
    one its action is not used, and the next episode begins. `max_episode_steps`: None for the
    task's own, -1 for no limit.
    """

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        input_frame: str = "base",
        render_mode: str | None = None,
        camera: str | None = None,
        width: int = 480,
        height: int = 360,
        max_episode_steps: int | None = None,
        workers: int | None = None,
        view: View | None = None,
    ):
        self.task = in_frame(get_task(task), input_frame)
        self.render_mode = check_render_mode(render_mode)
        self.metadata = {**make_metadata(self.task), "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.num_envs = num_envs
        self.single_action_space = make_action_space(self.task)
        self.single_observation_space = make_observation_space(self.task, view)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        limit = self.task.max_steps if max_episode_steps is None else max_episode_steps
        self.max_steps = np.inf if limit == -1 else limit
        if limit < 1 and limit != -1:
            raise ReconvergeError(f"max_episode_steps={limit}: give a whole number above 0, or -1")
        self.env = VectorEnv(self.task, num_envs, workers, view=view)
        self._pictures = Pictures(self.env.simulator, camera, width, height)
        self._streams = [np_random()[0] for _ in range(num_envs)]
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, bool)
        self._begun = np.zeros(num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ):
        """Start all episodes, or with `options={"reset_mask": ...}` [n] those that are true."""
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        check_reset_options(options)
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs or mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ReconvergeError(
                f"{len(seed)} seeds and a reset_mask of {mask.dtype} {list(mask.shape)}: give one "
                f"seed, and one truth value, for each of {self.num_envs} environments"
            )
        slots = np.flatnonzero(mask).tolist()
        for slot in slots:
            if seed[slot] is not None:
                self._streams[slot] = np_random(seed[slot])[0]
        infos = self._begin(slots, [seed[slot] for slot in slots], {})
        return self._observations(), infos

    def step(self, actions: np.ndarray):
        """Advance the episodes one control step, and begin new ones where they have ended."""
        if not self._begun.all():
            raise gymnasium.error.ResetNeeded("call reset before step")
        if len(actions) != self.num_envs:
            raise ReconvergeError(f"{len(actions)} actions for {self.num_envs} environments")
        begun, slots = (np.flatnonzero(which).tolist() for which in (self._ended, ~self._ended))
        success, diverged = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        if slots:
            _, success[slots], diverged[slots] = self.env.step(slots, np.asarray(actions)[slots])
        self._steps += 1
        infos: dict[str, Any] = {}
        for slot in slots:
            info = {"success": bool(success[slot]), "diverged": bool(diverged[slot])}
            infos = self._add_info(infos, info, slot)
        infos = self._begin(begun, [None] * len(begun), infos)
        truncated = diverged | (self._steps >= self.max_steps)
        self._ended = success | truncated
        return self._observations(), success.astype(float), success.copy(), truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return a picture [height, width, 3] of every episode, or None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn('nothing is rendered without render_mode="rgb_array"')
            return None
        return tuple(self._pictures.take(episode) for episode in self.env.episodes)

    def close_extras(self, **_: Any) -> None:
        """Free the camera, stop the threads."""
        self._pictures.close()
        self.env.close()

    def _begin(
        self, slots: list[int], seeds: list[int | None], infos: dict[str, Any]
    ) -> dict[str, Any]:
        """Begin episodes in `slots`, from a slot's own stream where no seed is given."""
        drawn = [
            draw_seed(self._streams[slot]) if seed is None else seed
            for slot, seed in zip(slots, seeds, strict=True)
        ]
        if slots:
            self.env.reset(slots, drawn)
        self._steps[slots], self._ended[slots], self._begun[slots] = 0, False, True
        for slot, seed in zip(slots, drawn, strict=True):
            infos = self._add_info(infos, {"seed": seed}, slot)
        return infos

    def _observations(self) -> dict[str, np.ndarray]:
        slots, pictures = range(self.num_envs), {}
        if self.env.view is not None:
            by_camera = self.env.look(slots).swapaxes(0, 1)
            pictures = dict(zip(self.env.view.cameras, by_camera, strict=True))
        return named(self.task, self.env.observe(slots), pictures)
