"""OpenGL without a display, through EGL. No GPU is needed: Mesa's software renderer does."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from threading import Lock
from typing import Any

import mujoco
import numpy as np

from reconverge.envs.render.culling import Culling
from reconverge.errors import ReconvergeError, one_line

# By Debian package, the libraries of which one is enough.
LIBRARIES = {"libegl1": ("libEGL.so.1",), "libgl1": ("libOpenGL.so.0", "libGL.so.1")}

_one_at_a_time = Lock()  # EGL is initialised by the first


class RenderError(ReconvergeError):
    """Pictures cannot be made or written; one line says why and what to do."""


class Canvas:
    """Where a model is drawn, without a display, with what these options show of it. To be used and
    closed in the thread that made it.
    """

    def __init__(
        self, model: mujoco.MjModel, width: int, height: int, options: mujoco.MjvOption
    ) -> None:
        self._model, self._options = model, options
        self._gl, self._context = _open_context(model, width, height)
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self.scene = mujoco.MjvScene(model, maxgeom=10_000)
        self.pixels = np.empty((height, width, 3), np.uint8)  # the first row is the lowest

    def draw(
        self, data: mujoco.MjData, camera: mujoco.MjvCamera, culling: Culling | None = None
    ) -> None:
        """Draw what a camera sees into `pixels`."""
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, camera, everything, self.scene
        )
        if culling is not None:
            culling.apply(data)
        self.use()
        mujoco.mjr_render(self._rectangle, self.scene, self._context)
        mujoco.mjr_readPixels(self.pixels, None, self._rectangle, self._context)

    def use(self) -> None:
        """Make its context the one that OpenGL works on in this thread."""
        self._gl.make_current()

    def close(self) -> None:
        """Free the context; nothing can be drawn any more."""
        self.use()  # else it would free those of another context
        self._context.free()
        self._gl.free()


def _open_context(model: mujoco.MjModel, width: int, height: int) -> tuple[Any, mujoco.MjrContext]:
    """Return EGL's context and MuJoCo's, current in this thread, with an offscreen buffer of
    that size. Both are to be freed in the thread that made them.
    """
    missing = missing_packages()
    if missing:
        raise RenderError(
            f"no offscreen rendering without OpenGL: apt-get install {' '.join(missing)}"
        )
    # torch imports triton for its first optimiser; after Mesa's LLVM, triton's own would crash.
    with suppress(ImportError):
        import triton  # noqa: F401
    try:
        from mujoco.egl import GLContext, egl_ext

        with _one_at_a_time:
            _check_device(len(egl_ext.eglQueryDevicesEXT()))
            gl = GLContext(width, height)
            gl.make_current()
            model.vis.global_.offwidth, model.vis.global_.offheight = width, height
            context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    except (ImportError, RuntimeError, mujoco.FatalError) as error:
        remedy = "apt-get install libegl1 libgl1 libgl1-mesa-dri"
        raise RenderError(
            f"no offscreen rendering ({one_line(error)}); for a driver: {remedy}"
        ) from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
    return gl, context


def missing_packages() -> list[str]:
    """Return the Debian packages of the OpenGL libraries that are not installed."""
    return [
        package for package, names in LIBRARIES.items() if not any(_loads(name) for name in names)
    ]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _check_device(count: int) -> None:
    """Raise RenderError for a MUJOCO_EGL_DEVICE_ID that names none of the devices of EGL."""
    name = os.environ.get("MUJOCO_EGL_DEVICE_ID")
    if name is not None and name not in map(str, range(count)):
        raise RenderError(
            f"MUJOCO_EGL_DEVICE_ID={name}: EGL has the devices 0 to {count - 1}; give one of them, "
            "or unset it"
        )
