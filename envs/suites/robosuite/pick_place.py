"""robosuite's PickPlaceMilk, PickPlaceBread and PickPlaceCereal: their rows of the table of tasks,
their landmarks, and an expert that grasps a box, carries it over the walls and drops it in its
compartment.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import atan2, copysign, hypot, pi
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.robosuite.motion import (
    OPEN,
    Frame,
    Grasp,
    Hand,
    Vector,
    axes,
    blend,
    drive,
    grasp_turn,
    grip,
    let_go,
    ramp,
    reach,
    read_hand,
    to_world,
    upright,
)
from reconverge.envs.suites.robosuite.scene import (
    BINS,
    IN_GRIPPER_AND_WORLD,
    WIDE_REACH,
    Scene,
    object_bounds,
    observations,
)
from reconverge.envs.task import Landmarks, Task

DEPTH = 0.025  # grasp of a tall box below its top, metres
PALM = 0.107  # from the hand's middle to its end, along the fingers' motion, with a margin, metres
LIFTED = 0.02  # height over the floor from which a box is above the hand's way into the bin, metres
TURN_OF_OVERHANG = 100.0  # radians of turn that a metre of the hand over the bin's walls counts
WIDEST = 0.07  # box that fits between the fingers, metres
CLEARANCE = 0.02  # between the walls and the lower end of a carried box
DROP_MARGIN = 0.01  # between the walls' middle and a box that is released
INWARD = 0.02  # goal of the carrying, within the area of release, from its edge nearest the robot


class BoxExpert:
    """Act as a function of the observation alone; needs all `landmarks`."""

    def __init__(self, landmarks: Landmarks):
        self._size = landmarks["half"].tolist()
        self._middle = landmarks["middle"].tolist()
        self._floor = float(landmarks["floor"])
        self._walls = float(landmarks["walls"])
        self._centre = landmarks["target"][:2].tolist()
        self._half = landmarks["compartment"].tolist()
        self._bin = landmarks["start"].tolist()
        self._toward = np.sign(landmarks["base"][:2] - landmarks["target"][:2]).tolist()

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        position, frame = self._box(observation["object"].tolist()[7:])
        height, grasp = self._grasp(hand, position, frame)
        off, margins = self._way(position, frame)
        if all(abs(o) < m for o, m in zip(off, margins, strict=True)):
            return let_go(hand, (0.0, 0.0, 0.0), grasp.width)
        shift, close = reach(hand, grasp)
        if close:
            held = grip(hand, grasp.width)
            rise = self._walls + height + CLEARANCE - position[2]
            high = ramp(rise, 0.03, 0.005)
            x, y = (
                high * (o + s * max(0.0, m - INWARD))
                for o, s, m in zip(off, self._toward, margins, strict=True)
            )
            shift = blend(shift, (x, y, rise), held)
        return drive(shift, upright(hand.palm), grasp.turn, close)

    def _box(self, pose: list[float]) -> tuple[Vector, Frame]:
        """Return the middle of the box and its axes."""
        frame = axes(pose[3:])
        return to_world(self._middle, frame, pose[:3]), frame

    def _extent(self, frame: Frame, i: int) -> float:
        """Return half the size of the box along the world's axis `i`, metres."""
        return sum(s * abs(axis[i]) for s, axis in zip(self._size, frame, strict=True))

    def _way(self, position: Vector, frame: Frame) -> tuple[list[float], list[float]]:
        """Return the way along x and y to the middle of the compartment, and the length of that
        way at which the box is over or in the compartment, clear of the walls.
        """
        off = [centre - p for centre, p in zip(self._centre, position[:2], strict=True)]
        margins = [h - DROP_MARGIN - self._extent(frame, i) for i, h in enumerate(self._half)]
        return off, margins

    def _grasp(self, hand: Hand, position: Vector, frame: Frame) -> tuple[float, Grasp]:
        """Return half the height of the box as it is, and a grasp across two of its upright faces
        near its top, those that need the least turn.
        """
        height = self._extent(frame, 2)
        rests = position[2] - height < self._floor + LIFTED
        choices = []
        for size, axis in zip(self._size, frame, strict=True):
            if 2.0 * size < WIDEST and abs(axis[2]) < 0.7:
                turn = grasp_turn(hand, atan2(axis[0], -axis[1]), pi)
                back = self._back(position, axis) if rests else (0.0, 0.0)
                cost = abs(turn) + TURN_OF_OVERHANG * hypot(*back)
                choices.append((cost, turn, size, axis, back))
        none = (0.0, 0.0, min(self._size), frame[0], (0.0, 0.0))
        _, turn, size, axis, back = min(choices, default=none)
        room = 0.5 * OPEN - size
        along = min(max(back[0] * axis[0] + back[1] * axis[1], -room), room)
        z = max(position[2] + max(0.0, height - DEPTH), self._floor + 0.015)
        place = (position[0] + along * axis[0], position[1] + along * axis[1], z)
        return height, Grasp(place, turn, 2.0 * size)

    def _back(self, position: Vector, axis: Vector) -> tuple[float, float]:
        """Return how far the hand, its fingers along `axis` over `position`, must move to be clear
        of the walls of the bin where boxes start, metres.
        """
        x, y = (
            -copysign(max(0.0, abs(p - middle) + PALM * abs(a) - half), p - middle)
            for p, a, middle, half in zip(position[:2], axis[:2], *self._bin, strict=True)
        )
        return x, y


def landmarks(env: Any, model: Any) -> dict[str, np.ndarray]:
    """Return lengths and places in metres: the box's `half` sizes and its `middle` in its frame,
    middle and half sizes of the bin at the `start`, and those of `compartments`.
    """
    shape = model.geom(env.objects[env.object_id].contact_geoms[0])
    w, *vector = shape.quat.tolist()
    rotation = np.array(axes([*vector, w])).T
    middle, half = model.geom_aabb[shape.id].reshape(2, 3)
    return {
        "half": np.abs(rotation) @ half,
        "middle": shape.pos + rotation @ middle,
        "start": np.stack([env.bin1_pos[:2], env.bin_size[:2] / 2.0]),
        **compartments(env, model),
    }


def compartments(env: Any, model: Any) -> dict[str, np.ndarray]:
    """Return places in metres: `target` at the middle of the object's `compartment` (half sizes),
    heights of the bins' `floor` and `walls`, the robot's `base`.
    """
    bin2 = model.body("bin2").id
    bins = [g for g in range(model.ngeom) if model.geom_bodyid[g] == bin2 and model.geom_contype[g]]
    tops = model.body_pos[bin2, 2] + model.geom_pos[bins, 2] + model.geom_size[bins, 2]
    return {
        "target": env.target_bin_placements[env.object_id].copy(),
        "compartment": env.bin_size[:2] / 4.0,
        "floor": np.array(tops.min()),
        "walls": np.array(tops.max()),
        "base": env.robots[0].composite_controller.get_controller_base_pose("right")[0].copy(),
    }


def _task(name: str) -> Task:
    """Return the row of a box that is named `name` here, `Name` in robosuite."""
    return Task(
        name=name,
        suite="robosuite",
        simulator=f"PickPlace{name.capitalize()}",
        expert=BoxExpert,
        expert_name="box",
        max_steps=400,
        observations=observations(BINS, object_bounds(BINS, WIDE_REACH)),
        scene=Scene(name.capitalize(), landmarks),
        camera="agentview",
        meanings={"object": IN_GRIPPER_AND_WORLD},
    )


MILK, BREAD, CEREAL = _task("milk"), _task("bread"), _task("cereal")
