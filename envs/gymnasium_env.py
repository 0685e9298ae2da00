"""One episode at a time through gymnasium's interface."""

from __future__ import annotations

import gymnasium
import numpy as np

from reconverge.envs.catalog import get_task
from reconverge.envs.suites import in_frame, make_simulator
from reconverge.envs.vector import check_action


class TaskEnv(gymnasium.Env):
    """A task as a gymnasium environment, for instance `TaskEnv("lift")` or `TaskEnv("push-wall")`.

    Actions in [-1, 1]. robosuite [7]: change of the gripper's position (0.05 m for 1) and
    orientation (0.5 rad for 1) in the robot's base frame, or with `input_frame="world"` in the
    world's, then the gripper (positive closes), 20 steps a second. Meta-World [4]: change of the
    hand's target (0.01 m for 1), then the gripper's effort, 80 steps a second. The episode
    terminates on success with reward 1. `reset(seed=s)` gives the same state for the same s in any
    process.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, task: str, input_frame: str = "base"):
        self.task = in_frame(get_task(task), input_frame)
        self.simulator = make_simulator(self.task)
        self.episode = self.simulator.new_episode()
        self._steps = 0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.task.action_size,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {
                key: gymnasium.spaces.Box(
                    np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32
                )
                for key, (low, high) in self.task.observations.items()
            }
        )

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        state_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        self.simulator.reset(self.episode, state_seed)
        self._steps = 0
        return self._observation(), {"seed": state_seed}

    def step(self, action):
        check_action(self.task, action)
        self.simulator.step(self.episode, action)
        self._steps += 1
        success, diverged = self.episode.success, self.episode.diverged
        truncated = diverged or self._steps >= self.task.max_steps
        info = {"success": success, "diverged": diverged}
        return self._observation(), float(success), success, truncated, info

    def _observation(self) -> dict[str, np.ndarray]:
        return self.task.split(self.simulator.observe([self.episode])[0])
