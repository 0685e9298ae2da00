"""Motions of the scripted experts: read an observation, approach a grasp, turn pose errors into
actions.

Everything is a function of one observation. World frame; the robot's base frame, in which actions
are given, has the world's axes in all robosuite tasks here, so errors need no further rotation.
Plain floats: faster than arrays of three. The hand's z axis points out of the palm, its y axis is
the one along which the fingers close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import atan2, hypot, pi
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Vector = tuple[float, float, float]
Frame = tuple[Vector, Vector, Vector]  # axes, world frame

METRES = 0.05  # position change for an action of 1
RADIANS = 0.5  # orientation change for an action of 1
# commanded change as a share of the error: the arm covers only part of it in a control step
GAIN = 1.5
FASTEST_TURN = 0.6  # rotation action; more saturates the wrist's torques and pushes the hand aside
HOVER = 0.06  # height from which the fingers descend over a grasp
SLOPE = 3.0  # metres of height kept for every metre of misalignment
ALIGNED = 0.015  # misalignment at which the descent is complete
ARM_OF_YAW = 0.05  # metres of misalignment that a radian of yaw error counts
RETREAT = 0.05  # position error with which open fingers leave an object, metres
OPEN = 0.076  # finger opening regarded as fully open
SQUEEZE = 0.004  # finger opening beyond an object's width at which it is held, metres
CLOSE_WITHIN = 0.02  # distance to the grasp at which open fingers start to close
HOLD_WITHIN = 0.035  # distance at which fingers that are closed on the object stay closed
YAW_MEMORY = 0.2  # of two equivalent grasp yaws, the one nearest to this share of the wrist's yaw


class Hand(NamedTuple):
    """The gripper: grip site, yaw about the vertical (0 at the start), axes, finger opening."""

    position: Vector
    yaw: float
    pose: Frame
    opening: float

    @property
    def palm(self) -> Vector:
        return self.pose[2]


class Grasp(NamedTuple):
    """A pose to grasp at: grip site, turn of the wrist to get there, width between the fingers that
    hold the object.
    """

    position: Vector
    turn: float
    width: float


def read_hand(observation: Mapping[str, np.ndarray]) -> Hand:
    """Return the gripper of robosuite's observation."""
    x, y, z = observation["robot0_eef_pos"].tolist()
    pose = axes(observation["robot0_eef_quat"].tolist())
    finger, other = observation["robot0_gripper_qpos"].tolist()
    return Hand((x, y, z), atan2(pose[0][1], pose[0][0]), pose, finger - other)


def axes(quaternion: list[float]) -> Frame:
    """Return the axes of a frame given by a unit quaternion (x, y, z, w): the columns of its
    rotation matrix.
    """
    x, y, z, w = quaternion
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + z * w), 2.0 * (x * z - y * w)),
        (2.0 * (x * y - z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + x * w)),
        (2.0 * (x * z + y * w), 2.0 * (y * z - x * w), 1.0 - 2.0 * (x * x + y * y)),
    )


def to_world(
    vector: Sequence[float], frame: Frame, origin: Sequence[float] = (0.0, 0.0, 0.0)
) -> Vector:
    """Return a vector that is given in the axes of a frame, from its `origin` on."""
    x, y, z = (
        origin[i] + sum(part * axis[i] for part, axis in zip(vector, frame, strict=True))
        for i in range(3)
    )
    return (x, y, z)


def ramp(value: float, zero: float, one: float) -> float:
    """Return 0 at `zero`, 1 at `one`, linear between, constant beyond."""
    return min(max((value - zero) / (one - zero), 0.0), 1.0)


def blend(one: Vector, other: Vector, share: float) -> Vector:
    """Return `one` where `share` is 0, `other` where it is 1, linear between."""
    x, y, z = (a + share * (b - a) for a, b in zip(one, other, strict=True))
    return (x, y, z)


def grip(hand: Hand, width: float) -> float:
    """Return 1 where the fingers have closed on an object of that width, 0 where they are further
    open.
    """
    return ramp(hand.opening, width + SQUEEZE, width)


def let_go(hand: Hand, shift: Vector, width: float) -> Float[np.ndarray, " Da"]:
    """Return the action that opens the fingers: move by `shift` (metres) until they leave an object
    of that width, then up and away.
    """
    loose = ramp(hand.opening, width, width + SQUEEZE)
    return drive(blend(shift, (0.0, 0.0, RETREAT), loose), upright(hand.palm), 0.0, False)


def wrap(angle: float, period: float = 2.0 * pi) -> float:
    """Return the angle nearest to 0 that differs from `angle` by whole periods, radians."""
    return angle - period * round(angle / period)


def grasp_turn(hand: Hand, yaw: float, period: float) -> float:
    """Return the wrist's turn to the nearest of the equivalent grasp yaws `yaw + k period`.

    The nearest to a share of the wrist's own yaw, so that the choice does not change on the way and
    the wrist cannot wind up.
    """
    reference = YAW_MEMORY * hand.yaw
    return wrap(reference + wrap(yaw - reference, period) - hand.yaw)


def reach(hand: Hand, grasp: Grasp, aligned: float = ALIGNED) -> tuple[Vector, bool]:
    """Return the position error that leads open fingers around the grasp, and True if the fingers
    should close.

    The fingers descend as they align, and complete the descent within `aligned` (metres). The
    distance within which they close grows as they close, so that a started grasp is finished; away
    from the object they open and start again.
    """
    x, y, z = (goal - now for goal, now in zip(grasp.position, hand.position, strict=True))
    aside = hypot(x, y) + ARM_OF_YAW * abs(grasp.turn)
    closing = ramp(hand.opening, OPEN, grasp.width + 0.005)
    close = hypot(aside, z) < CLOSE_WITHIN + (HOLD_WITHIN - CLOSE_WITHIN) * closing
    if close:
        return (x, y, z), True
    blocked = aside + max(0.0, grasp.width + 0.02 - hand.opening)
    return (x, y, z + min(SLOPE * max(0.0, blocked - aligned), HOVER)), False


def upright(axis: Vector) -> Vector:
    """Return the turn about the world's x and y axes that brings an almost vertical `axis` to the
    vertical, either way up.
    """
    sign = 1.0 if axis[2] > 0.0 else -1.0
    return (sign * axis[1], -sign * axis[0], 0.0)


def drive(shift: Vector, tilt: Vector, turn: float, close: bool) -> Float[np.ndarray, " Da"]:
    """Return the action for a position error (metres), a tilt about x and y and a turn about z
    (radians).
    """
    gain = GAIN / METRES
    sideways = hypot(shift[0], shift[1])
    slow = gain * min(1.0, METRES / (GAIN * sideways)) if sideways > 0.0 else gain
    angular = GAIN / RADIANS
    return np.array(
        [
            slow * shift[0],
            slow * shift[1],
            _clip(gain * shift[2], 1.0),
            _clip(angular * tilt[0], FASTEST_TURN),
            _clip(angular * tilt[1], FASTEST_TURN),
            _clip(angular * turn, FASTEST_TURN),
            1.0 if close else -1.0,
        ]
    )


def _clip(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)
