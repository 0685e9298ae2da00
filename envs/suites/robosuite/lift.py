"""robosuite's Lift: its row of the table of tasks, its landmarks, and an expert that grasps the
cube across two faces and raises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import atan2, pi
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.robosuite.motion import (
    Grasp,
    axes,
    drive,
    grasp_turn,
    grip,
    reach,
    read_hand,
    upright,
)
from reconverge.envs.suites.robosuite.scene import IN_WORLD, REACH, TABLE, Scene, observations
from reconverge.envs.task import UNIT_QUATERNION, Landmarks, Task, join

RAISE = 0.08  # position error that lifts a held cube, metres


class LiftExpert:
    """Act as a function of the observation alone; needs the landmark `width`."""

    def __init__(self, landmarks: Landmarks):
        self._width = float(landmarks["width"])

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        x, y, z, *quaternion = observation["object"].tolist()[:7]
        frame = axes(quaternion)
        face = frame[0] if abs(frame[0][2]) < 0.7 else frame[1]
        turn = grasp_turn(hand, atan2(face[1], face[0]), pi / 2.0)
        shift, close = reach(hand, Grasp((x, y, z), turn, self._width))
        if close:
            held = grip(hand, self._width)
            shift = (shift[0], shift[1], shift[2] + RAISE * held)
        return drive(shift, upright(hand.palm), turn, close)


def landmarks(env: Any, model: Any) -> dict[str, np.ndarray]:
    """Return the `width` between the fingers that hold the cube, metres."""
    return {"width": np.array(2.0 * max(env.cube.size[:2]))}


def layout(
    gripper: np.ndarray, gripper_quat: np.ndarray, position: np.ndarray, quat: np.ndarray
) -> list[np.ndarray]:
    """Return robomimic's layout: the cube's pose, then its position relative to the gripper."""
    return [position, quat, position - gripper]


LIFT = Task(
    name="lift",
    suite="robosuite",
    simulator="Lift",
    expert=LiftExpert,
    expert_name="lift",
    max_steps=400,
    observations=observations(TABLE, join(TABLE, UNIT_QUATERNION, REACH)),
    scene=Scene("cube", landmarks, layout),
    camera="sideview",
    meanings={"object": f"{IN_WORLD}; its position less the gripper's, world axes, m"},
)
