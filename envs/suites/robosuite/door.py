"""robosuite's Door: its row of the table of tasks, its landmarks, and an expert that grasps the
handle from the front, turns it down and pulls the door open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import atan2, cos, hypot, sin
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.robosuite.motion import (
    OPEN,
    Frame,
    Grasp,
    Hand,
    Vector,
    drive,
    ramp,
    reach,
    read_hand,
    to_world,
)
from reconverge.envs.suites.robosuite.scene import Scene, observations
from reconverge.envs.task import Bounds, Landmarks, Task, join

ROOM: Bounds = ((-0.45, -0.5, 0.8), (0.25, 0.25, 1.35))  # workspace in the world frame, metres
AWAY: Bounds = ((-0.5,) * 3, (0.5,) * 3)  # door and handle relative to the gripper, metres
HINGE: Bounds = ((-0.1,), (0.5,))  # radians
TURN: Bounds = ((-1.7,), (1.7,))  # of the handle, radians

SQUEEZE = 0.03  # finger opening beyond the handle's width at which the turning begins, metres
HELD = 0.015  # at which it goes on at full speed: a handle that turns forces the fingers apart
TURNED = (1.15, 1.35)  # angles of the handle between which turning becomes pulling, radians
AHEAD = 0.3  # angle by which the hand is ahead of the handle that it turns, radians
AJAR = (0.05, 0.08)  # angles of the hinge from which the latch is free, radians
PULL = 0.05  # position error that pulls the door, metres


class DoorExpert:
    """Act as a function of the observation alone; needs all `landmarks`."""

    def __init__(self, landmarks: Landmarks):
        self._width = float(landmarks["width"])
        self._latch = landmarks["latch"].tolist()
        self._handle = landmarks["handle"].tolist()

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand, seen = read_hand(observation), observation["object"].tolist()
        handle, hinge, angle = seen[3:6], seen[6], seen[13]
        yaw = self.yaw(seen[:3], handle, angle)
        frame = handle_frame(yaw, angle)
        turn = turn_to(hand.pose, frame)
        shift, close = approach(hand, handle, frame, turn, self._width)
        if close:
            ahead, pull = self._open(hand.opening, hinge, angle)
            turn = turn_to(hand.pose, handle_frame(yaw, angle + ahead))
            shift = (shift[0], shift[1] + ahead * self._handle[0], shift[2] + pull)
        return drive(to_world(shift, frame), turn, turn[2], close)

    def yaw(self, door: list[float], handle: list[float], angle: float) -> float:
        """Return the door's yaw, radians, from the places of its middle and of its handle, which is
        at `angle`.
        """
        x = self._latch[0] + self._handle[0] * cos(angle) + self._handle[2] * sin(angle)
        y = self._latch[1] + self._handle[1]
        return atan2(handle[1] - door[1], handle[0] - door[0]) - atan2(y, x)

    def _open(self, opening: float, hinge: float, angle: float) -> tuple[float, float]:
        """Return the angle by which the hand is to be ahead of the handle, radians, and the
        position error with which it pulls, metres.
        """
        held = ramp(opening, self._width + SQUEEZE, self._width + HELD)
        free = max(ramp(angle, *TURNED), ramp(hinge, *AJAR))  # the latch
        return AHEAD * held * (1.0 - free), PULL * held * free


def handle_frame(yaw: float, angle: float) -> Frame:
    """Return axes at the handle of a door with that yaw: along the handle to where it turns, down
    as it turns, out of the door.
    """
    c, s = cos(yaw), sin(yaw)
    along, down = cos(angle), sin(angle)
    return (
        (-c * along, -s * along, down),
        (-c * down, -s * down, -along),
        (s, -c, 0.0),
    )


def approach(
    hand: Hand, handle: Sequence[float], frame: Frame, turn: Vector, width: float
) -> tuple[Vector, bool]:
    """Return the position error in the axes `frame` that leads open fingers around a handle from
    the front, where `turn` is missing, and True if they should close.
    """
    away = [place - goal for place, goal in zip(hand.position, handle, strict=True)]
    x, y, z = (sum(a * b for a, b in zip(away, axis, strict=True)) for axis in frame)
    amiss = hypot(*turn) * ramp(hand.opening, width, OPEN)  # nothing for closed fingers
    return reach(hand._replace(position=(x, y, z)), Grasp((0.0, 0.0, 0.0), amiss, width))


def turn_to(hand: Frame, handle: Frame) -> Vector:
    """Return the rotation vector, radians, that brings the hand's axes to those of a grasp of the
    handle from the front, the fingers above and below it.
    """
    goal = (handle[0], _times(-1.0, handle[1]), _times(-1.0, handle[2]))
    pairs = list(zip(hand, goal, strict=True))
    x, y, z = (0.5 * sum(part) for part in zip(*(_cross(a, b) for a, b in pairs), strict=True))
    sine = hypot(x, y, z)
    cosine = 0.5 * (sum(p * q for a, b in pairs for p, q in zip(a, b, strict=True)) - 1.0)
    return _times(atan2(sine, cosine) / sine if sine > 0.0 else 1.0, (x, y, z))


def _times(factor: float, vector: Vector) -> Vector:
    return (factor * vector[0], factor * vector[1], factor * vector[2])


def _cross(a: Vector, b: Vector) -> Vector:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def landmarks(env: Any, model: Any) -> dict[str, np.ndarray]:
    """Return lengths and places in metres: where the `latch` turns in the door's frame, where the
    `handle` is held in the latch's, the handle's `width` between the fingers that hold it.
    """
    return {
        "latch": model.body(env.door.latch_body).pos.copy(),
        "handle": model.site(env.door.important_sites["handle"]).pos.copy(),
        "width": np.array(2.0 * model.geom("Door_handle").size[2]),
    }


def layout(
    gripper: np.ndarray,
    gripper_quat: np.ndarray,
    door: np.ndarray,
    door_quat: np.ndarray,
    handle: np.ndarray,
    hinge: np.ndarray,
    turn: np.ndarray,
) -> list[np.ndarray]:
    """Return robosuite's layout: positions of door and handle, the hinge's angle, the positions
    relative to the gripper, the handle's angle.
    """
    return [door, handle, hinge, door - gripper, handle - gripper, turn]


DOOR = Task(
    name="door",
    suite="robosuite",
    simulator="Door",
    expert=DoorExpert,
    expert_name="door",
    max_steps=400,
    observations=observations(ROOM, join(ROOM, ROOM, HINGE, AWAY, AWAY, TURN)),
    scene=Scene(
        "Door",
        landmarks,
        layout,
        parts=("Door_door",),
        sites=("Door_handle",),
        joints=("Door_hinge", "Door_latch_joint"),
    ),
    camera="agentview",
    meanings={
        "object": "positions of the door's middle and of its handle, world frame, m; the hinge's "
        "angle, rad; both positions less the gripper's, world axes, m; the handle's angle, rad"
    },
)
