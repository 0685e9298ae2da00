"""Pictures for observations: small, drawn for speed, and of the episode's state alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import mujoco
import numpy as np
from jaxtyping import UInt8

from reconverge.envs.render.opengl import open_context
from reconverge.envs.render.viewpoint import fixed_camera, shown
from reconverge.envs.suites.suite import Simulator, Suite

Flag = mujoco.mjtRndFlag
# What takes a pass over the scene of its own, or shows nothing that a policy needs.
LEFT_OUT = (
    Flag.mjRND_SHADOW,
    Flag.mjRND_REFLECTION,
    Flag.mjRND_SKYBOX,
    Flag.mjRND_HAZE,
    Flag.mjRND_FOG,
)


class Painter:
    """Draws the episodes of a simulator from several cameras. To be used and closed in the thread
    that made it.

    `cameras`: our names and the model's. `model` is of what the pictures show: the simulator's
    `picture_model`, or a simpler one with the same bodies and cameras.
    """

    def __init__(
        self,
        simulator: Simulator,
        model: mujoco.MjModel,
        cameras: Mapping[str, str],
        size: int,
        suite: Suite,
    ):
        self._simulator, self._model = simulator, model
        self._cameras, self._size = dict(cameras), size
        self._views = [fixed_camera(model, name) for name in cameras.values()]
        self._hanging = [hangs(model, view.fixedcamid) for view in self._views]
        self._options = shown(suite)
        self._data = mujoco.MjData(model)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        for flag in LEFT_OUT:
            self._scene.flags[flag] = False
        self._rectangle = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        model.vis.quality.offsamples = 0
        self._gl, self._context = open_context(model, size, size)

    @property
    def facts(self) -> dict[str, Any]:
        """What pictures depend on beside the episode: JSON's types."""
        from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString

        self._gl.make_current()
        renderer, opengl = (glGetString(name).decode() for name in (GL_RENDERER, GL_VERSION))
        return {
            "cameras": self._cameras,
            "size": self._size,
            "renderer": renderer,
            "opengl": opengl,
            "mujoco": version("mujoco"),
        }

    def draw(self, episode: Any, pictures: UInt8[np.ndarray, "cameras size size 3"]) -> None:
        """Draw the episode as it is now: RGB, upright."""
        self._gl.make_current()
        self._simulator.place(episode, self._data)
        for view, hanging, picture in zip(self._views, self._hanging, pictures, strict=True):
            mujoco.mjv_updateScene(
                self._model,
                self._data,
                self._options,
                None,
                view,
                mujoco.mjtCatBit.mjCAT_ALL,
                self._scene,
            )
            mujoco.mjr_render(self._rectangle, self._scene, self._context)
            mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
            picture[:] = self._pixels[:, ::-1] if hanging else self._pixels[::-1]

    def close(self) -> None:
        """Free the context; nothing can be drawn any more."""
        self._context.free()
        self._gl.free()


def hangs(model: mujoco.MjModel, camera: int) -> bool:
    """Tell if a camera that stands still is upside down, as Meta-World's in the corners are."""
    up = model.cam_mat0[camera].reshape(3, 3)[2, 1]  # along the world's z
    return bool(model.cam_bodyid[camera] == 0 and up < -0.5)
