"""What a picture shows, and from where: MuJoCo's options and cameras."""

from __future__ import annotations

import mujoco
import numpy as np
from jaxtyping import UInt8

from reconverge.envs.render.opengl import RenderError
from reconverge.envs.suites.suite import Suite
from reconverge.errors import unknown


def shown(suite: Suite) -> mujoco.MjvOption:
    """Return options that show the suite's groups of geoms and sites alone."""
    options = mujoco.MjvOption()
    for groups, visible in (
        (options.geomgroup, suite.geom_groups),
        (options.sitegroup, suite.site_groups),
    ):
        groups[:] = [group in visible for group in range(len(groups))]
    return options


def fixed_camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    """Return the model's camera of that name; RenderError lists those that it has."""
    names = [model.camera(i).name for i in range(model.ncam)]
    if name not in names:
        raise unknown("camera", name, names, RenderError)
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, names.index(name)
    return camera


def upright(pixels: UInt8[np.ndarray, "H W 3"], hanging: bool) -> UInt8[np.ndarray, "H W 3"]:
    """Return a view of pixels, as OpenGL gives them from the lowest row on, with the top row first;
    of a camera that hangs upside down turned by half a turn.
    """
    return pixels[:, ::-1] if hanging else pixels[::-1]


def hangs(model: mujoco.MjModel, camera: int) -> bool:
    """Tell if a camera that stands still is upside down, as Meta-World's in the corners are."""
    up = model.cam_mat0[camera].reshape(3, 3)[2, 1]  # along the world's z
    return bool(model.cam_bodyid[camera] == 0 and up < -0.5)
