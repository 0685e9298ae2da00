"""Boxes around the objects of LIBERO's scenes, as experts see them, and grasps of them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from math import atan2, cos, pi, sin

import numpy as np

from reconverge.envs.suites.robosuite.motion import (
    Frame,
    Grasp,
    Hand,
    Vector,
    axes,
    grasp_turn,
    to_world,
)
from reconverge.envs.task import Landmarks

DEPTH = 0.035  # grasp of a tall object below its top, metres
END = 0.02  # grasp of a long object from its end, metres
LOWEST = 0.012  # of the grip site over what an object stands on, metres
WIDEST = 0.074  # object that fits between the fingers, metres

HANDLE = "_handle"  # in the names of landmarks

UPRIGHT: Frame = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Box:
    """The box around an object's collision geoms, or around a part of it such as its handle; of a
    region its middle alone. With `joint`, the part is moved by that joint.
    """

    def __init__(self, landmarks: Landmarks, name: str, part: str = "", joint: str = ""):
        self.name, self._joint = name, joint
        known = part or f"{name}_half" in landmarks  # else it is a region, observed by itself
        self.half = landmarks[f"{name}{part}_half"].tolist() if known else [0.0] * 3
        self.middle = landmarks[f"{name}{part}_middle"].tolist() if known else [0.0] * 3
        self._most = landmarks.get(f"{name}_most", np.zeros(3)).tolist()
        moved = f"{name}{part.removesuffix(HANDLE)}_axis"
        self._axis = landmarks[moved].tolist() if joint else [0.0] * 3

    def at(self, place: Vector) -> Box:
        """Return such a box, its middle moved by `place` in its own frame."""
        moved = copy(self)
        moved.middle = [m + p for m, p in zip(self.middle, place, strict=True)]
        return moved

    def along(self, way: float) -> Box:
        """Return such a box, its middle moved by `way` along the axis of its joint, metres."""
        return self.at((way * self._axis[0], way * self._axis[1], way * self._axis[2]))

    def read(self, observation: Mapping[str, np.ndarray]) -> tuple[Vector, Frame]:
        """Return its middle and its axes, world frame."""
        origin = observation[f"{self.name}_pos"].tolist()
        frame = axes(observation[f"{self.name}_quat"].tolist())
        way = self.position(observation)
        middle = [m + way * a for m, a in zip(self.middle, self._axis, strict=True)]
        return to_world(middle, frame, origin), frame

    def position(self, observation: Mapping[str, np.ndarray]) -> float:
        """Return the position of its joint, metres or radians; 0 without one."""
        return observation[self._joint].item() if self._joint else 0.0

    def without_handle(self, middle: Vector, frame: Frame) -> Vector:
        """Return the middle of a mug, whose box, but for the handle, is as long as it is wide."""
        longer = 0 if self.half[0] > self.half[1] else 1
        off = abs(self.half[0] - self.half[1])
        off = off if self._most[longer] > self.middle[longer] else -off
        x, y, z = (m + off * a for m, a in zip(middle, frame[longer], strict=True))
        return (x, y, z)

    def height(self, frame: Frame) -> float:
        """Return half its size along the vertical, metres."""
        return sum(s * abs(axis[2]) for s, axis in zip(self.half, frame, strict=True))

    def grasp(self, hand: Hand, middle: Vector, frame: Frame) -> Grasp:
        """Return a grasp across two of its upright faces near its top, those that need the least
        turn; of a long object at its end towards the robot, where fewer others stand.
        """
        height = self.height(frame)
        level = [(s, a) for s, a in zip(self.half, frame, strict=True) if abs(a[2]) < 0.75]
        choices = [
            (grasp_turn(hand, atan2(axis[0], -axis[1]), pi), size, *level[i - 1])
            for i, (size, axis) in enumerate(level)
            if 2.0 * size < WIDEST
        ]
        none = (0.0, min(self.half), 0.0, (0.0, 0.0, 0.0))  # it is too wide every way
        turn, size, length, along = min(choices, key=lambda choice: abs(choice[0]), default=none)
        back = -along[0] * max(0.0, length - END)
        z = middle[2] + max(0.0, height - DEPTH, LOWEST - height)
        place = (middle[0] + back * along[0], middle[1] + back * along[1], z)
        return Grasp(place, turn, 2.0 * size)

    def grasp_rim(
        self, hand: Hand, middle: Vector, side: float, radius: float, z: float, width: float
    ) -> Grasp:
        """Return a grasp of a round dish by its rim: in the direction `side` from its axis (radians
        about the vertical), `radius` away, at the height `z`.
        """
        x, y = middle[0] + radius * cos(side), middle[1] + radius * sin(side)
        return Grasp((x, y, z), grasp_turn(hand, side + pi / 2.0, pi), width)


class Spot(Box):
    """A region that is fixed in the world."""

    def read(self, observation: Mapping[str, np.ndarray]) -> tuple[Vector, Frame]:
        x, y, z = self.middle
        return (x, y, z), UPRIGHT
