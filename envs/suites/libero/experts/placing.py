"""Scripted experts for LIBERO's tasks: grasp what the instruction names and place it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import atan2, dist, hypot, pi
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.libero.experts.boxes import DEPTH, Box
from reconverge.envs.suites.libero.experts.turns import rise_first
from reconverge.envs.suites.robosuite.motion import (
    ARM_OF_YAW,
    GAIN,
    HOLD_WITHIN,
    METRES,
    OPEN,
    RADIANS,
    RETREAT,
    Frame,
    Grasp,
    Hand,
    Vector,
    blend,
    drive,
    grasp_turn,
    grip,
    let_go,
    ramp,
    reach,
    read_hand,
    upright,
    wrap,
)

ALIGNED = 0.003  # misalignment at which the hand may come down between other objects, metres
STICKS = 0.03  # distance below the grasp at which an object has left the fingers, metres
CLEARANCE = 0.03  # between a basket's walls and the lower end of what is carried, metres
INSIDE = 0.02  # distance from a basket's axis at which an object is lowered, metres
SOFT = 0.01  # beyond that, over which lowering turns into rising, metres
SINK = 0.03  # depth of its lower end below the walls at which it is released, metres
WALL = 0.006  # from a bowl's outer rim to its wall's middle, metres
CURVED = 0.01  # finger opening on a bowl's wall, which is bent and leans, metres
HANGING = 0.015  # the same on a mug's, which swings
RIM = 0.016  # grasp of a bowl below its rim, metres
CENTRED = 0.008  # distance from a dish's axis at which a bowl is lowered, metres
ROOM = 0.03  # distance from the middle of a drawer at which a bowl is lowered, metres
HIGH = 0.12  # of the hand over the middle of a drawer, metres
TALL = 0.15  # height over a grasp from which the hand comes down between tall things, metres
LANDED = 0.008  # height over the dish at which a bowl is released, metres
DROP = 0.05  # the same of a thing over a drawer that the palm does not fit into, metres
HIGHEST = 0.26  # height over the dish at which a bowl is carried, metres
LEAN = 0.0125  # way to the dish while a bowl is lifted by METRES: out from below the cabinet's top
# direction from a bowl's axis to the grasp, radians about the vertical: within the arm's reach, and
# between the bowl and the drawer's side
SIDE = 2.69
LOW = 0.1  # depth of a book's lower end below a caddy's walls at which it is released, metres
SQUARE = (0.05, 0.15)  # turn that a book still lacks: may be lowered, may not, radians
LENGTH = (0.004, 0.008)  # distance from a compartment's middle along a book: may, may not, metres
ENTERED = 0.01  # depth below the walls from which they lead a book, metres
LED = (0.02, 0.03)  # distance from the middle at which they do, at which they do not, metres
SLOW_TURN = 0.4  # rotation action with a book, which turns in the fingers
LID = 0.017  # from the middle of a moka pot's box, handle included, to its lid's, metres
KNOB = 0.01  # on its lid, metres
NECK = 0.016  # of a bottle, metres
BESIDE = 0.1  # distance from a place's sides at which the hand cannot touch what is there, metres
OVER = 0.04  # height over what is there at which the hand may move aside, metres


def release(hand: Hand, grasp: Grasp) -> Float[np.ndarray, " Da"]:
    """Return the action that opens the fingers, down with what they hold, up once it is gone: a
    light object can stick to one finger.
    """
    gone = hand.position[2] - grasp.position[2] > STICKS
    return drive((0.0, 0.0, RETREAT if gone else -SINK), upright(hand.palm), 0.0, False)


def come_down(
    action: Float[np.ndarray, " Da"], hand: Hand, grasp: Grasp, z: float
) -> Float[np.ndarray, " Da"]:
    """Return the `action`, up to the height `z` first where the hand is not over the grasp."""
    aside = dist(hand.position[:2], grasp.position[:2]) + ARM_OF_YAW * abs(grasp.turn)
    up = ramp(aside, SOFT, 3.0 * SOFT) * min(GAIN / METRES * (z - hand.position[2]), 1.0)
    action[2] = max(action[2], up) if aside > SOFT else action[2]
    return action


Grasping = Callable[[Hand, Box, Vector, Frame], Grasp]  # of the box around a thing


def grasp_top(hand: Hand, thing: Box, middle: Vector, frame: Frame) -> Grasp:
    """Grasp a thing between two of its upright faces."""
    return thing.grasp(hand, middle, frame)


def grasp_far(hand: Hand, thing: Box, middle: Vector, frame: Frame) -> Grasp:
    """Grasp a long thing at its end away from the robot."""
    near = thing.grasp(hand, middle, frame)
    x, y = (2.0 * middle[i] - near.position[i] for i in (0, 1))
    return near._replace(position=(x, y, near.position[2]))


def grasp_rim(hand: Hand, bowl: Box, middle: Vector, frame: Frame, side: float = SIDE) -> Grasp:
    """Grasp a bowl by its rim."""
    z = middle[2] + bowl.height(frame) - RIM
    return bowl.grasp_rim(hand, middle, side, bowl.half[0] - WALL, z, CURVED)


def grasp_mug(hand: Hand, mug: Box, middle: Vector, frame: Frame) -> Grasp:
    """Grasp a mug, whose handle is to its left or right, by the side away from the robot."""
    z = middle[2] + mug.height(frame) - RIM
    radius = min(mug.half[:2]) - WALL
    return mug.grasp_rim(hand, mug.without_handle(middle, frame), 0.0, radius, z, HANGING)


def grasp_neck(hand: Hand, bottle: Box, middle: Vector, frame: Frame) -> Grasp:
    """Grasp a bottle by its neck."""
    z = middle[2] + bottle.height(frame) - DEPTH
    return Grasp((middle[0], middle[1], z), grasp_turn(hand, 0.0, pi), NECK)


def grasp_book(hand: Hand, book: Box, middle: Vector, frame: Frame) -> Grasp:
    """Grasp a standing book by the middle of its upper edge."""
    z = middle[2] + book.height(frame) - DEPTH
    turn = grasp_turn(hand, atan2(frame[0][0], -frame[0][1]), pi)
    return Grasp((middle[0], middle[1], z), turn, 2.0 * book.half[0])


def grasp_pot(hand: Hand, pot: Box, middle: Vector, frame: Frame) -> Grasp:
    """Grasp a moka pot by the knob on its lid, which its handle and spout are not beside."""
    x, y = (middle[i] - LID * frame[1][i] for i in (0, 1))
    z = middle[2] + pot.height(frame)  # the fingers reach below it, to the pot's shoulders
    return Grasp((x, y, z), grasp_turn(hand, atan2(frame[0][0], -frame[0][1]), pi), KNOB)


class Seen(NamedTuple):
    """What an observation says of a thing and of where it is to be put; metres."""

    hand: Hand
    grasp: Grasp
    x: float  # missing to the place, world frame
    y: float
    rise: float  # of the thing's lower end to the place
    off: float  # 0 over the place, 1 away from it


class PlaceExpert(ABC):
    """Grasp a thing and put it into or on another; act as a function of the observation alone."""

    within: float  # distance from the place's axis at which the thing is lowered, metres

    def __init__(self, thing: Box, place: Box, grasping: Grasping):
        self._thing, self._place, self._grasping = thing, place, grasping

    @abstractmethod
    def level(self, place: Vector, walls: Frame) -> float:
        """Return the height that the thing's lower end has to reach."""

    @abstractmethod
    def arrived(self, seen: Seen) -> bool:
        """Return whether the thing is where it is let go."""

    @abstractmethod
    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]: ...

    def see(self, observation: Mapping[str, np.ndarray]) -> Seen:
        hand = read_hand(observation)
        middle, frame = self._thing.read(observation)
        place, walls = self._place.read(observation)
        x, y = place[0] - middle[0], place[1] - middle[1]
        rise = self.level(place, walls) - (middle[2] - self._thing.height(frame))
        off = ramp(hypot(x, y), self.within, self.within + SOFT)
        return Seen(hand, self._grasping(hand, self._thing, middle, frame), x, y, rise, off)

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        """Return whether the thing is where it belongs, in the fingers or not."""
        return self.arrived(self.see(observation))

    def holds(self, observation: Mapping[str, np.ndarray]) -> bool:
        """Return whether the thing is between the fingers, which are not fully open."""
        hand, grasp, *_ = self.see(observation)
        return hand.opening < OPEN and dist(hand.position, grasp.position) < HOLD_WITHIN

    def from_above(
        self, observation: Mapping[str, np.ndarray], action: Float[np.ndarray, " Da"]
    ) -> Float[np.ndarray, " Da"]:
        """Return the `action`, down over the thing only."""
        hand, grasp, *_ = self.see(observation)
        return come_down(action, hand, grasp, grasp.position[2] + TALL)

    def leave(
        self, observation: Mapping[str, np.ndarray], action: Float[np.ndarray, " Da"]
    ) -> Float[np.ndarray, " Da"]:
        """Return the `action` towards what comes next, first up while the hand is at the place."""
        hand = read_hand(observation)
        middle, frame = self._thing.read(observation)
        place, walls = self._place.read(observation)
        top = max(middle[2] + self._thing.height(frame), place[2] + self._place.height(walls))
        missing = top + OVER - hand.position[2]
        near = dist(hand.position[:2], place[:2]) < max(self._place.half[:2]) + BESIDE
        return rise_first(action, missing) if near else action


class IntoExpert(PlaceExpert):
    """Put a thing into a basket, a tray or a bowl."""

    within, sink = INSIDE, SINK

    def level(self, place: Vector, walls: Frame) -> float:
        return place[2] + self._place.height(walls)

    def arrived(self, seen: Seen) -> bool:
        return seen.off < 1.0 and seen.rise > self.sink

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        seen = self.see(observation)
        hand, grasp, x, y, rise, off = seen
        if self.arrived(seen):
            return release(hand, grasp)
        shift, close = reach(hand, grasp, ALIGNED)
        if close:
            held = grip(hand, grasp.width)
            free = max(ramp(rise + CLEARANCE, 0.03, 0.005), 1.0 - off)
            z = rise + off * CLEARANCE - (1.0 - off) * 2.0 * self.sink
            shift = blend(shift, (free * x, free * y, z), held)
        return drive(shift, upright(hand.palm), grasp.turn, close)


class OntoExpert(PlaceExpert):
    """Put a thing on a dish or a region."""

    within, lean, clearance, landed = CENTRED, LEAN, CLEARANCE, LANDED

    def level(self, place: Vector, walls: Frame) -> float:
        return place[2]

    def arrived(self, seen: Seen) -> bool:
        return seen.off < 1.0 and seen.rise > -self.landed

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        seen = self.see(observation)
        hand, grasp, x, y, rise, off = seen
        if self.arrived(seen):
            return let_go(hand, (0.0, 0.0, 0.0), grasp.width)
        shift, close = reach(hand, grasp, ALIGNED)
        if close:
            held = grip(hand, grasp.width)
            distance = hypot(x, y)
            missing = rise + min(self.clearance + distance, HIGHEST)
            free = max(ramp(missing, 0.03, 0.005), 1.0 - off, self.lean / max(distance, SOFT))
            z = off * min(missing, METRES) + (1.0 - off) * (rise - LANDED)
            shift = blend(shift, (free * x, free * y, z), held)
        return drive(shift, upright(hand.palm), grasp.turn, close)


class OverExpert(OntoExpert):
    """Put a thing on a region beside a caddy, over which it is carried."""

    clearance = HIGHEST


class FromAboveIntoExpert(IntoExpert):
    """Put a thing from between tall ones, which would fall over, into a basket."""

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        return self.from_above(observation, super().act(observation))


class FromAboveOntoExpert(OntoExpert):
    """Put a thing from between tall ones, which would fall over, on a dish or a region."""

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        return self.from_above(observation, super().act(observation))


class InsideExpert(OntoExpert):
    """Put a thing into a drawer, where it may slide."""

    within, lean = ROOM, 0.0

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        """Come down over the thing only: on the way the drawer stands out."""
        hand, grasp, *_ = self.see(observation)
        z = self._place.read(observation)[0][2] + HIGH
        return come_down(super().act(observation), hand, grasp, z)


class DropExpert(InsideExpert):
    """Let a thing fall into a drawer that is not wide open."""

    landed = DROP


class SlotExpert(IntoExpert):
    """Put a standing book into a compartment of a caddy, its boards across axis `side`."""

    sink = LOW

    def __init__(self, book: Box, slot: Box, caddy: Box, side: int, within: float):
        super().__init__(book, slot, grasp_book)
        self._side, self._caddy, self._across = side, caddy, (within, within + SOFT)

    def see(self, observation: Mapping[str, np.ndarray]) -> Seen:
        """As of a place as high as the caddy's walls, to be entered once the book is turned."""
        seen = super().see(observation)
        middle, frame = self._caddy.read(observation)
        walls = middle[2] + self._caddy.height(frame) - self._place.read(observation)[0][2]
        rise = seen.rise + walls
        along, across = (
            abs(seen.x * frame[axis][0] + seen.y * frame[axis][1])
            for axis in (1 - self._side, self._side)
        )
        askew = ramp(abs(self.askew(observation)), *SQUARE)
        off = max(ramp(along, *LENGTH), ramp(across, *self._across), askew)
        out = max(ramp(rise, ENTERED, 0.0), ramp(max(along, across), *LED))
        return seen._replace(off=off * out, rise=rise)

    def askew(self, observation: Mapping[str, np.ndarray]) -> float:
        """Return the turn about the vertical that is missing, radians."""
        _, frame = self._thing.read(observation)
        _, walls = self._place.read(observation)
        now, goal = frame[0], walls[self._side]
        return wrap(atan2(goal[1], goal[0]) - atan2(now[1], now[0]), pi)

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        action = super().act(observation)
        seen = self.see(observation)
        hand, grasp = seen.hand, seen.grasp
        if self.holds(observation) and not self.arrived(seen):
            held = grip(hand, grasp.width)
            turn = GAIN / RADIANS * self.askew(observation) * held
            action[5] = min(max(turn, -SLOW_TURN), SLOW_TURN)
        return action
