"""What an expert may know of a LIBERO scene: sizes of the objects, metres."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np


def read_landmarks(env: Any, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    return {}
