"""What an expert may know of a LIBERO scene: sizes of objects, places of handles, metres."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np


def read_landmarks(env: Any, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Return for every object that can be grasped or placed on `<name>_half` and `<name>_middle`:
    half sizes and middle of the box around its collision geoms, in its own frame, and
    `<name>_most`, where most of them are: a mug's handle is in its box. For an object of interest
    with a handle or a knob on `<name>_handle_half` and `<name>_handle_middle` as well.

    Of a region of the goal that is not observed: half sizes of 0 and its middle, its handle and
    `<name>_axis` of the joint that slides it, in the frame of the fixture that it belongs to (every
    joint at 0), or of the world.
    """
    found: dict[str, np.ndarray] = {}

    def add(name: str, world: np.ndarray, origin: np.ndarray, rotation: np.ndarray) -> None:
        corners = (world - origin) @ rotation.reshape(3, 3)
        low, high = corners.min(axis=0), corners.max(axis=0)
        found[f"{name}_half"], found[f"{name}_middle"] = (high - low) / 2, (high + low) / 2

    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for name, body in env.obj_body_id.items():
        geoms = _solid(model, model.body_rootid == body)
        if geoms:
            add(name, _corners(model, data, geoms), data.xpos[body], data.xmat[body])
            places = (data.geom_xpos[geoms] - data.xpos[body]) @ data.xmat[body].reshape(3, 3)
            found[f"{name}_most"] = np.median(places, axis=0)
    for name in env.obj_of_interest:
        place = data.body(env.obj_body_id[name]) if name in env.obj_body_id else data.site(name)
        handle = _handle(env, model, data, name)
        if handle:
            add(f"{name}_handle", _corners(model, data, handle), place.xpos, place.xmat)
    for name in _unseen(env):
        origin, rotation = _frame(env, data, env.object_sites_dict[name].parent_name)
        add(name, data.site(name).xpos[None], origin, rotation)
        handle = _handle(env, model, data, name)
        if handle:
            joint = model.body_jntadr[model.geom_bodyid[handle[0]]]
            add(f"{name}_handle", _corners(model, data, handle), origin, rotation)
            if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE:
                found[f"{name}_axis"] = data.xaxis[joint] @ rotation
    return found


def _unseen(env: Any) -> list[str]:
    """Return the regions of the goal that are not of interest, so not observed."""
    named = dict.fromkeys(name for _, *names in env.parsed_problem["goal_state"] for name in names)
    return [n for n in named if n in env.object_sites_dict and n not in env.obj_of_interest]


def _frame(env: Any, data: mujoco.MjData, owner: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return origin and rotation [3, 3] of a fixture, or of the world."""
    if owner not in env.obj_of_interest:
        return np.zeros(3), np.eye(3)
    body = env.obj_body_id[owner]
    return data.xpos[body].copy(), data.xmat[body].reshape(3, 3).copy()


def _solid(model: mujoco.MjModel, bodies: np.ndarray) -> list[int]:
    """Return the collision geoms of the `bodies` [nbody], a mask."""
    return np.flatnonzero((model.geom_contype > 0) & bodies[model.geom_bodyid]).tolist()


def _handle(env: Any, model: mujoco.MjModel, data: mujoco.MjData, name: str) -> list[int]:
    """Return the geom that stands out farthest from what a joint moves, along the joint's axis as
    it opens or turns on, if `name` is moved by one joint or has one such part.
    """
    region = env.object_sites_dict.get(name)
    root = env.obj_body_id.get(name)
    free = model.jnt_type[model.body_jntadr] == mujoco.mjtJoint.mjJNT_FREE
    moved = (model.body_jntnum > 0) & ~free
    if region is None:
        bodies = moved & (model.body_rootid == root) & (np.arange(model.nbody) != root)
    else:
        bodies = moved & (np.arange(model.nbody) == model.site_bodyid[model.site(name).id])
    if bodies.sum() != 1:
        return []
    joint = model.body_jntadr[bodies][0]
    low, high = model.jnt_range[joint]
    axis = data.xaxis[joint] * (1.0 if high > -low else -1.0)
    geoms = _solid(model, bodies)
    reach = [(_corners(model, data, [geom]) @ axis).max() for geom in geoms]
    return [geoms[int(np.argmax(reach))]] if geoms else []


def _corners(model: mujoco.MjModel, data: mujoco.MjData, geoms: list[int]) -> np.ndarray:
    """Return the corners [n, 3] of the boxes around geoms, world frame."""
    unit = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    boxes = [model.geom_aabb[geom].reshape(2, 3) for geom in geoms]
    return np.concatenate(
        [
            data.geom_xpos[geom] + (middle + half * unit) @ data.geom_xmat[geom].reshape(3, 3).T
            for geom, (middle, half) in zip(geoms, boxes, strict=True)
        ]
    )
