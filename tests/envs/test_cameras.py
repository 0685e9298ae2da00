import mujoco
import numpy as np
import pytest

from reconverge.envs.cameras import View
from reconverge.envs.catalog import TASKS
from reconverge.envs.render import opengl
from reconverge.envs.suites import SUITES
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from support.simulators import use_simulators

ONE_SUITE = pytest.mark.parametrize("make_env", ["hammer"], indirect=True)
VIEW = View(("agentview", "eye_in_hand"), size=48)


@pytest.fixture(params=["lift", "hammer"])
def make_env(request, simulator_of, monkeypatch):
    """VectorEnv of a task on the simulator that the session shares."""
    task = TASKS[request.param]
    use_simulators(monkeypatch, task.suite, simulator_of)
    return lambda slots, workers, view=VIEW: VectorEnv(task, slots, workers, view=view)


def test_pictures_do_not_depend_on_workers_slots_or_other_episodes(make_env):
    seeds = [5, 6, 7]
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 20, 7))

    def run(slots, workers, chosen):
        with make_env(slots, workers) as env:
            at = list(range(slots))[-len(chosen) :]
            env.reset(at, [seeds[i] for i in chosen])
            first = env.look(at)
            env.advance(at, actions[chosen, :, : env.task.action_size])
            return np.stack([first, env.look(at)])

    together = run(3, 1, [0, 1, 2])
    assert together.shape == (2, 3, 2, 48, 48, 3)
    np.testing.assert_array_equal(run(3, 2, [0, 1, 2]), together)
    for i in range(3):
        np.testing.assert_array_equal(run(2, 1, [i]), together[:, [i]])
    assert len({picture.tobytes() for picture in together.reshape(-1, 48 * 48 * 3)}) == 12


@pytest.mark.parametrize("size", [15, 513, -1])
def test_view_refuses_a_size_out_of_range(size):
    with pytest.raises(ReconvergeError, match=f"pictures of {size} pixels: .* from 16 to 512"):
        View(("agentview",), size)


@pytest.mark.parametrize("cameras", [(), ("agentview", "agentview")])
def test_view_refuses_no_camera_and_one_twice(cameras):
    with pytest.raises(ReconvergeError, match="give one or more, each once"):
        View(cameras)


def test_vector_env_lists_the_cameras_of_the_suite():
    with pytest.raises(
        ReconvergeError, match=r"camera of hammer 'agent': choose one of agentview, eye_in_hand"
    ):
        VectorEnv(TASKS["hammer"], 1, view=View(("agent",)))


@ONE_SUITE
def test_look_wants_a_view(make_env):
    with make_env(1, 1, None) as env, pytest.raises(ReconvergeError, match="no pictures without"):
        env.look([0])


@ONE_SUITE
def test_look_names_the_debian_packages_without_opengl(make_env, monkeypatch):
    monkeypatch.setattr(opengl, "LIBRARIES", {"libegl1": ("libNone.so",)})
    with make_env(1, 1) as env:
        env.reset([0], [0])
        with pytest.raises(opengl.RenderError, match=r"without OpenGL: apt-get install libegl1$"):
            env.look([0])


def test_facts_tell_what_draws(make_env):
    with make_env(1, 1) as env:
        facts = env.picture_facts
    suite = SUITES[env.task.suite]
    assert facts["cameras"] == {name: suite.cameras[name] for name in VIEW.cameras}
    assert facts["size"] == 48
    assert facts["renderer"]
    assert facts["mujoco"] == mujoco.__version__
