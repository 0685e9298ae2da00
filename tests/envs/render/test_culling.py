"""What is not drawn is out of sight, whatever the camera looks at."""

import mujoco
import numpy as np
import pytest

from reconverge.envs.render.culling import UNDRAWN, Culling, out_of_sight

BALLS = """
<mujoco><worldbody>
  <geom name="floor" type="plane" size="1 1 .1" pos="0 0 -5"/>
  <geom name="seen" size=".1"/>
  <geom name="aside" size=".1" pos="3 0 0"/>
  <site name="mark" size=".1" pos="3 0 0"/>
  <camera name="above" pos="0 0 2" fovy="90"/>
</worldbody></mujoco>
"""


@pytest.fixture
def camera():
    """At (0, 0, 2), looking down with a right angle between opposite sides."""
    made = mujoco.MjvGLCamera()
    made.pos, made.forward, made.up = [0, 0, 2], [0, 0, -1], [0, 1, 0]
    made.frustum_near, made.frustum_top = 0.5, 0.5
    return made


@pytest.mark.parametrize(
    ("place", "radius", "unseen"),
    [
        ((0, 0, 0), 0.1, False),
        ((1.9, -1.9, 0), 0.1, False),  # within
        ((2.1, 0, 0), 0.2, False),  # cut by the edge
        ((2.2, 0, 0), 0.1, True),
        ((0, 2.2, 0), 0.1, True),
        ((0, -2.2, 0), 0.1, True),
        ((0, 0, 2.5), 0.1, True),  # behind
        ((0, 0, 2.05), 0.1, False),  # around the camera
        ((9, 9, 9), np.inf, False),
    ],
)
def test_out_of_sight_tells_what_no_ray_of_the_picture_meets(camera, place, radius, unseen):
    found = out_of_sight(camera, np.array([place], np.float64), np.array([radius]))
    assert found.tolist() == [unseen]


def test_culling_leaves_planes_sites_and_what_is_seen():
    model = mujoco.MjModel.from_xml_string(BALLS)
    data, camera, options = mujoco.MjData(model), mujoco.MjvCamera(), mujoco.MjvOption()
    mujoco.mj_forward(model, data)
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
    scene = mujoco.MjvScene(model, maxgeom=100)
    culling = Culling(model, scene)

    def drawn():
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, options, None, camera, everything, scene)
        culling.apply(data)
        return [geom.type != UNDRAWN for geom in scene.geoms[: scene.ngeom]]

    assert drawn() == [True, True, False, True]
    data.geom_xpos[1:3] = data.geom_xpos[[2, 1]]
    assert drawn() == [True, False, True, True]
    options.sitegroup[0] = 0
    assert drawn() == [True, False, True]
