"""Expert for robosuite's Lift: grasp the cube across two faces and raise it."""

from __future__ import annotations

from collections.abc import Mapping
from math import atan2, pi

import numpy as np
from jaxtyping import Float

from envs.experts.motion import Grasp, Landmarks, axes, drive, grasp_turn, ramp, reach, read_hand, upright

RAISE = 0.08  # position error that lifts a held cube, metres
SQUEEZE = 0.004  # finger opening beyond the cube's width at which the lift begins, metres


class LiftExpert:
    """A function of the observation; needs the landmark `width`."""

    def __init__(self, landmarks: Landmarks):
        self._width = float(landmarks["width"])

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        hand = read_hand(observation)
        x, y, z, *quaternion = observation["object"].tolist()[:7]
        frame = axes(quaternion)
        face = frame[0] if abs(frame[0][2]) < 0.7 else frame[1]
        turn = grasp_turn(hand, atan2(face[1], face[0]), pi / 2.0)
        shift, close = reach(hand, Grasp((x, y, z), turn, self._width))
        if close:
            held = ramp(hand.opening, self._width + SQUEEZE, self._width)
            shift = (shift[0], shift[1], shift[2] + RAISE * held)
        return drive(shift, upright(hand.palm), turn, close)
