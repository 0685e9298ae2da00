from copy import copy
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from reconverge.envs.cameras import View
from reconverge.envs.catalog import TASKS
from reconverge.envs.render import painter
from reconverge.envs.render.coarse import coarse_model
from reconverge.envs.render.painter import LEFT_OUT, Painter, hangs, painters
from reconverge.envs.render.viewpoint import shown
from reconverge.envs.suites import SUITES
from support.simulators import episode_of

VIEW = View(("agentview", "eye_in_hand"), size=84)


@pytest.fixture(params=["lift", "hammer"])
def simulator(request, simulator_of):
    return simulator_of(TASKS[request.param])


def draw(painter, episode):
    pictures = np.empty(VIEW.shape, np.uint8)
    painter.draw(episode, pictures)
    painter.close()
    return pictures


def plain_model(simulator):
    """The whole model, without multisampling."""
    model = copy(simulator.picture_model)
    model.vis.global_.offwidth = model.vis.global_.offheight = VIEW.size
    model.vis.quality.offsamples = 0
    return model


def test_pictures_are_mujocos_upright(simulator):
    model, episode, suite = plain_model(simulator), episode_of(simulator), simulator.task.suite
    pictures = draw(Painter(simulator, model, VIEW), episode)
    data = mujoco.MjData(model)
    simulator.place(episode, data)
    with mujoco.Renderer(model, VIEW.size, VIEW.size) as renderer:
        for name, picture in zip(VIEW.in_suite(simulator.task).values(), pictures, strict=True):
            renderer.update_scene(data, name, shown(SUITES[suite]))
            for flag in LEFT_OUT:
                renderer.scene.flags[flag] = False
            hanging = hangs(model, model.camera(name).id)
            expected = renderer.render()[:: -1 if hanging else 1, :: -1 if hanging else 1]
            np.testing.assert_array_equal(picture, expected)
            assert hanging == (name == "corner4")


def test_a_coarse_model_looks_like_the_whole_one(simulator):
    """Of 256 levels, on average; other episodes differ more."""
    episode, other = episode_of(simulator), simulator.new_episode()
    simulator.reset(other, 4)
    whole = draw(Painter(simulator, plain_model(simulator), VIEW), episode).astype(int)
    make = painters(simulator, VIEW)
    differences = np.abs(draw(make(), episode) - whole).mean(axis=(1, 2, 3))
    assert differences.max() < 3.0
    assert (np.abs(draw(make(), other) - whole).mean(axis=(1, 2, 3)) > 2 * differences).all()


def test_a_simulator_has_one_coarse_model_of_a_size(simulator, monkeypatch):
    """Which takes a second or two to make."""
    made = []

    def make(model, size):
        made.append(size)
        return coarse_model(model, size)

    monkeypatch.setattr(painter, "coarse_model", make)
    for size in (31, 31, 33, 31):
        painters(simulator, replace(VIEW, size=size))
    assert made == [31, 33]


def test_pictures_are_of_positions_alone(simulator):
    """The same after a restore of the state as when it was recorded."""
    if not SUITES[simulator.task.suite].restores_states:
        pytest.skip("Meta-World restores no states")
    episode, again = episode_of(simulator), simulator.new_episode()
    data = episode.data
    simulator.restore(again, np.concatenate([[data.time], data.qpos, data.qvel]))
    make = painters(simulator, VIEW)
    np.testing.assert_array_equal(draw(make(), again), draw(make(), episode))
