"""metaworld's own scripted experts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from envs.experts.motion import Landmarks


class MetaworldExpert:
    """metaworld's policy of an environment, for instance "hammer-v3": a function of the observation [39]."""

    def __init__(self, name: str, landmarks: Landmarks):
        from metaworld.policies import ENV_POLICY_MAP

        warnings.filterwarnings("ignore", "Constant.s. may be too high", UserWarning)  # actions are clipped here
        policies: Mapping[str, Any] = ENV_POLICY_MAP  # declared as a map of the abstract class
        self._policy = policies[name]()

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]:
        flat = np.concatenate(list(observation.values())).astype(np.float64)
        return np.clip(self._policy.get_action(flat), -1.0, 1.0)
