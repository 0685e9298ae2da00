"""LIBERO stepped natively, against the package's own environments."""

from dataclasses import replace
from threading import Event, Thread

import mujoco
import numpy as np
import pytest

from reconverge.envs.catalog import TASKS, get_task, task_sequence
from reconverge.envs.suites import SUITES, make_simulator
from reconverge.envs.suites.libero.installation import installed, task_names
from reconverge.envs.suites.libero.starts import seeded
from reconverge.envs.vector import VectorEnv
from reconverge.tools.benchmark.stock import show_libero

pytestmark = pytest.mark.skipif(not installed(), reason="wants pip install -e '.[libero]'")

# A scene of every kind: floor, table, kitchen with a drawer, living room, study.
NAMES = ("libero_object_0", "libero_spatial_4", "libero_10_3", "libero_10_5", "libero_10_9")


@pytest.fixture(scope="module", params=NAMES)
def simulator(request):
    return make_simulator(TASKS[request.param])


@pytest.fixture(scope="module")
def reference(simulator):
    from reconverge.envs.suites.libero.model import make_libero

    return make_libero(simulator.task, lean=False)


def test_every_task_is_a_row():
    names = task_names()
    for suite in ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"):
        rows = task_sequence(suite)
        assert [row.simulator for row in rows] == names[suite]
        assert all(row.language and row.suite == "libero" for row in rows)
        assert [get_task(row.simulator).name for row in rows] == [row.name for row in rows]
    assert get_task("libero_object_3_2").label == "libero_object_3_2"


def test_control_step_is_the_packages(simulator, reference):
    """Each from the same state: where objects touch, rounding grows from step to step."""
    episode, rng = simulator.new_episode(), np.random.default_rng(0)
    simulator.reset(episode, 7)
    reference.reset()
    show_libero(reference, episode)
    for _ in range(5):
        state = np.concatenate([[0.0], episode.data.qpos, episode.data.qvel])
        reference.sim.set_state_from_flattened(state)
        reference.sim.forward()
        action = rng.uniform(-1.0, 1.0, 7)
        simulator.step(episode, action)
        reference.step(action)
        np.testing.assert_allclose(episode.data.qpos, reference.sim.data.qpos, atol=1e-8)
        np.testing.assert_allclose(episode.data.qvel, reference.sim.data.qvel, atol=1e-6)


def test_start_is_drawn_as_the_package_draws(simulator, reference):
    """The same numbers after a hard reset, of the robot, objects, joints and fixtures."""
    reference.object_property_initializers.clear()  # a hard reset adds them once more
    reference.hard_reset = True
    np.random.seed(11)  # noqa: NPY002
    reference.reset()
    reference.hard_reset = False
    episode = simulator.new_episode()
    simulator.reset(episode, 11)
    np.testing.assert_allclose(episode.data.qpos, reference.sim.data.qpos, atol=1e-12)
    np.testing.assert_allclose(episode.data.xpos, reference.sim.data.body_xpos, atol=1e-12)


def test_observation_is_the_packages(simulator, reference):
    """Positions and orientations of the same state, by the package's names."""
    task, episode = simulator.task, simulator.new_episode()
    simulator.reset(episode, 3)
    reference.reset()
    show_libero(reference, episode)
    theirs = reference._get_observations(force_update=True)
    theirs = reference._get_observations(force_update=True)  # relative poses come one late
    ours = task.split(simulator.observe([episode])[0])
    shared = [key for key in ours if key in theirs]
    assert {"robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"} < set(shared)
    for key in shared:
        expected = theirs[key]
        if key.endswith("quat") and np.dot(expected, ours[key]) < 0:
            expected = -expected
        np.testing.assert_allclose(ours[key], expected, atol=2e-6, err_msg=key)


def test_goal_is_the_packages(simulator, reference):
    """In states with the objects near one another, where they have come to lie or are about to."""
    episode, rng = simulator.new_episode(), np.random.default_rng(1)
    verdicts = []
    for seed in range(40):
        simulator.reset(episode, seed)
        _gather(simulator, episode, rng)
        show_libero(reference, episode)
        assert simulator.success(episode) == reference._check_success()
        verdicts.append(simulator.success(episode))
    assert any(verdicts)
    assert not all(verdicts)


def _gather(simulator, episode, rng):
    """Put the free objects of interest where others or regions are, with joints anywhere."""
    model, data, scene = episode.model, episode.data, simulator.task.scene
    bodies = [i for name, i in simulator.env.obj_body_id.items() if name in scene.objects]
    places = [data.xpos[body].copy() for body in bodies]
    sites = [data.site_xpos[i].copy() for i in range(model.nsite)]
    for body in bodies:
        joint = model.body_jntadr[body]
        if joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
            start = model.jnt_qposadr[joint]
            options = places if rng.random() < 0.5 else sites
            data.qpos[start : start + 3] = options[rng.integers(len(options))]
            data.qpos[start + 2] += rng.uniform(-0.01, 0.05)
    for joint in scene.joints:
        data.qpos[model.joint(joint.name).qposadr[0]] = rng.choice([joint.low, joint.high])
    for _ in range(rng.integers(10)):
        simulator.step(episode, np.zeros(7))
    mujoco.mj_forward(model, data)


def test_start_states_do_not_depend_on_what_other_threads_draw(simulator):
    """Of another task's simulator, say: the samplers draw from numpy's global generator."""
    seeds, stop = range(30), Event()
    expected = [simulator.start(seed) for seed in seeds]
    before = np.random.get_state()[1].copy()  # noqa: NPY002

    def draw():
        while not stop.is_set():
            with seeded(7):
                np.random.random(50)  # noqa: NPY002

    other = Thread(target=draw)
    other.start()
    found = [simulator.start(seed) for seed in seeds]
    stop.set()
    other.join()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_official_states_start_an_episode(simulator):
    official = type(simulator)(replace(simulator.task, starts="official"))
    episode = official.new_episode()
    official.reset(episode, 10_000_003)
    np.testing.assert_array_equal(episode.data.qpos, official.official[3][1 : 1 + episode.model.nq])
    assert len(official.official) == SUITES["libero"].official_starts
    assert np.isfinite(official.observe([episode])).all()


def test_picture_shows_the_episode(simulator):
    """The picture's model has the bodies where the episode has them."""
    episode = simulator.new_episode()
    simulator.reset(episode, 5)
    data = simulator.picture_data(episode)
    np.testing.assert_allclose(data.xpos, episode.data.xpos, atol=1e-12)
    assert simulator.picture_model.ngeom > simulator.model.ngeom


def test_episodes_step_in_threads_as_alone(simulator):
    chunk = np.random.default_rng(2).uniform(-1.0, 1.0, (4, 3, 7))
    results = []
    for workers in (1, 2):
        with VectorEnv(simulator.task, 4, workers) as env:
            env.reset(range(4), range(4))
            results.append(env.advance(range(4), chunk).observations)
    np.testing.assert_array_equal(*results)
