"""Many episodes through gymnasium: those of single environments, bit for bit."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from reconverge.envs.cameras import View
from reconverge.envs.catalog import TASKS
from reconverge.envs.gymnasium_vector import TaskVectorEnv
from reconverge.errors import ReconvergeError
from support.simulators import use_simulators

STEPS = 9
IDS = ["reconverge/lift-v0", "reconverge/push-back-v0"]


@pytest.fixture(autouse=True)
def shared(monkeypatch, simulator_of):
    for suite in ("robosuite", "metaworld"):
        use_simulators(monkeypatch, suite, simulator_of)


def history(env, seed=3):
    """All that an environment returns in two episodes of 4 steps, as arrays."""
    stream = np.random.default_rng(0)
    found = [env.reset(seed=seed)]
    for _ in range(STEPS):
        found.append(env.step(stream.uniform(-1, 1, env.action_space.shape).astype(np.float32)))
    found.append(env.reset())
    env.close()
    return found


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (tuple, list)):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize(
    ("name", "view"),
    [*((name, None) for name in IDS), (IDS[1], View(("eye_in_hand", "agentview"), 32))],
)
def test_make_vec_of_all_modes_is_the_same(name, view):
    modes = {"sync": SyncVectorEnv, "vector_entry_point": TaskVectorEnv, None: TaskVectorEnv}
    found = []
    for mode, kind in modes.items():
        env = gymnasium.make_vec(
            name, num_envs=3, vectorization_mode=mode, max_episode_steps=4, view=view
        )
        assert type(env) is kind
        assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
        found.append((env.observation_space, env.action_space, history(env)))
    for other in found[1:]:
        assert other[:2] == found[0][:2]
        assert_same(other[2], found[0][2])
    truncated = np.array([entry[3] for entry in found[0][2][1:-1]])
    assert truncated.sum(axis=0).tolist() == [2, 2, 2]  # the fifth step begins anew


def test_make_vec_in_processes_is_the_same():
    found = []
    for mode, kind in (("async", AsyncVectorEnv), (None, TaskVectorEnv)):
        env = gymnasium.make_vec(
            "reconverge/push-back-v0", num_envs=2, vectorization_mode=mode, max_episode_steps=4
        )
        assert type(env) is kind
        found.append(history(env))
    assert_same(*found)


def test_step_ends_an_episode_that_succeeds_and_begins_the_next(simulator_of):
    expert = TASKS["lift"].expert(simulator_of(TASKS["lift"]).landmarks)
    env = TaskVectorEnv("lift", num_envs=2)
    seen, _ = env.reset(seed=[0, 1])
    ends = []
    for _ in range(200):
        each = [{key: value[i] for key, value in seen.items()} for i in range(2)]
        seen, reward, terminated, truncated, info = env.step(np.array([*map(expert.act, each)]))
        assert (reward == terminated).all()
        ends.append(terminated)
        if terminated.any():
            assert not truncated.any()
            assert info["success"][terminated].all()
            break
    assert ends[-1].any()
    seen, reward, terminated, _, info = env.step(env.action_space.sample())
    assert (info["_seed"] == ends[-1]).all()
    assert not reward[ends[-1]].any()
    env.close()


def test_render_gives_a_picture_of_every_episode():
    env = gymnasium.make_vec(IDS[0], num_envs=2, render_mode="rgb_array", width=64, height=48)
    env.reset(seed=[0, 5])
    pictures = env.render()
    assert [picture.shape for picture in pictures] == [(48, 64, 3)] * 2
    assert (pictures[0] != pictures[1]).any()
    env.close()
    env.close()


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_no_time_limit_if_asked_for(mode):
    env = gymnasium.make_vec(IDS[1], num_envs=1, vectorization_mode=mode, max_episode_steps=-1)
    env.reset(seed=0)
    ends = [env.step(np.zeros((1, 4), np.float32))[3][0] for _ in range(210)]
    assert not any(ends)
    env.close()


def test_step_wants_a_reset_and_all_actions():
    env = TaskVectorEnv("push", num_envs=2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((2, 4)))
    env.reset(seed=0, options={"reset_mask": np.array([True, False])})
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((2, 4)))
    env.reset(seed=0)
    with pytest.raises(ReconvergeError, match="3 actions for 2 environments"):
        env.step(np.zeros((3, 4)))
    env.close()


@pytest.mark.parametrize(
    "given",
    [
        {"seed": [1]},
        {"seed": [1, 2, 3]},
        {"options": {"reset_mask": np.array([True])}},
        {"options": {"reset_mask": np.array([2, 0])}},
    ],
)
def test_reset_wants_a_seed_and_a_truth_value_an_environment(given):
    env = TaskVectorEnv("push", num_envs=2)
    with pytest.raises(ReconvergeError, match="for each of 2 environments"):
        env.reset(**given)
    env.close()


@pytest.mark.parametrize("limit", [0, -5])
def test_a_time_limit_is_a_number_of_steps(limit):
    with pytest.raises(ReconvergeError, match=f"max_episode_steps={limit}: give a whole number"):
        gymnasium.make_vec(
            IDS[1], 1, vectorization_mode="vector_entry_point", max_episode_steps=limit
        )


def test_reset_of_some_episodes_and_of_unknown_options():
    env = TaskVectorEnv("lift", num_envs=3)
    first, _ = env.reset(seed=0)
    env.step(np.ones((3, 7), np.float32))
    seen, info = env.reset(seed=0, options={"reset_mask": np.array([True, False, True])})
    same = [all((seen[key][i] == first[key][i]).all() for key in seen) for i in range(3)]
    assert same == [True, False, True]
    assert info["_seed"].tolist() == [True, False, True]
    with pytest.raises(ReconvergeError, match="state: a task has none"):
        env.reset(options={"state": 1})
    env.close()
