"""robosuite's PickPlaceCan: its row of the table of tasks, its landmarks, and an expert that grasps
the can, carries it over the walls and drops it in its compartment.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import atan2, hypot, pi
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.robosuite.motion import (
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
from reconverge.envs.suites.robosuite.pick_place import compartments
from reconverge.envs.suites.robosuite.scene import (
    BINS,
    IN_GRIPPER_AND_WORLD,
    Scene,
    object_bounds,
    observations,
)
from reconverge.envs.task import Landmarks, Task

ABOVE = 0.02  # grasp of a standing can above its centre, metres
CLEARANCE = 0.02  # between the walls and the lower end of a carried can
DROP_MARGIN = 0.01  # between the walls' middle and a can that is released
AIM_MARGIN = 0.03  # between the walls' middle and a can at the goal of the carrying


class CanExpert:
    """Act as a function of the observation alone; needs all `landmarks`."""

    def __init__(self, landmarks: Landmarks):
        self._width = float(landmarks["width"])
        self._floor = float(landmarks["floor"])
        self._carry = float(landmarks["walls"]) + 0.5 * float(landmarks["height"]) + CLEARANCE
        self._centre = landmarks["target"].tolist()
        self._half = [float(half) - 0.5 * self._width for half in landmarks["compartment"]]
        # The compartment's middle is at the end of the arm's reach: aim at its corner nearest to
        # the robot.
        toward = np.sign(landmarks["base"][:2] - landmarks["target"][:2])
        self._aim = [
            c + s * (h - AIM_MARGIN)
            for c, s, h in zip(self._centre, toward, self._half, strict=False)
        ]

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        x, y, z, *quaternion = observation["object"].tolist()[7:]
        if self._inside(x, y):
            return let_go(hand, (0.0, 0.0, 0.0), self._width)
        grasp = self._grasp(hand, (x, y, z), axes(quaternion)[2])
        shift, close = reach(hand, grasp)
        if close:
            held = grip(hand, self._width)
            high = ramp(z, self._carry - 0.03, self._carry - 0.005)
            carry = (high * (self._aim[0] - x), high * (self._aim[1] - y), self._carry - z)
            shift = blend(shift, carry, held)
        return drive(shift, upright(hand.palm), grasp.turn, close)

    def _inside(self, x: float, y: float) -> bool:
        """Tell if a can there is over or in its compartment, clear of the walls."""
        aside = (abs(x - self._centre[0]), abs(y - self._centre[1]))
        return all(a < h - DROP_MARGIN for a, h in zip(aside, self._half, strict=True))

    def _grasp(self, hand: Hand, position: Vector, axis: Vector) -> Grasp:
        """Return a grasp across the can: at any yaw if it stands, with the fingers on both sides of
        its axis if it lies.
        """
        lying = ramp(hypot(axis[0], axis[1]), 0.5, 0.8)
        along = grasp_turn(hand, atan2(axis[1], axis[0]), pi) if lying > 0.0 else 0.0
        turn = lying * along - (1.0 - lying) * hand.yaw
        z = max(position[2] + (1.0 - lying) * ABOVE, self._floor + 0.015)
        return Grasp((position[0], position[1], z), turn, self._width)


def landmarks(env: Any, model: Any) -> dict[str, np.ndarray]:
    """Return lengths in metres: the can's `width` and `height`, and places: `compartments`."""
    half = model.geom(env.objects[env.object_id].contact_geoms[0]).size
    return {
        "width": np.array(2.0 * half[:2].max()),
        "height": np.array(2.0 * half[2]),
        **compartments(env, model),
    }


CAN = Task(
    name="can",
    suite="robosuite",
    simulator="PickPlaceCan",
    expert=CanExpert,
    expert_name="can",
    max_steps=400,
    observations=observations(BINS, object_bounds(BINS)),
    scene=Scene("Can", landmarks),
    camera="agentview",
    meanings={"object": IN_GRIPPER_AND_WORLD},
)
