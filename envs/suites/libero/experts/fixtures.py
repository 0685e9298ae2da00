"""Scripted experts for LIBERO's fixtures: turn a knob, open or shut a drawer; push a dish to its
place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import atan2, cos, dist, hypot, pi, sin

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.libero.experts.boxes import HANDLE, Box
from reconverge.envs.suites.libero.experts.placing import Grasping, InsideExpert, OntoExpert
from reconverge.envs.suites.libero.experts.turns import rise_first
from reconverge.envs.suites.robosuite.door import approach, turn_to
from reconverge.envs.suites.robosuite.motion import (
    Frame,
    Grasp,
    Vector,
    drive,
    grasp_turn,
    ramp,
    reach,
    read_hand,
    to_world,
    upright,
    wrap,
)
from reconverge.envs.task import Landmarks

ALIGNED = 0.005  # misalignment at which the fingers come down around a knob, metres
DEEP = 0.015  # grasp of a knob below its top, metres
FIRM = (0.012, 0.004)  # finger opening beyond a handle's width at which it is moved: none, full
TURN = 0.4  # angle by which the hand is ahead of the knob that it turns, radians
OVER = 0.1  # height from which the hand comes down before a drawer, over what stands there, metres
BESIDE = (0.02, 0.06)  # distance along a handle at which it is down, and up, metres
PULL = 0.03  # position error that pulls a drawer, metres
ABOVE = 0.1  # height over a handle, or distance from it, at which the hand moves freely, metres
TURNED = 0.6  # angle of a knob from which its stove is on, with what it may spring back, radians
BEFORE = 0.06  # distance from a handle before which the hand comes down to push it, metres
ASIDE = 0.02  # distance along it at which the hand comes down, metres
LEANING = 0.7  # angle of the hand to the vertical as it pushes, radians
IN_DRAWER = 0.05  # before a handle, metres: what is less far before it is in the drawer
FITS = 0.105  # the same of a thing that the hand can grasp
OPENED = -0.13  # position of a drawer's joint, metres
PUSH = 0.05  # position error that pushes a dish, metres
LOW = 0.018  # of the grip site over a region of the table, metres
WALL = 0.008  # from a flat dish's outer rim to between the fingers, metres
SLANTED = 0.035  # finger opening on its rim, which leans outwards, metres


def is_open(observation: Mapping[str, np.ndarray], joint: str) -> bool:
    """Return whether a drawer is open wide enough to put a thing into it."""
    return observation[joint].item() < OPENED


class FixtureExpert(ABC):
    """Move what a fixture's joint moves, by a part of it; act as a function of the observation
    alone.
    """

    def __init__(self, part: Box):
        self._part = part

    @abstractmethod
    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]: ...

    def holds(self, observation: Mapping[str, np.ndarray]) -> bool:
        return False

    def leave(
        self, observation: Mapping[str, np.ndarray], action: Float[np.ndarray, " Da"]
    ) -> Float[np.ndarray, " Da"]:
        """Return the `action` towards what comes next, first up from the part."""
        hand = read_hand(observation)
        part, _ = self._part.read(observation)
        near = dist(hand.position[:2], part[:2]) < ABOVE
        return rise_first(action, part[2] + ABOVE - hand.position[2]) if near else action


class KnobExpert(FixtureExpert):
    """Grasp a knob from above and turn it, on if `ahead` is positive."""

    def __init__(self, joint: str, owner: str, landmarks: Landmarks, ahead: float = TURN):
        super().__init__(Box(landmarks, owner, HANDLE))
        self._joint, self._ahead = joint, ahead

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        middle, frame = self._part.read(observation)
        x, y, _ = observation[f"{self._part.name}_pos"].tolist()  # its axis
        z = middle[2] + self._part.height(frame) - DEEP
        width = 2.0 * min(self._part.half[:2])
        way = observation[self._joint].item()
        yaw = atan2(frame[0][1], frame[0][0]) + way
        turn = grasp_turn(hand, yaw, pi)
        if self._ahead < 0.0:  # the yaw from which the whole way can be turned without a new grasp
            turn = wrap(yaw - way / 2.0, pi) + way / 2.0 - hand.yaw
        grasp = Grasp((x, y, z), turn, width)
        shift, close = reach(hand, grasp, ALIGNED)
        ahead = self._ahead * ramp(hand.opening - width, *FIRM) if close else 0.0
        return drive(shift, upright(hand.palm), grasp.turn + ahead, close)

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        way = observation[self._joint].item()
        return way > TURNED if self._ahead > 0.0 else way < 0.0


class HandleExpert(FixtureExpert):
    """Move a drawer by its handle."""

    def read(self, observation: Mapping[str, np.ndarray]) -> tuple[Vector, float, Frame]:
        """Return the handle's middle, its height, and axes along it, down, out of the drawer."""
        middle, drawer = self._part.read(observation)
        ways = zip(self._part.middle[:2], drawer[:2], strict=True)
        away, (x, y, _) = max(ways, key=lambda way: abs(way[0]))
        sign = 1.0 if away > 0.0 else -1.0
        front = (sign * y, -sign * x, 0.0), (0.0, 0.0, -1.0), (sign * x, sign * y, 0.0)
        return middle, 2.0 * self._part.height(drawer), front


class DrawerExpert(HandleExpert):
    """Grasp a drawer's handle from the front and pull."""

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        handle, width, frame = self.read(observation)
        turn = turn_to(hand.pose, frame)
        along = sum((a - b) * c for a, b, c in zip(hand.position, handle, frame[0], strict=True))
        over = (handle[0], handle[1], handle[2] + OVER * ramp(abs(along), *BESIDE))
        (x, y, z), close = approach(hand, over, frame, turn, width)
        if close:
            z += PULL * ramp(hand.opening - width, *FIRM)
        return drive(to_world((x, y, z), frame), turn, turn[2], close)


class ShutExpert(HandleExpert):
    """Push a drawer shut by its handle, the fingers closed."""

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        handle, _, frame = self.read(observation)
        away = [a - b for a, b in zip(hand.position, handle, strict=True)]
        along, down, out = (sum(a * c for a, c in zip(away, axis, strict=True)) for axis in frame)
        turn = grasp_turn(hand, atan2(frame[2][1], frame[2][0]), pi)  # its narrow side ahead
        low = ramp(-down, BEFORE, BEFORE / 2.0)  # 0 above the handle, 1 before it
        # missing to where it may be low
        aside = max(abs(along) - ASIDE, (1.0 - low) * BEFORE / 2.0 - out, 0.0)
        above = OVER * ramp(aside, 0.0, ASIDE)
        inwards = BEFORE - out - low * (BEFORE + PUSH) * ramp(aside, ASIDE, 0.0)
        shift = to_world((-along, -down - above, inwards), frame)
        return drive(shift, self._tilt(hand.palm, frame), turn, True)

    def _tilt(self, palm: Vector, frame: Frame) -> Vector:
        """Return the turn about the world's x and y axes to a palm that looks down and inwards: the
        hand stays out of the way of handles above.
        """
        x, y = (-sin(LEANING) * part for part in frame[2][:2])
        z = -cos(LEANING)
        return (palm[1] * z - palm[2] * y, palm[2] * x - palm[0] * z, 0.0)

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        return self._part.position(observation) > 0.0


class RoomExpert(ShutExpert):
    """Push an open drawer inwards until the hand fits between its handle and a thing before it."""

    def __init__(self, part: Box, thing: Box):
        super().__init__(part)
        self._thing = thing

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        return not IN_DRAWER < self._before(observation) < FITS

    def leave(
        self, observation: Mapping[str, np.ndarray], action: Float[np.ndarray, " Da"]
    ) -> Float[np.ndarray, " Da"]:
        done = self._before(observation) < IN_DRAWER
        return action if done else super().leave(observation, action)

    def _before(self, observation: Mapping[str, np.ndarray]) -> float:
        """Return how far before the handle the thing is, metres: less than 0 in the drawer."""
        handle, _, frame = self.read(observation)
        middle, _ = self._thing.read(observation)
        return sum((a - b) * c for a, b, c in zip(middle, handle, frame[2], strict=True))


class OpenExpert(DrawerExpert):
    """Pull a drawer wide open, of that joint."""

    def __init__(self, part: Box, joint: str):
        super().__init__(part)
        self._joint = joint

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        return is_open(observation, self._joint)


class AsideExpert(OntoExpert):
    """Put a thing out of the way of a drawer that is to be opened."""

    def __init__(self, thing: Box, place: Box, grasping: Grasping, joint: str):
        super().__init__(thing, place, grasping)
        self._joint = joint

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        return is_open(observation, self._joint) or super().placed(observation)

    def holds(self, observation: Mapping[str, np.ndarray]) -> bool:
        return not is_open(observation, self._joint) and super().holds(observation)


class OpenedExpert(InsideExpert):
    """Put a thing into a drawer once it is open."""

    def __init__(self, thing: Box, place: Box, grasping: Grasping, joint: str):
        super().__init__(thing, place, grasping)
        self._joint = joint

    def holds(self, observation: Mapping[str, np.ndarray]) -> bool:
        return is_open(observation, self._joint) and super().holds(observation)


class PushExpert:
    """Push a dish over the table to a region, its rim between the fingers; act as a function of
    the observation alone.
    """

    def __init__(self, dish: str, region: str, landmarks: Landmarks):
        self._dish, self._region = Box(landmarks, dish), Box(landmarks, region)

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        dish, _ = self._dish.read(observation)
        region, _ = self._region.read(observation)
        x, y = region[0] - dish[0], region[1] - dish[1]
        radius, z = self._dish.half[0] - WALL, region[2] + LOW
        grasp = self._dish.grasp_rim(hand, dish, atan2(y, x), radius, z, SLANTED)
        shift, close = reach(hand, grasp, ALIGNED)
        if close:
            push = PUSH / max(hypot(x, y), PUSH) * ramp(hand.opening - SLANTED, *FIRM)
            shift = (shift[0] + push * x, shift[1] + push * y, shift[2])
        return drive(shift, upright(hand.palm), grasp.turn, close and hand.opening > SLANTED)
