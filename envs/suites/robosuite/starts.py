"""Start states of robosuite's tasks, drawn from robosuite's own distributions."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np


class StartStates:
    """Where everything is at the start of an episode, a function of its seed.

    Not to be used in two threads at once: robosuite's samplers keep state of their own.
    """

    def __init__(self, env: Any, model: mujoco.MjModel, objects: Sequence[str]):
        robot = env.robots[0]
        self._robot = robot
        self._samplers = _light_samplers(env)
        self._start = np.concatenate([model.qpos0, np.zeros(7 * model.nmocap)])
        self._arm = robot._ref_joint_pos_indexes
        fingers = [env.sim.model.get_joint_qpos_addr(j) for j in robot.gripper["right"].joints]
        self.fingers = slice(fingers[0], fingers[-1] + 1)  # their joint positions
        self._places = {name: pose_slice(model, f"{name}_main") for name in objects}

    def draw(self, seed: int) -> np.ndarray:
        """Return joint positions, then positions and quaternions (w, x, y, z) of mocap bodies, as
        robosuite's reset draws them: joint noise first, then object placements.
        """
        rng = np.random.default_rng(seed)
        robot, noise = self._robot, self._robot.initialization_noise
        draw = (
            rng.standard_normal
            if noise["type"] == "gaussian"
            else lambda n: rng.uniform(-1.0, 1.0, n)
        )
        start = self._start.copy()
        start[self._arm] = robot.init_qpos + draw(len(robot.init_qpos)) * noise["magnitude"]
        start[self.fingers] = robot.gripper["right"].init_qpos
        placements: dict[str, Any] = {}
        for sampler in self._samplers:
            sampler.rng = rng
            placements = sampler.sample(fixtures=placements)
        for name, place in self._places.items():
            position, quaternion, _ = placements[name]
            start[place] = [*position, *quaternion]
        return start


def pose_slice(model: mujoco.MjModel, name: str) -> slice:
    """Return where the pose of a body is in a start: that of its free joint, or of a mocap body."""
    body = model.body(name)
    mocap = int(body.mocapid[0])
    first = model.nq + 7 * mocap if mocap >= 0 else int(model.jnt_qposadr[body.jntadr[0]])
    return slice(first, first + 7)


def _light_samplers(env: Any) -> list[Any]:
    """Return robosuite's placement samplers over plain copies of their objects, whose sizes it
    would else parse each time.
    """
    initializer = env.placement_initializer
    samplers = list(getattr(initializer, "samplers", {"": initializer}).values())
    for sampler in samplers:
        sampler.mujoco_objects = [light_object(o) for o in sampler.mujoco_objects]
    return samplers


def light_object(source: Any) -> SimpleNamespace:
    """Return what a sampler reads of an object."""
    fields = ("name", "horizontal_radius", "bottom_offset", "top_offset")
    light = SimpleNamespace(**{field: getattr(source, field) for field in fields})
    if hasattr(source, "init_quat"):
        light.init_quat = source.init_quat
    return light
