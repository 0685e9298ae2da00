"""metaworld's own scripted experts, and corrections with which they solve nearly every start."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.envs.task import Landmarks

REACH_HEIGHT = 0.055  # metres of the hand above the object, below which the fingers enclose it


SIZE = 39  # of metaworld's observation


class MetaworldExpert:
    """metaworld's policy of an environment, for instance "hammer-v3"."""

    def __init__(self, name: str, landmarks: Landmarks):
        from metaworld.policies import ENV_POLICY_MAP

        # Actions are clipped below.
        warnings.filterwarnings("ignore", "Constant.s. may be too high", UserWarning)
        policies: Mapping[str, Any] = ENV_POLICY_MAP  # declared as a map of the abstract class
        self._policy = policies[name]()

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        told = np.concatenate([*observation.values()])[:SIZE]  # features of pictures come after it
        return self._act(told.astype(np.float64))

    def _act(self, flat: Float[np.ndarray, " 39"]) -> Float[np.ndarray, " Da"]:
        return np.clip(self._policy.get_action(flat), -1.0, 1.0)


class PatientExpert(MetaworldExpert):
    """Close the fingers around the object only where they reach it, and move on only when they hold
    it.

    metaworld's push-back moves while the fingers still close, loses the puck in a third of all
    episodes and presses the closed hand onto it from then on; shelf-place lifts a block that it
    does not hold yet in a tenth.
    """

    def __init__(self, name: str, closed: float, landmarks: Landmarks):
        super().__init__(name, landmarks)
        self._closed = closed  # opening of the fingers, of 1, below which the object is held

    def _act(self, flat: Float[np.ndarray, " 39"]) -> Float[np.ndarray, " Da"]:
        action = super()._act(flat)
        hand_height, opening, object_height = flat[2], flat[3], flat[6]
        if action[3] <= 0 or hand_height - object_height >= REACH_HEIGHT:
            action[3] = -1.0
        elif opening > self._closed:
            action[:3] = 0.0
        return action


class StickPullExpert(MetaworldExpert):
    """Pull 3 cm further along y than metaworld's, whose thermos stops short of the goal by
    millimetres in a tenth of all episodes.
    """

    def _act(self, flat: Float[np.ndarray, " 39"]) -> Float[np.ndarray, " Da"]:
        beyond = flat.copy()
        beyond[37] -= 0.03  # the goal's y, in metres
        return super()._act(beyond)
