"""Start states of LIBERO's tasks: drawn from the package's own distributions, or the official
ones that it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np

MOST_DRAWS = 100  # of whole scenes; one in which not all objects find a place is drawn again


class StartStates:
    """Joint positions at the start of an episode, a function of its seed.

    Fixtures stand where the environment's first reset has put them: their poses belong to the
    model, which all episodes share. (LIBERO moves them by about a centimetre from reset to reset.)
    Not to be used in two threads at once: the samplers draw from numpy's global generator.
    """

    def __init__(self, env: Any, model: mujoco.MjModel, pristine: mujoco.MjModel):
        """`pristine` is the model before the first reset, with fixtures where they are built: the
        package adds positions of their parts there to where they stand.
        """
        robot = env.robots[0]
        self._env, self._model = env, model
        self._built = _Built(pristine)
        self._qpos = model.qpos0.copy()
        self._qpos[robot._ref_joint_pos_indexes] = robot.init_qpos
        fingers = [model.joint(name).qposadr[0] for name in robot.gripper["right"].joints]
        self._qpos[fingers] = robot.gripper["right"].init_qpos
        self.fingers = slice(fingers[0], fingers[-1] + 1)
        self._lighten(model)

    def draw(self, seed: int) -> np.ndarray:
        """Return joint positions drawn as the package's reset draws them."""
        from robosuite.utils.errors import RandomizationError

        with seeded(seed):
            for _ in range(MOST_DRAWS):
                try:
                    return self._draw()
                except RandomizationError:
                    pass
        raise RuntimeError(f"seed {seed}: no place for all objects in {MOST_DRAWS} scenes")

    def _draw(self) -> np.ndarray:
        env, qpos = self._env, self._qpos.copy()
        for sampler in env.object_property_initializers:
            part = env.object_sites_dict.get(sampler.name) or env.get_object(sampler.name)
            value = sampler.sample()
            for joint in part.joints:
                qpos[self._model.joint(joint).qposadr[0]] = value
        self._built.move(qpos)
        placements = env.placement_initializer.sample()
        placements = env.conditional_placement_initializer.sample(self._built, placements)
        placements = env.conditional_placement_on_objects_initializer.sample(placements)
        for position, quaternion, thing in placements.values():
            if thing.name in env.objects_dict:
                start = self._model.joint(thing.joint).qposadr[0]
                qpos[start : start + 7] = [*position, *quaternion]
        return qpos

    def _lighten(self, model: mujoco.MjModel) -> None:
        """Let the samplers use plain copies of their objects, whose sizes they would else parse
        each time, and pin the fixtures.
        """
        env = self._env
        for initializer in (
            env.placement_initializer,
            env.conditional_placement_initializer,
            env.conditional_placement_on_objects_initializer,
        ):
            for key, sampler in initializer.samplers.items():
                things = [_light(thing) for thing in sampler.mujoco_objects]
                sampler.mujoco_objects = things
                if things[0].name in env.fixtures_dict:
                    body = model.body(env.obj_body_id[things[0].name])
                    initializer.samplers[key] = _Pinned(things[0], body.pos, body.quat)


class _Built:
    """What a sampler asks of a simulation: where sites are while all fixtures are at the origin."""

    def __init__(self, model: mujoco.MjModel):
        self._model, self._data = model, mujoco.MjData(model)
        self.data = self

    def move(self, qpos: np.ndarray) -> None:
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)

    def get_site_xpos(self, name: str) -> np.ndarray:
        return self._data.site(name).xpos


class _Pinned:
    """A sampler of one fixture that stays where it is."""

    def __init__(self, fixture: SimpleNamespace, position: np.ndarray, quaternion: np.ndarray):
        self.mujoco_objects = [fixture]
        self._placement = {fixture.name: (tuple(position), quaternion.copy(), fixture)}

    def sample(self, fixtures: Any = None, **_: Any) -> dict[str, Any]:
        return {**(fixtures or {}), **self._placement}


def _light(source: Any) -> SimpleNamespace:
    fields = ("name", "horizontal_radius", "bottom_offset", "top_offset")
    light = SimpleNamespace(**{field: getattr(source, field) for field in fields})
    light.joint = source.joints[-1] if source.joints else None
    if hasattr(source, "init_quat"):
        light.init_quat = source.init_quat
    return light


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, and leave it as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def official_states(path: Any) -> np.ndarray:
    """Return the official initial states [50, 1 + nq + nv]: time, positions, velocities."""
    import torch

    return np.asarray(torch.load(path, weights_only=False), np.float64)
