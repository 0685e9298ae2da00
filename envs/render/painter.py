"""Pictures for observations: small, drawn for speed, and of the episode's state alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

import mujoco
import numpy as np
from jaxtyping import UInt8

from reconverge.envs.cameras import DEPTH, View
from reconverge.envs.render.coarse import coarse_model
from reconverge.envs.render.culling import Culling
from reconverge.envs.render.depth import DepthPainter, collision_model
from reconverge.envs.render.opengl import Canvas
from reconverge.envs.render.viewpoint import fixed_camera, hangs, shown, upright
from reconverge.envs.suites import SUITES
from reconverge.envs.suites.suite import Simulator

Flag = mujoco.mjtRndFlag
# What takes a pass over the scene of its own, or shows nothing that a policy needs.
LEFT_OUT = (
    Flag.mjRND_SHADOW,
    Flag.mjRND_REFLECTION,
    Flag.mjRND_SKYBOX,
    Flag.mjRND_HAZE,
    Flag.mjRND_FOG,
)

# Mesa draws in the thread that asks: a small picture gains nothing from more, and every worker has
# a core. It reads this once, when the process opens its first context.
os.environ.setdefault("LP_NUM_THREADS", "0")

_models: WeakKeyDictionary[Simulator, dict[int, mujoco.MjModel]] = WeakKeyDictionary()


class Painter:
    """Draws the episodes of a simulator from the cameras of a view. To be used and closed in the
    thread that made it.

    `model`: the simulator's `picture_model`, coarse (`coarse_model`); several painters may have it.
    """

    def __init__(self, simulator: Simulator, model: mujoco.MjModel, view: View):
        self._simulator, self._model, self._size = simulator, model, view.size
        self._names = view.in_suite(simulator.task)
        self._cameras = [fixed_camera(model, name) for name in self._names.values()]
        self._hanging = [hangs(model, camera.fixedcamid) for camera in self._cameras]
        self._data = mujoco.MjData(model)
        self._canvas = Canvas(model, view.size, view.size, shown(SUITES[simulator.task.suite]))
        for flag in LEFT_OUT:
            self._canvas.scene.flags[flag] = False
        self._culling = Culling(model, self._canvas.scene)

    @property
    def facts(self) -> dict[str, Any]:
        """What pictures depend on beside the episode: JSON's types."""
        from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString

        self._canvas.use()
        renderer, opengl = (glGetString(name).decode() for name in (GL_RENDERER, GL_VERSION))
        return {
            "cameras": self._names,
            "size": self._size,
            "faces": int(self._model.mesh_facenum.sum()),
            "renderer": renderer,
            "opengl": opengl,
            "mujoco": version("mujoco"),
        }

    def draw(self, episode: Any, pictures: UInt8[np.ndarray, "cameras size size 3"]) -> None:
        """Draw the episode as it is now: RGB, upright."""
        self._simulator.place(episode, self._data)
        pixels = self._canvas.pixels
        for camera, hanging, picture in zip(self._cameras, self._hanging, pictures, strict=True):
            self._canvas.draw(self._data, camera, self._culling)
            picture[:] = upright(pixels, hanging)

    def close(self) -> None:
        """Free the canvas; nothing can be drawn any more."""
        self._canvas.close()


class Mixed:
    """Draws some cameras of a view by one painter, others by another."""

    def __init__(self, cameras: Sequence[str], parts: Sequence[Any]):
        self._parts = parts
        self._rows = [[cameras.index(name) for name in part.facts["cameras"]] for part in parts]

    @property
    def facts(self) -> dict[str, Any]:
        """Those of all parts, the first of which draws in colour."""
        first, second = (part.facts for part in self._parts)
        return second | first | {"cameras": {**first["cameras"], **second["cameras"]}}

    def draw(self, episode: Any, pictures: UInt8[np.ndarray, "cameras size size 3"]) -> None:
        """Draw the episode as it is now."""
        for part, rows in zip(self._parts, self._rows, strict=True):
            own = np.empty((len(rows), *pictures.shape[1:]), np.uint8)
            part.draw(episode, own)
            pictures[rows] = own

    def close(self) -> None:
        """Close the parts."""
        for part in self._parts:
            part.close()


def painters(simulator: Simulator, view: View) -> Callable[[], Any]:
    """Return what makes painters in any thread, which all have one model of a kind."""
    deep = tuple(name for name in view.cameras if name.endswith(DEPTH))
    coloured = tuple(name for name in view.cameras if name not in deep)
    makers: list[Callable[[], Any]] = []
    if coloured:
        model = _coarse(simulator, view.size)
        makers.append(partial(Painter, simulator, model, replace(view, cameras=coloured)))
    if deep:
        model = collision_model(simulator.picture_model)
        makers.append(partial(DepthPainter, simulator, model, replace(view, cameras=deep)))
    if len(makers) == 1:
        return makers[0]
    return lambda: Mixed(view.cameras, [make() for make in makers])


def _coarse(simulator: Simulator, size: int) -> mujoco.MjModel:
    """Return the simulator's coarse model for `size` pixels, made once: in a second or two."""
    models = _models.setdefault(simulator, {})
    if size not in models:
        models[size] = coarse_model(simulator.picture_model, size)
    return models[size]
