"""LIBERO's tasks: scenes, start states and goals from the package, stepped natively as robosuite's
tasks are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from threading import Lock
from typing import Any
from weakref import ref

import mujoco
import numpy as np

from reconverge.envs.suites.libero.goals import read_goal
from reconverge.envs.suites.libero.landmarks import read_landmarks
from reconverge.envs.suites.libero.model import make_libero, picture_model
from reconverge.envs.suites.libero.starts import StartStates, official_states
from reconverge.envs.suites.robosuite.controller import Episode, read_controller
from reconverge.envs.suites.robosuite.model import state_indices
from reconverge.envs.suites.robosuite.scene import in_gripper_and_world
from reconverge.envs.suites.robosuite.simulator import RobosuiteSimulator
from reconverge.envs.task import Task


class LiberoSimulator(RobosuiteSimulator):
    """Everything that the episodes of one LIBERO task share: model, controller, start states,
    goal.
    """

    def __init__(self, task: Task):
        self.task = task
        self._low, self._high = task.low, task.high
        self.env = make_libero(task)
        self.controller = read_controller(self.env)
        self.model = self.env.sim.model._model
        self._state_kept, self._state_size = state_indices(self.model, self.model)
        starts = StartStates(self.env, self.model)
        self._starts, self._placed = starts, starts.placed
        self._goal = read_goal(self.env, self.model)
        self._one_at_a_time = Lock()  # the samplers draw from numpy's global generator
        self._picture_model: Callable[[], mujoco.MjModel | None] = lambda: None
        self._find_hand()
        self._things = [self._place(name) for name in task.scene.objects]
        joints = [self.model.joint(joint.name).qposadr[0] for joint in task.scene.joints]
        self._moving = np.array(joints, np.int64)
        self._numbers = 9 + 7 * len(self._things) + len(joints)  # that `_read` reads

    @property
    def landmarks(self) -> dict[str, np.ndarray]:
        return read_landmarks(self.env, self.model)

    @property
    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("mujoco", "robosuite", "rpent-libero")}

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint, "suite": "libero"}

    @cached_property
    def official(self) -> np.ndarray:
        """The official initial states [50, 1 + nq + nv]."""
        return official_states(self.task.scene.states, self._state_size)

    @property
    def picture_model(self) -> mujoco.MjModel:
        """Made when it is asked for, and kept no longer than somebody has it: it takes 300 MB."""
        model = self._picture_model()
        if model is None:
            model = picture_model(self.env)
            self._picture_model = ref(model)
        return model

    def picture_data(self, episode: Episode) -> mujoco.MjData:
        """Return data of `picture_model` in the positions of the episode."""
        data = mujoco.MjData(self.picture_model)
        self.place(episode, data)
        return data

    def reset(self, episode: Episode, seed: int) -> None:
        """Start `episode` from the state that LIBERO's own distributions draw with `seed`, or from
        the official one of that number, modulo how many there are.
        """
        if self.task.starts == "official":
            self.restore(episode, self.official[seed % len(self.official)])
        else:
            super().reset(episode, seed)

    def restore(self, episode: Episode, state: np.ndarray) -> None:
        """Start `episode` from a flattened state of LIBERO: time, joint positions and velocities.

        The state does not tell where fixtures stand (within a centimetre or two): they are where
        the environment's first reset has put them. Raises ReconvergeError for a state of another
        size.
        """
        _, qpos, qvel = np.split(self._kept(state), [1, 1 + self.model.nq])
        episode.reset(np.concatenate([qpos, self._placed]), qvel)

    def success(self, episode: Episode) -> bool:
        """Apply LIBERO's own goal to the episode's state."""
        return self._goal(episode.data)

    def _place(self, name: str) -> tuple[bool, int]:
        """Return if an object of interest is a body, else a site, and its number."""
        body = self.env.obj_body_id.get(name)
        return (True, body) if body is not None else (False, self.model.site(name).id)

    def _read_things(self, episode: Episode, row: np.ndarray) -> None:
        """Write the objects' positions and quaternions, and the joints, into `row`."""
        sites, bodies, quaternions, qpos = episode.poses
        turned = np.empty(4)
        for pose, (is_body, i) in zip(
            row[: 7 * len(self._things)].reshape(-1, 7), self._things, strict=True
        ):
            if is_body:
                position, quaternion = bodies[i], quaternions[i]
            else:
                mujoco.mju_mat2Quat(turned, episode.data.site_xmat[i])
                position, quaternion = sites[i], turned
            pose[:3], pose[3:6], pose[6] = position, quaternion[1:], quaternion[0]
        row[7 * len(self._things) :] = qpos[self._moving]

    def _layout(
        self, eef: np.ndarray, eef_quat: np.ndarray, things: np.ndarray
    ) -> list[np.ndarray]:
        parts: list[np.ndarray] = []
        joints = 7 * len(self._things)
        for i in range(0, joints, 7):
            position, quaternion = things[:, i : i + 3], things[:, i + 3 : i + 7]
            parts += in_gripper_and_world(eef, eef_quat, position, quaternion)
        return [*parts, things[:, joints:]]
