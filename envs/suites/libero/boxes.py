"""Boxes around the objects of LIBERO's scenes, as experts see them, and grasps of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import atan2, cos, pi, sin

import numpy as np

from reconverge.envs.suites.robosuite.motion import Grasp, Hand, Vector, axes, grasp_turn
from reconverge.envs.task import Landmarks

DEPTH = 0.035  # grasp of a tall object below its top, metres
END = 0.02  # grasp of a long object from its end, metres
LOWEST = 0.012  # of the grip site over what an object stands on, metres
WIDEST = 0.074  # object that fits between the fingers, metres

HANDLE = "_handle"  # in the names of landmarks

Frame = tuple[Vector, Vector, Vector]  # axes of an object, world frame


class Box:
    """The box around an object's collision geoms, or around its handle; of a region its middle
    alone.
    """

    def __init__(self, landmarks: Landmarks, name: str, part: str = ""):
        self.name = name
        self.half = landmarks.get(f"{name}{part}_half", np.zeros(3)).tolist()
        self.middle = landmarks.get(f"{name}{part}_middle", np.zeros(3)).tolist()

    def read(self, observation: Mapping[str, np.ndarray]) -> tuple[Vector, Frame]:
        """Return its middle and its axes, world frame."""
        origin = observation[f"{self.name}_pos"].tolist()
        frame = axes(observation[f"{self.name}_quat"].tolist())
        x, y, z = (
            origin[i] + sum(m * axis[i] for m, axis in zip(self.middle, frame, strict=True))
            for i in range(3)
        )
        return (x, y, z), frame

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
        self, hand: Hand, middle: Vector, side: float, wall: float, z: float, width: float
    ) -> Grasp:
        """Return a grasp of a round dish by its rim: in the direction `side` from its axis (radians
        about the vertical), `wall` inside its edge, at the height `z`.
        """
        radius = self.half[0] - wall
        x, y = middle[0] + radius * cos(side), middle[1] + radius * sin(side)
        return Grasp((x, y, z), grasp_turn(hand, side + pi / 2.0, pi), width)
