"""Scripted experts for LIBERO's tasks: grasp what the instruction names and place it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import atan2, cos, hypot, pi, sin

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.robosuite.motion import (
    METRES,
    RETREAT,
    Grasp,
    Hand,
    Vector,
    axes,
    blend,
    drive,
    grasp_turn,
    let_go,
    ramp,
    reach,
    read_hand,
    upright,
)
from reconverge.envs.task import Expert, Landmarks

ALIGNED = 0.003  # misalignment at which the hand may come down between other objects, metres
DEPTH = 0.035  # grasp of a tall object below its top, metres
END = 0.02  # grasp of a long object from its end, metres
LOWEST = 0.012  # of the grip site over what an object stands on, metres
WIDEST = 0.074  # object that fits between the fingers, metres
STICKS = 0.03  # distance below the grasp at which an object has left the fingers, metres
SQUEEZE = 0.004  # finger opening beyond an object's width at which the lift begins, metres
CLEARANCE = 0.03  # between a basket's walls and the lower end of what is carried, metres
INSIDE = 0.02  # distance from a basket's axis at which an object is lowered, metres
SOFT = 0.01  # beyond that, over which lowering turns into rising, metres
SINK = 0.03  # depth of its lower end below the walls at which it is released, metres
WALL = 0.006  # from a bowl's outer rim to its wall's middle, metres
CURVED = 0.01  # finger opening on a bowl's wall, which is bent and leans, metres
RIM = 0.016  # grasp of a bowl below its rim, metres
CENTRED = 0.008  # distance from a dish's axis at which a bowl is lowered, metres
LANDED = 0.008  # height over the dish at which a bowl is released, metres
HIGHEST = 0.26  # height over the dish at which a bowl is carried, metres
LEAN = 0.0125  # way to the dish while a bowl is lifted by METRES: out from below the cabinet's top
# direction from a bowl's axis to the grasp, radians about the vertical: within the arm's reach, and
# between the bowl and the drawer's side
SIDE = 2.69

Frame = tuple[Vector, Vector, Vector]  # axes of an object, world frame


class Box:
    """The box around an object's collision geoms; of a region its middle alone."""

    def __init__(self, landmarks: Landmarks, name: str):
        self.name = name
        self.half = landmarks.get(f"{name}_half", np.zeros(3)).tolist()
        self.middle = landmarks.get(f"{name}_middle", np.zeros(3)).tolist()

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


def release(hand: Hand, grasp: Grasp) -> Float[np.ndarray, " Da"]:
    """Return the action that opens the fingers, down with what they hold, up once it is gone: a
    light object can stick to one finger.
    """
    gone = hand.position[2] - grasp.position[2] > STICKS
    return drive((0.0, 0.0, RETREAT if gone else -SINK), upright(hand.palm), 0.0, False)


class BasketExpert:
    """Grasp an object and put it into a basket or a bowl; act as a function of the observation
    alone.
    """

    def __init__(self, thing: str, basket: str, landmarks: Landmarks):
        self._thing, self._basket = Box(landmarks, thing), Box(landmarks, basket)

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        middle, frame = self._thing.read(observation)
        basket, walls = self._basket.read(observation)
        x, y = (basket[0] - middle[0], basket[1] - middle[1])
        top = basket[2] + self._basket.height(walls)
        rise = top - (middle[2] - self._thing.height(frame))
        off = ramp(hypot(x, y), INSIDE, INSIDE + SOFT)
        grasp = self._thing.grasp(hand, middle, frame)
        if off < 1.0 and rise > SINK:
            return release(hand, grasp)
        shift, close = reach(hand, grasp, ALIGNED)
        if close:
            held = ramp(hand.opening, grasp.width + SQUEEZE, grasp.width)
            free = max(ramp(rise + CLEARANCE, 0.03, 0.005), 1.0 - off)
            z = rise + off * CLEARANCE - (1.0 - off) * 2.0 * SINK
            shift = blend(shift, (free * x, free * y, z), held)
        return drive(shift, upright(hand.palm), grasp.turn, close)


class BowlExpert:
    """Grasp a bowl by its rim and put it on a dish or a region; act as a function of the
    observation alone.
    """

    def __init__(self, bowl: str, dish: str, landmarks: Landmarks):
        self._bowl, self._dish = Box(landmarks, bowl), Box(landmarks, dish)

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        middle, frame = self._bowl.read(observation)
        dish, _ = self._dish.read(observation)
        x, y = (dish[0] - middle[0], dish[1] - middle[1])
        rise = dish[2] - (middle[2] - self._bowl.height(frame))  # missing to the dish
        distance = hypot(x, y)
        off = ramp(distance, CENTRED, CENTRED + SOFT)
        grasp = self._grasp(hand, middle, frame)
        if off < 1.0 and rise > -LANDED:
            return let_go(hand, (0.0, 0.0, 0.0), grasp.width)
        shift, close = reach(hand, grasp, ALIGNED)
        if close:
            held = ramp(hand.opening, grasp.width + SQUEEZE, grasp.width)
            missing = rise + min(CLEARANCE + distance, HIGHEST)
            free = max(ramp(missing, 0.03, 0.005), 1.0 - off, LEAN / max(distance, SOFT))
            z = off * min(missing, METRES) + (1.0 - off) * (rise - LANDED)
            shift = blend(shift, (free * x, free * y, z), held)
        return drive(shift, upright(hand.palm), grasp.turn, close)

    def _grasp(self, hand: Hand, middle: Vector, frame: Frame) -> Grasp:
        radius = self._bowl.half[0] - WALL
        x, y = middle[0] + radius * cos(SIDE), middle[1] + radius * sin(SIDE)
        z = middle[2] + self._bowl.height(frame) - RIM
        return Grasp((x, y, z), grasp_turn(hand, SIDE + pi / 2.0, pi), CURVED)


BASKET, BOWL = ("basket", BasketExpert), ("bowl", BowlExpert)
# Of tasks: the expert's name in stores, and what makes it of objects of interest and landmarks.
EXPERTS: dict[str, tuple[str, Callable[..., Expert]]] = {
    **{f"libero_object_{i}": BASKET for i in range(10)},
    **{f"libero_spatial_{i}": BOWL for i in range(10)},
    **{f"libero_goal_{i}": BOWL for i in (1, 4, 8)},  # on the stove, the cabinet, the plate
    "libero_goal_6": BASKET,  # cream cheese into the bowl
}
