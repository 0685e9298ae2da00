"""What lies outside of a picture is not drawn: the corners of meshes are most of the work."""

from __future__ import annotations

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int

GEOM = mujoco.mjtObj.mjOBJ_GEOM.value
UNDRAWN = mujoco.mjtGeom.mjGEOM_NONE.value


class Culling:
    """Takes out of a scene what a camera cannot see. Pictures are the same, unless something out of
    sight casts a shadow into them or is reflected.
    """

    def __init__(self, model: mujoco.MjModel, scene: mujoco.MjvScene):
        self._scene, self._geoms = scene, scene.geoms
        self._reach = np.where(model.geom_rbound > 0, model.geom_rbound, np.inf)  # of planes
        self._ids: Int[np.ndarray, " scene"] = np.empty(0, np.int64)
        self._radius: Float[np.ndarray, " scene"] = np.empty(0)

    def apply(self, data: mujoco.MjData) -> None:
        """Leave undrawn what is out of sight, in a scene that was just updated for a camera."""
        if len(self._ids) != self._scene.ngeom:
            geoms = self._geoms[: self._scene.ngeom]
            ours = np.array([geom.objtype == GEOM for geom in geoms])  # others are sites
            self._ids = np.where(ours, [geom.objid for geom in geoms], 0)
            self._radius = np.where(ours, self._reach[self._ids], np.inf)
        camera = mujoco.mjv_averageCamera(*self._scene.camera)
        unseen = out_of_sight(camera, data.geom_xpos[self._ids], self._radius)
        for i in unseen.nonzero()[0].tolist():
            self._geoms[i].type = UNDRAWN


def out_of_sight(
    camera: mujoco.MjvGLCamera,
    places: Float[np.ndarray, "n 3"],
    radius: Float[np.ndarray, " n"],
) -> Bool[np.ndarray, " n"]:
    """Tell which balls, in metres of the world, lie wholly outside of a square picture in
    perspective.
    """
    right = np.cross(camera.forward, camera.up)
    x, y, depth = np.stack([right, camera.up, camera.forward]) @ (places - camera.pos).T
    widest = max(camera.frustum_top, -camera.frustum_bottom, camera.frustum_width)
    slope = widest / camera.frustum_near
    aside = np.maximum(np.abs(x), np.abs(y)) - slope * depth
    return (depth < -radius) | (aside > radius * np.hypot(1.0, slope))
