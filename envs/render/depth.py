"""Depth as an observation: how far the scene is along a camera's axis, by rays, without OpenGL.

Rays meet collision geometry, which is a few convex pieces where what is drawn has thousands of
faces. A picture of depth has the type and size of any other picture, so that stores, encoders,
films and the server take it: its three channels are the distance in steps of STEPS, each up to 255
of them. So the near is told finely and the far coarsely, as a depth camera does.
"""

from __future__ import annotations

from copy import copy
from importlib.metadata import version
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from reconverge.envs.cameras import View
from reconverge.envs.render.viewpoint import hangs
from reconverge.envs.suites.suite import Simulator

STEPS = (0.01, 0.004, 0.001)  # metres for 1 of red, green and blue
COLLIDES, OTHER = 0, 1  # groups of the copied model's geoms
MET = np.array([1, 0, 0, 0, 0, 0], np.uint8)  # groups that rays meet


def collision_model(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return a copy in which the geoms that collide are a group of their own, and opaque: rays pass
    through what is transparent.
    """
    model = copy(model)
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    model.geom_group[:] = np.where(collides, COLLIDES, OTHER)
    model.geom_matid[:] = -1
    model.geom_rgba[:, 3] = 1.0
    return model


class DepthPainter:
    """Draws the episodes of a simulator as the depth cameras of a view measure them, in one thread
    at a time.

    `model`: a `collision_model` of the simulator's `picture_model`; several painters may have it.
    """

    def __init__(self, simulator: Simulator, model: mujoco.MjModel, view: View):
        self._simulator, self._data = simulator, mujoco.MjData(model)
        self._names, self._size = view.in_suite(simulator.task), view.size
        cameras = [model.camera(name).id for name in self._names.values()]
        self._cameras = [DepthCamera(model, camera, view.size) for camera in cameras]
        self._hanging = [hangs(model, camera) for camera in cameras]

    @property
    def facts(self) -> dict[str, Any]:
        """What pictures depend on beside the episode: JSON's types."""
        rays = {"renderer": "rays", "mujoco": version("mujoco")}
        return {"cameras": self._names, "size": self._size, **rays}

    def draw(self, episode: Any, pictures: UInt8[np.ndarray, "cameras size size 3"]) -> None:
        """Draw the episode as it is now, upright."""
        self._simulator.place(episode, self._data)
        for camera, hanging, picture in zip(self._cameras, self._hanging, pictures, strict=True):
            seen = as_picture(camera.measure(self._data))
            picture[:] = seen[::-1, ::-1] if hanging else seen

    def close(self) -> None:
        """Do nothing: there is no context to free."""


class DepthCamera:
    """Measures what a camera of a `collision_model` sees, in one thread at a time."""

    def __init__(self, model: mujoco.MjModel, camera: int, size: int):
        self._model, self._camera, self._size = model, camera, size
        half = np.tan(np.radians(model.cam_fovy[camera]) / 2)
        places = ((np.arange(size) + 0.5) / size * 2 - 1) * half
        columns, rows = np.meshgrid(places, -places)  # the top row first
        rays = np.stack([columns, rows, -np.ones_like(rows)], axis=-1).reshape(-1, 3)
        lengths = np.linalg.norm(rays, axis=1)
        self._rays, self._along = rays / lengths[:, None], 1.0 / lengths
        self._distances = np.empty(size * size)
        self._geoms = np.empty(size * size, np.int32)

    def measure(self, data: mujoco.MjData) -> Float[np.ndarray, "size size"]:
        """Return the depth of each pixel in metres, infinite where there is nothing."""
        axes = data.cam_xmat[self._camera].reshape(3, 3)
        mujoco.mj_multiRay(
            self._model,
            data,
            data.cam_xpos[self._camera],
            (self._rays @ axes.T).ravel(),
            MET,
            1,  # also geoms that never move
            -1,  # of every body
            self._geoms,
            self._distances,
            len(self._along),
            mujoco.mjMAXVAL,
        )
        depth = np.where(self._geoms >= 0, self._distances * self._along, np.inf)
        return depth.reshape(self._size, self._size)


def as_picture(depth: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return depth in metres, of a robot's own camera say, as the picture that a policy sees.

    Where it is not a number, as sensors say of what is out of reach, it is the farthest.
    """
    steps = depth[..., None] / np.array(STEPS)
    return np.nan_to_num(np.clip(np.round(steps), 0, 255), nan=255.0).astype(np.uint8)
