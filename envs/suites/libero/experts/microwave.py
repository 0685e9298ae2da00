"""Scripted experts for LIBERO's microwave: put a mug into it, push it to its back, shut the door.

Places and lengths are in the microwave's frame: x along its front to the right, y into it, z up,
from the middle of its bottom.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import atan2, cos, dist, hypot, pi, sin
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.libero.experts.boxes import Box
from reconverge.envs.suites.libero.experts.placing import HANGING, WALL
from reconverge.envs.suites.robosuite.door import turn_to
from reconverge.envs.suites.robosuite.motion import (
    ARM_OF_YAW,
    HOLD_WITHIN,
    OPEN,
    Frame,
    Grasp,
    Hand,
    Vector,
    axes,
    blend,
    drive,
    grip,
    ramp,
    reach,
    read_hand,
    to_world,
    upright,
    wrap,
)
from reconverge.envs.task import Landmarks

FRONT, FLOOR, TOP = -0.091, 0.024, 0.188  # of the opening along y; heights
HINGE = (-0.173, -0.088)  # of the door
SHUTTING = -1.2  # angle of the door from which it is being shut, radians

LEAN = 1.0  # of the hand to the vertical with the mug, radians: the palm stays before the opening
ASKEW = 0.9  # angle from the front out to the mug's handle where it is let go, radians
RIM = 0.011  # grasp of the mug below its rim
OVER = 0.08  # height over the grasp from which the hand comes down
WAITS = -0.09  # of the mug's axis before the front, until it is turned and lifted
ENTERS, SIDE = 0.022, -0.01  # of its axis behind the front, along x, where it is let go
LIFT = 0.006  # of the mug over the floor as it enters
STANDS = 0.005  # height over the floor at which it stands
TURNING = 0.4  # most that the mug is told to turn at a time, radians

FLAT = 1.2  # lean of the hand that pushes, radians
DEEP = 0.08  # of the mug's axis behind the front where the door can be shut
PUSHED = (-0.022, 0.052)  # of the fingers beside the mug's axis, over the floor
OUT = 0.1  # of the hand before the front where it is out

REACH = 0.185  # from the hinge to where the door is pushed
BEFORE = 0.07  # of the fingers before the door until they are low
PUSH = 0.06  # position error that pushes the door


class Microwave:
    """The pose of a microwave and of its door, as observed."""

    def __init__(self, name: str, observation: Mapping[str, np.ndarray]):
        self._origin = observation[f"{name}_pos"].tolist()
        self.frame: Frame = axes(observation[f"{name}_quat"].tolist())
        self.door: float = observation[f"{name}_microjoint"].item()  # angle, 0 where it is shut
        self.inwards = atan2(self.frame[1][1], self.frame[1][0])  # about the vertical, radians

    def place(self, point: Vector) -> Vector:
        """Return a point of the world in its frame."""
        away = [p - o for p, o in zip(point, self._origin, strict=True)]
        x, y, z = (sum(a * b for a, b in zip(away, axis, strict=True)) for axis in self.frame)
        return (x, y, z)

    def beside_door(self, x: float, y: float) -> tuple[float, float, Frame]:
        """Return how far a place is from the hinge along the door, how far before the door, and the
        axes of both and up.
        """
        c, s = cos(self.door), sin(self.door)
        x, y = x - HINGE[0], y - HINGE[1]
        return c * x + s * y, s * x - c * y, ((c, s, 0.0), (s, -c, 0.0), (0.0, 0.0, 1.0))


class Seen(NamedTuple):
    """What an observation says of the hand, the mug and the microwave."""

    hand: Hand
    at: Vector  # of the hand
    microwave: Microwave
    mug: Vector  # the middle of its axis
    up: Vector  # along its axis, world frame
    low: float  # height of its lower end over the floor
    grasp: Vector  # world frame
    turn: Vector  # that the hand lacks to a grasp, radians


def leaning(heading: float, lean: float) -> Frame:
    """Return axes, for `turn_to`, of a hand that looks `lean` radians from straight down towards
    `heading`, an angle about the vertical, its fingers left and right of that way.
    """
    c, s = cos(heading), sin(heading)
    return (
        (c * cos(lean), s * cos(lean), sin(lean)),
        (-s, c, 0.0),
        (-c * sin(lean), -s * sin(lean), cos(lean)),
    )


class MugExpert:
    """Put a mug into the opening, by its rim on the left of the hand, which leans towards the
    microwave. The handle, which first points away from the microwave, ends askew beside the front.
    """

    def __init__(self, mug: Box, microwave: str):
        self._mug, self._microwave = mug, microwave

    def see(self, observation: Mapping[str, np.ndarray]) -> Seen:
        hand = read_hand(observation)
        microwave = Microwave(self._microwave, observation)
        middle, frame = self._mug.read(observation)
        axis = self._mug.without_handle(middle, frame)
        handle = atan2(middle[1] - axis[1], middle[0] - axis[0])
        heading = wrap(handle + pi / 2.0 + ASKEW)
        radius = min(self._mug.half[:2]) - WALL
        x, y = axis[0] - radius * sin(heading), axis[1] + radius * cos(heading)
        grasp = (x, y, middle[2] + self._mug.height(frame) - RIM)
        turn, up = turn_to(hand.pose, leaning(heading, LEAN)), frame[2]
        mug = microwave.place(axis)
        leant = hypot(up[0], up[1]) * radius
        low = mug[2] - self._mug.half[2] * up[2] - leant - FLOOR
        at = microwave.place(hand.position)
        return Seen(hand, at, microwave, mug, up, low, grasp, turn)

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        seen = self.see(observation)
        hand, turn = seen.hand, seen.turn
        amiss = hypot(*turn) * ramp(hand.opening, HANGING, OPEN)  # nothing for closed fingers
        shift, close = reach(hand, Grasp(seen.grasp, amiss, HANGING))
        if not close:
            aside = hypot(shift[0], shift[1]) + ARM_OF_YAW * amiss
            over = seen.grasp[2] + OVER * ramp(aside, 0.01, 0.02) - hand.position[2]
            return drive((shift[0], shift[1], max(shift[2], over)), turn, turn[2], False)
        held = grip(hand, HANGING)
        way, turned = self._carry(seen)
        return drive(blend(shift, way, held), blend(turn, turned, held), turned[2], True)

    def _carry(self, seen: Seen) -> tuple[Vector, Vector]:
        """Return shift and turn of the mug in the fingers: up, turned, then into the opening."""
        microwave, (x, y, _) = seen.microwave, seen.mug
        heading = atan2(seen.hand.pose[1][0], -seen.hand.pose[1][1])
        left = wrap(microwave.inwards - heading)
        aside, rise = SIDE - x, LIFT - seen.low
        amiss = max(ramp(abs(aside), 0.01, 0.02), ramp(abs(left), 0.06, 0.12))
        ready = 1.0 - max(amiss, ramp(rise, 0.004, 0.01))
        inwards = FRONT + ENTERS - y
        if abs(inwards) < 0.008 and abs(aside) < 0.02:
            rise = -0.02
        elif y < FRONT - 0.06:
            inwards = FRONT + WAITS - y + ready * (ENTERS - WAITS)
        free = ramp(rise, 0.06, 0.02)
        tilt = upright(seen.up)
        turn = (tilt[0], tilt[1], min(max(left, -TURNING), TURNING))
        return to_world((free * aside, free * inwards, rise), microwave.frame), turn

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        """Return whether the mug stands in the opening, or behind the door that is being shut."""
        seen = self.see(observation)
        stands = seen.low < STANDS and seen.up[2] > 0.9
        return seen.microwave.door > SHUTTING or (stands and seen.mug[1] > FRONT + ENTERS - 0.01)

    def holds(self, observation: Mapping[str, np.ndarray]) -> bool:
        """Return whether the mug is between the fingers and not yet placed."""
        seen = self.see(observation)
        near = dist(seen.hand.position, seen.grasp) < HOLD_WITHIN
        return near and seen.hand.opening < OPEN and not self.placed(observation)

    def leave(
        self, observation: Mapping[str, np.ndarray], action: Float[np.ndarray, " Da"]
    ) -> Float[np.ndarray, " Da"]:
        """Return the `action` once the open hand is out of the microwave, or low before the mug."""
        seen = self.see(observation)
        if not is_within(seen.at, seen.microwave) or seen.at[2] < FLOOR + PUSHED[1] + 0.03:
            return action
        loose = seen.hand.opening > 0.05 or dist(seen.hand.position, seen.grasp) > 0.03
        return withdraw(seen.microwave, (0.0, -0.06, 0.02) if loose else (0.0, 0.0, 0.0))


def withdraw(microwave: Microwave, way: Vector) -> Float[np.ndarray, " Da"]:
    """Return the action that moves the open hand by `way` of the microwave's frame, as it is."""
    return drive(to_world(way, microwave.frame), (0.0, 0.0, 0.0), 0.0, False)


def is_within(at: Vector, microwave: Microwave) -> bool:
    """Return whether the hand is in the opening or just before it, behind the door."""
    _, before, _ = microwave.beside_door(at[0], at[1])
    return before < 0.0 and at[1] > FRONT - OUT and at[2] < TOP


class PushInExpert(MugExpert):
    """Push a mug that stands in the opening to where the door can be shut, the fingers closed."""

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        seen = self.see(observation)
        (x, y, z), microwave = seen.at, seen.microwave
        turn = turn_to(seen.hand.pose, leaning(microwave.inwards, FLAT))
        beside, height = seen.mug[0] + PUSHED[0] - x, FLOOR + PUSHED[1] - z
        aside = hypot(beside, height) + ARM_OF_YAW * hypot(*turn)
        wait = FRONT - OUT - y if y < FRONT - 0.02 else 0.0
        inwards = min(seen.mug[1] - 0.03, FRONT + 0.06) - y
        ready = ramp(aside, 0.03, 0.015)
        shift = (beside, wait + ready * (inwards - wait), height)
        return drive(to_world(shift, microwave.frame), turn, turn[2], True)

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        seen = self.see(observation)
        return seen.microwave.door > SHUTTING or seen.mug[1] > FRONT + DEEP

    def holds(self, observation: Mapping[str, np.ndarray]) -> bool:
        return False

    def leave(
        self, observation: Mapping[str, np.ndarray], action: Float[np.ndarray, " Da"]
    ) -> Float[np.ndarray, " Da"]:
        """Return the `action` once the hand is out of the microwave."""
        seen = self.see(observation)
        inside = is_within(seen.at, seen.microwave)
        return withdraw(seen.microwave, (0.0, -0.06, 0.0)) if inside else action


class ShutDoorExpert:
    """Push the door shut from outside, the fingers closed and the palm over it."""

    def __init__(self, microwave: str, landmarks: Landmarks):  # none: it is observed
        self._microwave = microwave

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        microwave = Microwave(self._microwave, observation)
        x, y, z = microwave.place(hand.position)
        along, before, door = microwave.beside_door(x, y)
        low = ramp(z, TOP + 0.005, TOP - 0.01) * ramp(before, 0.015, 0.02)
        aside = max(abs(REACH - along) - 0.02, (1.0 - low) * (BEFORE - 0.02 - before), 0.0)
        lift = ramp(aside, 0.0, 0.02)
        height = TOP - 0.033 + 0.083 * lift
        free = 1.0 if before > 0.02 else ramp(z, TOP + 0.01, TOP + 0.03)
        push = BEFORE - before - low * (BEFORE + PUSH) * (1.0 - lift)
        shift = to_world((free * (REACH - along), free * push, height - z), door)
        turn = -atan2(hand.pose[1][0], -hand.pose[1][1])
        return drive(to_world(shift, microwave.frame), upright(hand.palm), turn, True)

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        return Microwave(self._microwave, observation).door > -0.005  # as LIBERO has it

    def holds(self, observation: Mapping[str, np.ndarray]) -> bool:
        return False

    def leave(
        self, observation: Mapping[str, np.ndarray], action: Float[np.ndarray, " Da"]
    ) -> Float[np.ndarray, " Da"]:
        return action
