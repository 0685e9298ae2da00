"""Scripted experts for LIBERO's tasks: grasp what the instruction names and place it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import hypot, pi

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.libero.boxes import DEPTH, Box, Frame
from reconverge.envs.suites.libero.fixtures import DrawerExpert, KnobExpert, PushExpert
from reconverge.envs.suites.robosuite.motion import (
    METRES,
    RETREAT,
    Grasp,
    Hand,
    Vector,
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
NECK = 0.016  # of a bottle, metres
# where a bottle is put on a rack, in the frame of its region: on the board, beside the ridge
RACK = (-0.05, 0.0, 0.035)


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
        z = middle[2] + self._bowl.height(frame) - RIM
        return self._bowl.grasp_rim(hand, middle, SIDE, WALL, z, CURVED)


class BottleExpert(BowlExpert):
    """Grasp a bottle by its neck and put it on a region, at `place` in the region's frame; act as a
    function of the observation alone.
    """

    def __init__(self, place: Vector, bottle: str, region: str, landmarks: Landmarks):
        super().__init__(bottle, region, landmarks)
        self._dish.middle = list(place)

    def _grasp(self, hand: Hand, middle: Vector, frame: Frame) -> Grasp:
        z = middle[2] + self._bowl.height(frame) - DEPTH
        return Grasp((middle[0], middle[1], z), grasp_turn(hand, 0.0, pi), NECK)


BASKET, BOWL = ("basket", BasketExpert), ("bowl", BowlExpert)
# Of tasks: the expert's name in stores, and what makes it of objects of interest and landmarks.
EXPERTS: dict[str, tuple[str, Callable[..., Expert]]] = {
    **{f"libero_object_{i}": BASKET for i in range(10)},
    **{f"libero_spatial_{i}": BOWL for i in range(10)},
    **{f"libero_goal_{i}": BOWL for i in (1, 4, 8)},  # on the stove, the cabinet, the plate
    "libero_goal_6": BASKET,  # cream cheese into the bowl
    "libero_goal_0": ("drawer", DrawerExpert),
    "libero_goal_2": ("bottle", partial(BottleExpert, (0.0, 0.0, 0.0))),  # on the cabinet
    "libero_goal_9": ("bottle", partial(BottleExpert, RACK)),
    "libero_goal_5": ("push", PushExpert),  # the plate
    "libero_goal_7": ("knob", partial(KnobExpert, "flat_stove_1_button")),
}
