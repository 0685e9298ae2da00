"""robosuite's Stack: its row of the table of tasks, its landmarks, and an expert that grasps the
small cube across two faces and puts it on the large one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import atan2, cos, hypot, pi
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.robosuite.motion import (
    Frame,
    Grasp,
    Hand,
    Vector,
    axes,
    blend,
    drive,
    grasp_turn,
    grip,
    let_go,
    ramp,
    reach,
    read_hand,
    upright,
)
from reconverge.envs.suites.robosuite.scene import REACH, TABLE, Scene, observations
from reconverge.envs.suites.suite import QUATERNION
from reconverge.envs.task import UNIT_QUATERNION, Landmarks, Task, join

CLEARANCE = 0.03  # between the cubes while one is carried, metres
CENTRED = 0.008  # distance between the cubes' axes at which the carried one is lowered, metres
SOFT = 0.01  # beyond that, over which lowering turns into rising, metres
LANDED = 0.008  # gap between the cubes at which the carried one is released, metres
ROOM = 0.1  # distance between the cubes' axes from which fingers fit between them, metres
BESIDE = 0.025  # height missing to a place on the large cube above which it is in the fingers' way


class StackExpert:
    """Act as a function of the observation alone; needs all `landmarks`."""

    def __init__(self, landmarks: Landmarks):
        self._width = float(landmarks["width"])
        self._rise = float(landmarks["rise"])

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        seen = observation["object"].tolist()
        cube, frame, base = (seen[0], seen[1], seen[2]), axes(seen[3:7]), seen[7:10]
        over = (base[0] - cube[0], base[1] - cube[1], base[2] + self._rise - cube[2])
        distance = hypot(over[0], over[1])
        if distance < CENTRED + SOFT and abs(over[2]) < LANDED:
            return let_go(hand, (0.0, 0.0, 0.0), self._width)
        turn = self._turn(hand, frame, over)
        shift, close = reach(hand, Grasp(cube, turn, self._width))
        if close:
            held = grip(hand, self._width)
            shift = blend(shift, self._carry(over, distance), held)
            turn *= 1.0 - held
        return drive(shift, upright(hand.palm), turn, close)

    def _turn(self, hand: Hand, frame: Frame, over: Vector) -> float:
        """Return the wrist's turn to grasp across two faces; near the other cube, those that
        leave it outside the fingers.
        """
        face = frame[0] if abs(frame[0][2]) < 0.7 else frame[1]
        yaw = atan2(face[1], face[0])
        if hypot(over[0], over[1]) > ROOM or over[2] < BESIDE:
            return grasp_turn(hand, yaw, pi / 2.0)
        toward = atan2(over[1], over[0])
        along = yaw if abs(cos(yaw - toward)) > 0.5**0.5 else yaw + pi / 2.0
        return grasp_turn(hand, along, pi)

    def _carry(self, over: Vector, distance: float) -> Vector:
        """Return a held cube's position error: up, sideways over the other cube, down when
        centred.
        """
        off = ramp(distance, CENTRED, CENTRED + SOFT)
        missing = over[2] + CLEARANCE
        free = max(ramp(missing, 0.02, 0.005), 1.0 - off)
        return (free * over[0], free * over[1], off * missing + (1.0 - off) * over[2])


def landmarks(env: Any, model: Any) -> dict[str, np.ndarray]:
    """Return lengths in metres: the small cube's `width`, and the `rise` from the large cube's
    middle to that of a cube on it.
    """
    small, large = env.cubeA.size, env.cubeB.size
    return {"width": np.array(2.0 * max(small[:2])), "rise": np.array(small[2] + large[2])}


def layout(
    gripper: np.ndarray,
    gripper_quat: np.ndarray,
    small: np.ndarray,
    small_quat: np.ndarray,
    large: np.ndarray,
    large_quat: np.ndarray,
) -> list[np.ndarray]:
    """Return robosuite's layout: both cubes' poses, then positions relative to each other and to
    the gripper.
    """
    return [
        small,
        small_quat,
        large,
        large_quat,
        large - small,
        small - gripper,
        large - gripper,
    ]


STACK = Task(
    name="stack",
    suite="robosuite",
    simulator="Stack",
    expert=StackExpert,
    expert_name="stack",
    max_steps=400,
    observations=observations(TABLE, join(*(TABLE, UNIT_QUATERNION) * 2, REACH, REACH, REACH)),
    scene=Scene("cubeA", landmarks, layout, others=("cubeB",)),
    camera="sideview",
    meanings={
        "object": f"small cube's position, world frame, m, and {QUATERNION}; the large cube's; "
        "large cube's position less the small one's, then each one's less the gripper's, world "
        "axes, m"
    },
)
