"""What an expert may know of a LIBERO scene: sizes of the objects of interest, metres."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np


def read_landmarks(env: Any, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Return for every object that can be grasped or placed on `<name>_half` and `<name>_middle`:
    half sizes and middle of the box around its collision geoms, in its own frame.
    """
    found = {}
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for name, body in env.obj_body_id.items():
        corners = _corners(model, data, body)
        if len(corners):
            low, high = corners.min(axis=0), corners.max(axis=0)
            found[f"{name}_half"], found[f"{name}_middle"] = (high - low) / 2, (high + low) / 2
    return found


def _corners(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> np.ndarray:
    """Return the corners [n, 3] of the boxes around a body's collision geoms, in its frame."""
    unit = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    found = [np.zeros((0, 3))]
    for geom in range(model.ngeom):
        if model.geom_contype[geom] and model.body_rootid[model.geom_bodyid[geom]] == body:
            middle, half = model.geom_aabb[geom].reshape(2, 3)
            world = (
                data.geom_xpos[geom] + (middle + half * unit) @ data.geom_xmat[geom].reshape(3, 3).T
            )
            found.append((world - data.xpos[body]) @ data.xmat[body].reshape(3, 3))
    return np.concatenate(found)
