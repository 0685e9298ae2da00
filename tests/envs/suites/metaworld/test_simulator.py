"""Meta-World's episodes are metaworld's own: the stock environment is the truth, bit for bit."""

import os
from functools import lru_cache

import mujoco
import numpy as np
import pytest
from metaworld import _encode_task
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from reconverge.envs.catalog import TASKS
from reconverge.envs.suites.metaworld.conditions import READINGS
from reconverge.envs.suites.metaworld.simulator import MetaworldSimulator
from support.rows import SOME

STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@pytest.fixture
def task(metaworld_task):
    """Tasks of Meta-World only."""
    return metaworld_task


@lru_cache(4)  # of 20 MB each
def stock(name):
    """metaworld's environment as it is."""
    return ALL_V3_ENVIRONMENTS[name]()


def reset_stock(task, vector):
    """The stock environment, reset to a random vector as MT1's tasks are, and its observation."""
    env = stock(task.simulator)
    content = {"env_cls": type(env), "rand_vec": vector, "partially_observable": False}
    env.set_task(_encode_task(task.simulator, content))
    return env, env.reset()[0]


def state(model, data):
    found = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, found, STATE)
    return found


def start(simulator, seed):
    episode = simulator.new_episode()
    simulator.reset(episode, seed)
    return episode


def follow(simulator, seed, noise, precision=np.float64):
    """Plays an expert with noise in both simulators; yields the episode, what metaworld's step
    returned, its state.
    """
    task, rng = simulator.task, np.random.default_rng(seed)
    episode, expert = start(simulator, seed), task.expert(simulator.landmarks)
    env, _ = reset_stock(task, episode.env._last_rand_vec)
    for _ in range(task.max_steps):
        action = expert.act(task.split(simulator.observe([episode])[0])) + rng.normal(0.0, noise, 4)
        action = action.astype(precision)
        simulator.step(episode, action)
        observation, _, _, _, info = env.step(action)
        yield episode, observation, bool(info["success"]), state(env.model, env.data)
        if episode.success:
            return


def test_reset_starts_as_metaworld(simulator_of, task):
    simulator = simulator_of(task)
    episode = simulator.new_episode()
    for seed in (0, 1, 0, 2, 1):  # again, and after others
        simulator.reset(episode, seed)
        env, observation = reset_stock(task, episode.env._last_rand_vec)
        np.testing.assert_array_equal(
            state(simulator.model, episode.data), state(env.model, env.data)
        )
        np.testing.assert_array_equal(episode.observation, observation)
        for places in ("body_pos", "site_pos"):
            np.testing.assert_array_equal(
                getattr(episode.env.model, places), getattr(env.model, places)
            )


def test_reset_draws_metaworlds_random_vectors(simulator_of, task):
    simulator, env = simulator_of(task), stock(task.simulator)
    reset_stock(task, start(simulator, 0).env._last_rand_vec)
    env.seeded_rand_vec, vectors = True, []
    for seed in range(5):
        env._freeze_rand_vec, env.np_random = False, np.random.default_rng(seed)
        env.reset_model()
        vectors.append(start(simulator, seed).env._last_rand_vec)
        np.testing.assert_array_equal(vectors[-1], env._last_rand_vec)
    assert len(np.unique(vectors, axis=0)) == 5


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_step_is_metaworlds(simulator_of, task, precision):
    if precision == np.float32 and task.name not in SOME and not os.environ.get("ALL_TASKS"):
        pytest.skip("the same cast")
    simulator, successes = simulator_of(task), 0
    for seed in range(3):
        for episode, observation, success, expected in follow(simulator, seed, 0.1, precision):
            np.testing.assert_array_equal(state(simulator.model, episode.data), expected)
            np.testing.assert_array_equal(episode.observation, observation)
            assert simulator.success(episode) == success
        successes += success
    assert successes > 0


@pytest.mark.parametrize("metaworld_task", ["basketball", "disassemble"], indirect=True)
def test_step_is_metaworlds_where_the_condition_is_a_tasks_own(simulator_of, task):
    simulator, ended = simulator_of(task), []
    for seed in range(3):
        for episode, observation, success, _ in follow(simulator, seed, 0.0):
            np.testing.assert_array_equal(episode.observation, observation)
            assert episode.success == success
        ended.append(success)
    assert any(ended)


@pytest.mark.parametrize("name", ["push", "stick-pull"])
def test_step_is_the_same_without_a_reading(simulator_of, monkeypatch, name):
    """An environment that has no row in READINGS is observed and judged by metaworld's Python."""
    native, task = simulator_of(TASKS[name]), TASKS[name]
    monkeypatch.delitem(READINGS, task.simulator)
    simulator, rng = MetaworldSimulator(task), np.random.default_rng(0)
    found, expected = start(simulator, 1), start(native, 1)
    for _ in range(10):
        chunk = rng.uniform(-1.5, 1.5, (1, 3, 4))
        seen, steps = simulator.advance([found], chunk, np.array([2]))
        wanted, _ = native.advance([expected], chunk, np.array([2]))
        assert steps.tolist() == [2]
        np.testing.assert_array_equal(seen, wanted)
        np.testing.assert_array_equal(found.observation, expected.observation)
        np.testing.assert_array_equal(
            state(simulator.model, found.data), state(native.model, expected.data)
        )
        assert (found.success, found.diverged) == (expected.success, expected.diverged)


def test_advance_takes_episodes_through_their_actions_until_success(simulator_of, task):
    """As control steps one at a time do, which metaworld's are held to."""
    simulator, seeds, chunks, ends = simulator_of(task), range(3), [], []
    for seed in seeds:
        episode, expert = start(simulator, seed), task.expert(simulator.landmarks)
        actions = np.zeros((task.max_steps, 4))
        for step in range(task.max_steps):
            actions[step] = expert.act(task.split(simulator.observe([episode])[0]))
            simulator.step(episode, actions[step])
            if episode.success:
                break
        chunks.append(actions)
        ends.append((step + 1, episode.success, simulator.observe([episode])[0]))
    episodes = [start(simulator, seed) for seed in seeds]
    seen, steps = simulator.advance(episodes, np.stack(chunks), np.full(3, task.max_steps))
    for i, (last, success, observation) in enumerate(ends):
        assert (steps[i], episodes[i].success) == (last, success)
        np.testing.assert_array_equal(seen[i, last - 1], observation)
        assert not seen[i, last:].any()


def test_observe_stays_within_the_declared_bounds(simulator_of, task):
    """Clipping at a bound would hide something from the policy."""
    simulator = simulator_of(task)
    for episode, observation, *_ in follow(simulator, 5, noise=0.3):
        np.testing.assert_array_equal(
            simulator.observe([episode])[0], observation.astype(np.float32)
        )


def test_reset_repeats_an_earlier_start(task, simulator_of):
    """The hand's way to its start is simulated once a seed."""
    fresh, used = MetaworldSimulator(task), simulator_of(task)
    start(used, 9)
    first, again = start(fresh, 9), start(used, 9)
    np.testing.assert_array_equal(state(used.model, again.data), state(fresh.model, first.data))
    np.testing.assert_array_equal(again.observation, first.observation)


def test_fingerprint_names_environment_and_rate(simulator_of, task):
    simulator = simulator_of(task)
    assert simulator.fingerprint["environment"] == task.simulator
    assert simulator.fingerprint["control_frequency"] == 80
    assert simulator.fingerprint["substeps"] == 5
    assert simulator.versions.keys() == {"mujoco", "metaworld"}
