"""Start states of LIBERO's tasks: drawn from the package's own distributions, or the official
ones that it holds.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any
from zipfile import ZipFile

import mujoco
import numpy as np

from reconverge.envs.suites.robosuite.starts import light_object, pose_slice
from reconverge.errors import ReconvergeError

_one_at_a_time = RLock()  # numpy's global generator is the process's
MOST_DRAWS = 100  # of whole scenes; one in which not all objects find a place is drawn again


class StartStates:
    """Where everything is at the start of an episode, a function of its seed.

    Not to be used in two threads at once: the samplers draw from numpy's global generator.
    """

    def __init__(self, env: Any, model: mujoco.MjModel):
        robot = env.robots[0]
        self._env, self._model = env, model
        self._built = _Built(model)
        self._start = np.concatenate([model.qpos0, np.zeros(7 * model.nmocap)])
        self._start[robot._ref_joint_pos_indexes] = robot.init_qpos
        fingers = [model.joint(name).qposadr[0] for name in robot.gripper["right"].joints]
        self._start[fingers] = robot.gripper["right"].init_qpos
        self.fingers = slice(fingers[0], fingers[-1] + 1)  # their joint positions
        for body in map(model.body, np.flatnonzero(model.body_mocapid >= 0).tolist()):
            self._start[pose_slice(model, body.name)] = [*body.pos, *body.quat]
        things = {**env.objects_dict, **env.fixtures_dict}
        self._places = {name: pose_slice(model, thing.root_body) for name, thing in things.items()}
        self._lighten()

    @property
    def placed(self) -> np.ndarray:
        """Poses of the fixtures [7 n] where the environment's first reset has put them."""
        return self._start[self._model.nq :]

    def draw(self, seed: int) -> np.ndarray:
        """Return joint positions, then positions and quaternions (w, x, y, z) of mocap bodies,
        drawn as the package's reset draws them.
        """
        from robosuite.utils.errors import RandomizationError

        with seeded(seed):
            for _ in range(MOST_DRAWS):
                try:
                    return self._draw()
                except RandomizationError:
                    pass
        raise RuntimeError(f"seed {seed}: no place for all objects in {MOST_DRAWS} scenes")

    def _draw(self) -> np.ndarray:
        env, start = self._env, self._start.copy()
        for sampler in env.object_property_initializers:
            part = env.object_sites_dict.get(sampler.name) or env.get_object(sampler.name)
            value = sampler.sample()
            for joint in part.joints:
                start[self._model.joint(joint).qposadr[0]] = value
        self._built.move(start[: self._model.nq])
        placements = env.placement_initializer.sample()
        placements = env.conditional_placement_initializer.sample(self._built, placements)
        placements = env.conditional_placement_on_objects_initializer.sample(placements)
        for position, quaternion, thing in placements.values():
            start[self._places[thing.name]] = [*position, *quaternion]
        return start

    def _lighten(self) -> None:
        """Let the samplers use plain copies of their objects, whose sizes they would else parse
        each time.
        """
        env = self._env
        for initializer in (
            env.placement_initializer,
            env.conditional_placement_initializer,
            env.conditional_placement_on_objects_initializer,
        ):
            for sampler in initializer.samplers.values():
                sampler.mujoco_objects = [light_object(o) for o in sampler.mujoco_objects]


class _Built:
    """What a sampler asks of a simulation: where sites are before any reset, when all fixtures are
    where they are built, and joints where they are drawn.
    """

    def __init__(self, model: mujoco.MjModel):
        self._model, self._data = model, mujoco.MjData(model)
        self._data.mocap_pos[:], self._data.mocap_quat[:] = 0.0, (1.0, 0.0, 0.0, 0.0)
        self.data = self

    def move(self, qpos: np.ndarray) -> None:
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)

    def get_site_xpos(self, name: str) -> np.ndarray:
        return self._data.site(name).xpos


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, for one thread at a time, and leave it as it was."""
    with _one_at_a_time:
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def official_states(path: Path, size: int) -> np.ndarray:
    """Return the official initial states [n, size]: time, positions, velocities.

    The file is PyTorch's of one pickled array. Its numbers are taken from it, and nothing in it is
    executed. Raises ReconvergeError for a file of another kind.
    """
    with ZipFile(path) as archive:
        parts = pickletools.genops(archive.read("archive/data.pkl"))
        raw = max((text for _, text, _ in parts if isinstance(text, str)), key=len, default="")
    numbers = raw.encode("latin1")
    if not numbers or len(numbers) % (8 * size):
        raise ReconvergeError(f"{path}: holds no states of {size} numbers; install LIBERO again")
    return np.frombuffer(numbers, "<f8").reshape(-1, size)
