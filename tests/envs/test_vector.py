import gc
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.suites import SUITES
from reconverge.envs.vector import SimulationError, VectorEnv
from reconverge.errors import ReconvergeError
from support.rows import ONE_OF_EACH_SUITE
from support.simulators import succeed_always, use_simulators


@pytest.fixture
def make_env(simulator_of, task, monkeypatch):
    """VectorEnv of a task on the simulator that the session shares."""
    use_simulators(monkeypatch, task.suite, simulator_of)
    return lambda slots, workers: VectorEnv(task, slots, workers)


# What the rows say of their simulators.


def test_suite_control_rate_is_the_simulators(task, simulator_of):
    fingerprint = simulator_of(task).fingerprint
    assert fingerprint["control_frequency"] == SUITES[task.suite].control_hz
    assert fingerprint["suite"] == task.suite


def test_camera_of_every_task_is_in_its_model(simulator_of, task):
    model = simulator_of(task).model
    camera = task.camera or SUITES[task.suite].camera
    assert camera in [model.camera(i).name for i in range(model.ncam)]


def test_cameras_have_the_suites_names(simulator_of, task):
    model = simulator_of(task).model
    there = {model.camera(i).name for i in range(model.ncam)}
    suite = SUITES[task.suite]
    assert {"agentview", "eye_in_hand"} <= set(suite.cameras)
    assert set(suite.cameras.values()) <= there
    assert set(suite.proprioception) < set(task.observations)


# Stepping.


@ONE_OF_EACH_SUITE
def test_step_does_not_depend_on_workers_slots_or_other_episodes(make_env, task):
    seeds = [5, 6, 7, 8, 9]
    actions = np.random.default_rng(0).uniform(-1, 1, (20, len(seeds), task.action_size))

    def run(slots, workers, chosen):
        with make_env(slots, workers) as env:
            at = list(range(slots))[-len(chosen) :]
            seen = [env.reset(at, [seeds[i] for i in chosen])]
            for step in actions:
                observations, success, diverged = env.step(at, step[chosen])
                assert not success.any()
                assert not diverged.any()
                seen.append(observations)
        return np.stack(seen)

    together = run(5, 1, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(run(5, 2, [0, 1, 2, 3, 4]), together)
    np.testing.assert_array_equal(run(9, 4, [0, 1, 2, 3, 4]), together)
    for i in range(len(seeds)):
        np.testing.assert_array_equal(run(1, 1, [i]), together[:, [i]])
    assert len(np.unique(together[-1, :, 0])) == len(seeds)


def test_advance_takes_the_steps_that_its_limits_allow(make_env, task):
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 4, task.action_size))
    limits = [4, 1, 9]
    with make_env(3, 2) as env:
        env.reset([0, 1, 2], [5, 6, 7])
        done = env.advance([0, 1, 2], actions, limits)
        assert done.steps.tolist() == [4, 1, 4]
        assert not done.success.any()
        assert not done.diverged.any()
        env.reset([0, 1, 2], [5, 6, 7])
        for step in range(4):
            rows = [row for row in range(3) if step < limits[row]]
            observations, *_ = env.step(rows, actions[rows, step])
            np.testing.assert_array_equal(done.observations[rows, step], observations)
        with pytest.raises(ValueError, match="actions of 3 slots for 2"):
            env.advance([0, 1], actions)


def test_reset_observes_the_start_state_of_each_seed(make_env, task):
    with make_env(3, 1) as env:
        observations = env.reset([2, 0], [4, 5])
        assert observations.shape == (2, task.observation_size)
        assert observations.dtype == np.float32
        np.testing.assert_array_equal(env.observe([0, 2]), observations[::-1])
        np.testing.assert_array_equal(env.reset([1], [4])[0], observations[0])


@pytest.mark.parametrize(
    "damage", [("qpos", np.nan), ("qvel", np.inf), ("qvel", 1e12), ("qpos", -1e12)]
)
def test_step_reports_a_diverged_simulation_alone(
    make_env, simulator_of, task, monkeypatch, tmp_path, damage
):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings to the working directory
    succeed_always(monkeypatch, simulator_of(task))
    name, value = damage
    action = np.full((1, task.action_size), 0.5)
    with make_env(2, 1) as env:
        env.reset([0], [1])
        expected, *_ = env.step([0], action)
        env.reset([0, 1], [1, 2])
        getattr(env.episodes[1].data, name)[0] = value
        observations, success, diverged = env.step([0, 1], np.repeat(action, 2, axis=0))
        assert list(success) == [True, False]
        assert list(diverged) == [False, True]
        np.testing.assert_array_equal(observations[:1], expected)
        assert np.isfinite(observations).all()
        env.reset([1], [1])
        again, success, diverged = env.step([1], action)
        assert list(success) == [True]
        assert list(diverged) == [False]
        np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("slots", [[0, 0], [1, 2, 1], [-1, 2]])
def test_a_slot_is_given_once(slots):
    """Two threads in one episode would end the process."""
    env = VectorEnv(TASKS["push"], slots=3, workers=2)
    with pytest.raises(ReconvergeError, match="give each once, from 0 on"):
        env.reset(slots, range(len(slots)))
    env.reset([0, 1, 2], range(3))
    with pytest.raises(ReconvergeError, match="give each once, from 0 on"):
        env.step(slots, np.zeros((len(slots), 4)))
    env.close()


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (np.full((1, 3, 4), np.nan), "an action is not finite; give numbers from -1 to 1"),
        (np.where(np.arange(12) == 11, np.inf, 0.0).reshape(1, 3, 4), "an action is not finite"),
        (np.zeros((1, 3, 3)), r"actions of shape \(1, 3, 3\); give \[4\] each"),
    ],
)
def test_actions_are_finite_numbers_of_the_tasks_size(actions, said):
    """MuJoCo would set all controls to zero for one that is not finite."""
    env = VectorEnv(TASKS["push"], slots=1, workers=1)
    env.reset([0], [0])
    with pytest.raises(ReconvergeError, match=said):
        env.advance([0], actions)
    env.close()
    with pytest.raises(ReconvergeError, match="closed; make another"):
        env.reset([0], [0])


def test_vector_env_has_workers_for_cores_and_slots(make_env, monkeypatch):
    monkeypatch.setattr(
        "os.sched_getaffinity", lambda process: {0, 4, 9}
    )  # what a scheduler granted
    for slots, workers, expected in ((8, None, 3), (2, None, 2), (2, 5, 2), (4, 1, 1)):
        with make_env(slots, workers) as env:
            assert (len(env), env.workers) == (slots, expected)


def test_step_names_the_seed_of_a_failing_simulation(make_env, task, monkeypatch):
    with make_env(2, 2) as env:
        env.reset([0, 1], [10, 11])
        advance = env.simulator.advance

        def fail(episodes, chunks, limits):
            return 1 / 0 if env.episodes[1] in episodes else advance(episodes, chunks, limits)

        monkeypatch.setattr(env.simulator, "advance", fail, raising=False)
        with pytest.raises(
            SimulationError, match=f"{task.name}: simulation of seed 11 failed: ZeroDivisionError"
        ):
            env.step([0, 1], np.zeros((2, task.action_size)))


def test_step_names_the_seed_of_a_hanging_simulation(simulator_of, monkeypatch):
    task, release = TASKS["lift"], threading.Event()
    use_simulators(monkeypatch, task.suite, simulator_of)
    with VectorEnv(task, 2, 2, timeout=2.0) as env:
        env.reset([0, 1], [10, 11])
        step = env.simulator.step

        def hang(episode, action):
            release.wait() if episode is env.episodes[1] else step(episode, action)

        monkeypatch.setattr(env.simulator, "step", hang, raising=False)
        with pytest.raises(
            SimulationError, match=r"lift: simulation of seed 11 failed: no answer in 2 s"
        ):
            env.step([0, 1], np.zeros((2, task.action_size)))
        release.set()


def test_environments_of_a_task_share_its_simulator_until_a_simulation_fails(monkeypatch):
    task = TASKS["push"]
    with VectorEnv(task, 1, 1) as env, VectorEnv(replace(task, index=2), 1, 1) as same:
        assert same.simulator is env.simulator
        with VectorEnv(replace(task, max_steps=3), 1, 1) as other:
            assert other.simulator is not env.simulator
        monkeypatch.setattr(env.simulator, "reset", None, raising=False)
        with pytest.raises(SimulationError):
            env.reset([0], [1])
        with VectorEnv(task, 1, 1) as fresh:
            assert fresh.simulator is not env.simulator
            fresh.reset([0], [1])


@pytest.mark.parametrize(("slots", "workers"), [(0, None), (-1, 1), (1, 0)])
def test_vector_env_refuses_slots_and_workers_below_one(slots, workers):
    with pytest.raises(
        ValueError, match=f"slots and workers must be at least 1, got {slots} and {workers}"
    ):
        VectorEnv(TASKS["lift"], slots, workers)


def test_vector_env_is_freed_without_closing(make_env, task):
    """With its threads, which must not hold the simulations that they last stepped."""
    before = threading.active_count()
    env = make_env(2, 2)
    env.reset([0, 1], [0, 1])
    env.step([0, 1], np.zeros((2, task.action_size)))
    episode = weakref.ref(env.episodes[0])
    del env
    gc.collect()
    assert episode() is None
    assert threading.active_count() <= before


def test_vector_env_refuses_an_input_frame_that_the_suite_lacks():
    with pytest.raises(ReconvergeError, match=r"of hammer 'world': choose one of base$"):
        VectorEnv(replace(TASKS["hammer"], input_frame="world"), 1)
