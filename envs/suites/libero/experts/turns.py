"""Several things to be done, one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from math import hypot
from typing import Protocol

import numpy as np
from jaxtyping import Float

from reconverge.envs.suites.robosuite.motion import GAIN, METRES, ramp
from reconverge.envs.task import Expert

SOFT = 0.01  # over which rising turns into moving aside, metres
BELOW = 0.6  # horizontal action at which the hand is over its goal, 2 cm


class Step(Expert, Protocol):
    """An expert that tells whether it has done its part."""

    def placed(self, observation: Mapping[str, np.ndarray]) -> bool:
        """Return whether it is done, the hand perhaps still there."""
        ...

    def holds(self, observation: Mapping[str, np.ndarray]) -> bool:
        """Return whether the hand is at it."""
        ...

    def leave(
        self, observation: Mapping[str, np.ndarray], action: Float[np.ndarray, " Da"]
    ) -> Float[np.ndarray, " Da"]:
        """Return the `action` that leads to what comes next, or as much of it as can be done while
        the open hand leaves.
        """
        ...


def rise_first(action: Float[np.ndarray, " Da"], missing: float) -> Float[np.ndarray, " Da"]:
    """Return the `action` after the hand has risen by `missing` metres; as it is once it leads down
    to what is below.
    """
    if hypot(action[0], action[1]) < BELOW:
        return action
    up = min(GAIN / METRES * missing, 1.0)
    free = ramp(missing, SOFT, 0.0)
    return np.array([*(free * action[:2]), max(action[2], up), *action[3:]])


class InTurn:
    """Do one thing after another; act as a function of the observation alone."""

    def __init__(self, *steps: Step):
        self._steps: Sequence[Step] = steps

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        for step in reversed(self._steps):
            if step.holds(observation):
                return step.act(observation)
        earlier = list(takewhile(lambda step: step.placed(observation), self._steps[:-1]))
        action = self._steps[len(earlier)].act(observation)
        for step in earlier:
            action = step.leave(observation, action)
        return action
