"""robosuite's NutAssemblySquare: its row of the table of tasks, its landmarks, and an expert that
grasps the nut's handle, aligns the hole with the peg, lowers and releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import atan2, cos, hypot, pi, sin
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
    grip,
    let_go,
    ramp,
    reach,
    read_hand,
    to_world,
    upright,
    wrap,
)
from reconverge.envs.suites.robosuite.scene import (
    IN_GRIPPER_AND_WORLD,
    TABLE,
    Scene,
    object_bounds,
    observations,
)
from reconverge.envs.task import Landmarks, Task

OUTWARD = 0.006  # grasp beyond the handle's middle, away from the nut, metres
CLEARANCE = 0.02  # of the nut's centre over the peg's top while carried
NEAR = 0.1  # distance from the peg within which the nut must be above it
FAR = 0.25  # distance from which the nut starts to rise to that height
CENTRED = 0.005  # distance from the peg's axis at which a nut above the peg is lowered
SOFT = 0.015  # beyond that, over which lowering turns into rising, metres
# distance from the peg's axis up to which a nut below the peg's top can only be around it
THREADED = 0.014
RELEASE = 0.05  # depth below the peg's top at which the nut is released
# middle of the wrist's range of yaw, which ends near -1.8 and 3.7 rad (joint 7 of the Panda)
MIDDLE_YAW = 0.9
OFF_MIDDLE = 0.6  # weight of the distance from the middle of that range
CARRY_TURN = 0.8  # weight of the turn while carrying, against the turn before the grasp


class SquareExpert:
    """Act as a function of the observation alone; needs all `landmarks`.

    The peg is near the end of the arm's reach: the nut comes to it with the handle towards the
    robot. The hand may point along the handle or against it; either choice is held by the wrist's
    yaw until the grasp, then by the grasp.
    """

    def __init__(self, landmarks: Landmarks):
        self._width = float(landmarks["width"])
        offset = landmarks["handle"].tolist()
        length = hypot(offset[0], offset[1])
        self._handle = [part * (1.0 + OUTWARD / length) for part in offset]
        self._handle_yaw = atan2(offset[1], offset[0])
        self._peg = landmarks["peg_top"].tolist()
        self._peg_yaw = float(landmarks["peg_yaw"])
        self._table = float(landmarks["table"])

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        hand = hand._replace(yaw=MIDDLE_YAW + wrap(hand.yaw - MIDDLE_YAW))
        x, y, z, *quaternion = observation["object"].tolist()[7:]
        frame = axes(quaternion)
        yaw = atan2(frame[0][1], frame[0][0])
        off = (self._peg[0] - x, self._peg[1] - y)
        if hypot(*off) < THREADED and self._peg[2] - z > RELEASE:
            return let_go(hand, (*off, -RELEASE), self._width)
        grasp = self._grasp(hand, (x, y, z), frame, yaw)
        shift, close = reach(hand, grasp)
        tilt, turn = upright(hand.palm), grasp.turn
        if close:
            held = grip(hand, self._width)
            peg_turn = self._peg_turn(hand, yaw)
            shift = blend(shift, self._carry(hand, (x, y, z), peg_turn), held)
            tilt = blend(tilt, upright(frame[2]), held)
            turn += held * (peg_turn - turn)
        return drive(shift, tilt, turn, close)

    def _grasp(self, hand: Hand, nut: Vector, frame: Frame, yaw: float) -> Grasp:
        """Return a grasp on the handle, the hand along it or against it, whichever needs less
        turning here and at the peg.
        """
        x, y, z = to_world(self._handle, frame, nut)
        turns = []
        for goal in (0.0, pi):  # the wrist's yaw at the peg
            start = MIDDLE_YAW + wrap(goal + pi + yaw + self._handle_yaw - MIDDLE_YAW)
            cost = (
                abs(start - hand.yaw)
                + CARRY_TURN * abs(goal - start)
                + OFF_MIDDLE * abs(start - MIDDLE_YAW)
            )
            turns.append((cost, start - hand.yaw))
        return Grasp((x, y, max(z, self._table + 0.01)), min(turns)[1], self._width)

    def _peg_turn(self, hand: Hand, yaw: float) -> float:
        """Return the turn that aligns the held nut's hole with the peg and points the handle
        towards the robot, radians.
        """
        goal = wrap(
            hand.yaw - yaw - self._handle_yaw + pi
        )  # the wrist's yaw with the handle towards the robot
        along = pi * round(abs(goal) / pi)
        align = wrap(self._peg_yaw - yaw, pi / 2.0)
        return align + pi / 2.0 * round((along - hand.yaw - align) / (pi / 2.0))

    def _carry(self, hand: Hand, nut: Vector, turn: float) -> Vector:
        """Return a held nut's position error: up, sideways over the peg, down when centred."""
        x, y = nut[0] - hand.position[0], nut[1] - hand.position[1]
        c, s = cos(turn), sin(turn)
        across = (  # for the nut as it will be after the turn about the hand
            self._peg[0] - hand.position[0] - (c * x - s * y),
            self._peg[1] - hand.position[1] - (s * x + c * y),
        )
        distance = max(hypot(*across), hypot(self._peg[0] - nut[0], self._peg[1] - nut[1]))
        depth = self._peg[2] - nut[2]
        tolerance = CENTRED + (THREADED - CENTRED) * ramp(depth, 0.0, 0.015)
        off = ramp(distance + 0.02 * abs(turn), tolerance, tolerance + SOFT)
        missing = depth + CLEARANCE  # height missing to the one above the peg
        allowed = 0.005 + 0.15 * ramp(distance, NEAR, FAR)
        free = max(ramp(missing, allowed + 0.015, allowed), 1.0 - off)
        return (free * across[0], free * across[1], off * missing - 0.1 * (1.0 - off))


def landmarks(env: Any, model: Any, peg_name: str = "peg1") -> dict[str, np.ndarray]:
    """Return lengths and places in metres: the `width` between the fingers that hold the handle,
    the `handle` in the nut's frame, `peg_top`, `peg_yaw` (radians), height of the `table`.

    robosuite's `_check_success` pairs the square nut with `peg1`, the round one with `peg2`.
    """
    from mujoco import mjtGeom

    nut = env.nuts[env.nut_id]
    handle = model.site(nut.important_sites["handle"])  # on the nut's root body
    boxes = [model.geom(name) for name in nut.contact_geoms]
    grasped = min(boxes, key=lambda box: float(np.linalg.norm(box.pos - handle.pos)))
    peg = model.body(peg_name)
    shape = peg.geomadr[0]  # whose half height a box has third, a cylinder second
    axis = 2 if model.geom_type[shape] == mjtGeom.mjGEOM_BOX else 1
    return {
        "width": np.array(2.0 * grasped.size[1]),
        "handle": handle.pos.copy(),
        "peg_top": peg.pos + np.array([0.0, 0.0, model.geom_size[shape, axis]]),
        "peg_yaw": np.array(2.0 * np.arctan2(peg.quat[3], peg.quat[0])),
        "table": np.array(env.table_offset[2]),
    }


SQUARE = Task(
    name="square",
    suite="robosuite",
    simulator="NutAssemblySquare",
    expert=SquareExpert,
    expert_name="square",
    max_steps=400,
    observations=observations(TABLE, object_bounds(TABLE)),
    scene=Scene("SquareNut", landmarks),
    camera="sideview",
    meanings={"object": IN_GRIPPER_AND_WORLD},
)

ROUND = replace(
    SQUARE,
    name="round",
    simulator="NutAssemblyRound",
    scene=Scene("RoundNut", partial(landmarks, peg_name="peg2")),
)
