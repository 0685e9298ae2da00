"""Depth by rays against MuJoCo's own depth buffer, and as an observation like any other."""

import mujoco
import numpy as np
import pytest

from reconverge.envs.cameras import View
from reconverge.envs.catalog import TASKS
from reconverge.envs.render.depth import DepthCamera, DepthPainter, as_picture, collision_model
from reconverge.envs.render.painter import Mixed, Painter, painters
from reconverge.envs.render.viewpoint import hangs
from reconverge.errors import ReconvergeError
from support.simulators import episode_of

DEEP = View(("agentview_depth", "eye_in_hand_depth"), size=64)


@pytest.fixture(params=["lift", "hammer"])
def simulator(request, simulator_of):
    return simulator_of(TASKS[request.param])


@pytest.fixture
def episode(simulator):
    return episode_of(simulator)


def draw(simulator, episode, view):
    painter = painters(simulator, view)()
    pictures = np.empty(view.shape, np.uint8)
    painter.draw(episode, pictures)
    painter.close()
    return pictures


def test_rays_measure_what_mujoco_draws(simulator, episode):
    """But at edges, and between the 12 cm and the 7 m that its buffer is clipped to."""
    draw(simulator, episode, View(("agentview",), 16))  # opens OpenGL as the program does
    model = collision_model(simulator.picture_model)
    model.vis.global_.offwidth = model.vis.global_.offheight = DEEP.size
    data, options = mujoco.MjData(model), mujoco.MjvOption()
    simulator.place(episode, data)
    options.geomgroup[:] = [1, 0, 0, 0, 0, 0]
    for name in DEEP.in_suite(simulator.task).values():
        found = DepthCamera(model, model.camera(name).id, DEEP.size).measure(data)
        with mujoco.Renderer(model, DEEP.size, DEEP.size) as renderer:
            renderer.enable_depth_rendering()
            renderer.update_scene(data, name, options)
            wanted = renderer.render()
        sound = (wanted > 0.12) & (wanted < 7.0)
        assert sound.mean() > 0.3
        near = np.abs(found - wanted)[sound] < 0.01
        assert near.mean() > 0.95, (name, near.mean())


def test_a_picture_of_depth_counts_centimetres_and_finer_steps():
    depth = np.array([[0.1, 0.5], [2.0, np.inf]])
    assert as_picture(depth).tolist() == [
        [[10, 25, 100], [50, 125, 255]],
        [[200, 255, 255], [255, 255, 255]],
    ]


def test_depth_that_is_not_a_number_is_the_farthest():
    assert as_picture(np.array([[np.nan]])).tolist() == as_picture(np.array([[np.inf]])).tolist()


def test_cameras_of_both_kinds_are_drawn_in_their_order(simulator, episode):
    cameras = ("eye_in_hand_depth", "agentview", "agentview_depth")
    mixed = draw(simulator, episode, View(cameras, DEEP.size))
    deep = draw(simulator, episode, DEEP)
    coloured = draw(simulator, episode, View(("agentview",), DEEP.size))
    np.testing.assert_array_equal(mixed[[2, 0]], deep)
    np.testing.assert_array_equal(mixed[1], coloured[0])


def test_depth_needs_no_opengl(simulator, monkeypatch):
    monkeypatch.setattr(Painter, "__init__", None)
    painter = painters(simulator, DEEP)()
    assert isinstance(painter, DepthPainter)
    assert painter.facts["renderer"] == "rays"
    assert list(painter.facts["cameras"]) == list(DEEP.cameras)


def test_both_kinds_tell_what_colour_was_drawn_by(simulator):
    view = View(("agentview_depth", "agentview"), 32)
    painter = painters(simulator, view)()
    assert isinstance(painter, Mixed)
    assert painter.facts["renderer"] != "rays"
    assert set(painter.facts["cameras"]) == set(view.cameras)
    painter.close()


def test_depth_is_upright(simulator, episode):
    """Of a camera that hangs, the far is above the near as in its colours."""
    (depth,) = draw(simulator, episode, View(("agentview_depth",), 64))
    assert depth[:8, ..., 0].mean() > depth[-8:, ..., 0].mean()
    model = simulator.picture_model
    name = View(("agentview_depth",)).in_suite(simulator.task)["agentview_depth"]
    assert hangs(model, model.camera(name).id) == (name == "corner4")


def test_an_unknown_camera_lists_those_of_depth_too():
    with pytest.raises(ReconvergeError, match=r"'moon_depth'.*agentview_depth"):
        View(("moon_depth",)).in_suite(TASKS["lift"])
