"""The scenes of robosuite's tasks: objects, their layout in the observation, declared bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.suite import QUATERNION, Simulator, Suite
from reconverge.envs.task import UNIT_QUATERNION, Bounds, Task, join

FINGERS: Bounds = ((0.0, -0.04), (0.04, 0.0))  # joint positions of the gripper's fingers, metres
TABLE: Bounds = ((-0.35, -0.35, 0.78), (0.35, 0.35, 1.18))  # workspace in the world frame, metres
BINS: Bounds = ((-0.25, -0.55, 0.78), (0.45, 0.55, 1.23))
REACH: Bounds = ((-0.3, -0.3, -0.3), (0.3, 0.3, 0.3))  # object relative to the gripper, metres
WIDE_REACH: Bounds = ((-0.4, -0.4, -0.4), (0.4, 0.4, 0.4))

IN_WORLD = f"object's position, world frame, m, and {QUATERNION}"
IN_GRIPPER_AND_WORLD = (
    f"object's position in the gripper's frame, m, and its {QUATERNION} in that frame; {IN_WORLD}"
)

Positions = Float[np.ndarray, "n 3"]  # metres, world frame
Quaternions = Float[np.ndarray, "n 4"]  # (x, y, z, w), world frame
# From the gripper's positions and quaternions, those of every body in `Scene.bodies`, positions of
# `sites` and of `joints` [n, 1] to the parts of `object`.
Layout = Callable[..., list[np.ndarray]]


def in_gripper_and_world(
    gripper: Positions, gripper_quat: Quaternions, position: Positions, quat: Quaternions
) -> list[np.ndarray]:
    """Return robomimic's layout for can and square: the object in the gripper's frame, then in the
    world's.
    """
    relative = _rotate_back(gripper_quat, position - gripper), _relative(gripper_quat, quat)
    return [*relative, position, quat]


@dataclass(frozen=True)
class Scene:
    """The objects that may move in a task, and what its expert may know of the scene.

    `landmarks` takes robosuite's environment and MuJoCo's model: metres and radians, world frame.
    """

    object_name: str  # in robosuite
    landmarks: Callable[[Any, Any], dict[str, np.ndarray]] = lambda env, model: {}
    layout: Layout = in_gripper_and_world
    others: tuple[str, ...] = ()  # further objects, in the order in which `layout` takes them
    parts: tuple[str, ...] = ()  # bodies that are observed in place of the objects' own
    sites: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()  # of one degree of freedom

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of all objects in robosuite."""
        return (self.object_name, *self.others)

    @property
    def bodies(self) -> tuple[str, ...]:
        """Names of the bodies in MuJoCo whose poses are observed."""
        return self.parts or tuple(f"{name}_main" for name in self.objects)


def observations(workspace: Bounds, object_bounds: Bounds) -> dict[str, Bounds]:
    """Return robomimic's low-dimensional keys with their bounds."""
    return {
        "object": object_bounds,
        "robot0_eef_pos": workspace,
        "robot0_eef_quat": UNIT_QUATERNION,
        "robot0_gripper_qpos": FINGERS,
    }


def object_bounds(workspace: Bounds, reach: Bounds = REACH) -> Bounds:
    """Return the bounds of `in_gripper_and_world`."""
    return join(reach, UNIT_QUATERNION, workspace, UNIT_QUATERNION)


def _make(task: Task) -> Simulator:
    from reconverge.envs.suites.robosuite.simulator import RobosuiteSimulator

    return RobosuiteSimulator(task)


ROBOSUITE = Suite(
    name="robosuite",
    make=_make,
    control_hz=20,
    restores_states=True,
    input_frames={"base": "robot's base", "world": "world"},  # robosuite 1.5's, robosuite 1.4's
    actions=(
        (3, "change of the gripper's target position, {frame} frame, 0.05 m for 1"),
        (
            3,
            "change of the gripper's target orientation, rotation vector, {frame} frame, "
            "0.5 rad for 1",
        ),
        (1, "gripper: 1 closes, -1 opens"),
    ),
    convention={
        "robot": "Panda",
        "controller": "OSC_POSE",
        "input_type": "delta",
        "input_min": -1,
        "input_max": 1,
        "output_min": (-0.05, -0.05, -0.05, -0.5, -0.5, -0.5),  # m, rad
        "output_max": (0.05, 0.05, 0.05, 0.5, 0.5, 0.5),
        "impedance_mode": "fixed",
        "kp": 150,
        "gripper": "PandaGripper",
    },
    meanings={
        "robot0_eef_pos": "gripper's position, world frame, m",
        "robot0_eef_quat": f"gripper's orientation, world frame, {QUATERNION}",
        "robot0_gripper_qpos": "joint positions of the two fingers, m",
    },
    camera="agentview",
    geom_groups=(1,),
    site_groups=(),
    cameras={
        "agentview": "agentview",
        "eye_in_hand": "robot0_eye_in_hand",
        "frontview": "frontview",
        "birdview": "birdview",
    },
    proprioception=("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"),
)


def _rotate_back(quaternion: Quaternions, vector: Positions) -> Positions:
    """Return vectors of the world in the frames of the quaternions."""
    axis, w = -quaternion[:, :3], quaternion[:, 3:]
    cross = 2.0 * np.cross(axis, vector)
    return vector + w * cross + np.cross(axis, cross)


def _relative(frame: Quaternions, quaternion: Quaternions) -> Quaternions:
    """Return orientations in the frames of quaternions, with w >= 0."""
    a, aw = -frame[:, :3], frame[:, 3:]
    b, bw = quaternion[:, :3], quaternion[:, 3:]
    vector = aw * b + bw * a + np.cross(a, b)
    w = aw * bw - np.sum(a * b, axis=1, keepdims=True)
    return np.concatenate([vector, w], axis=1) * np.where(w < 0.0, -1.0, 1.0)
