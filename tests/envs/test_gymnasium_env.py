"""The gymnasium environment of every task."""

import os
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from reconverge.envs.catalog import TASKS
from reconverge.envs.gymnasium_env import TaskEnv
from reconverge.errors import ReconvergeError
from support.simulators import use_simulators


@pytest.fixture
def env(simulator_of, task, monkeypatch):
    """The environment of a task on the simulator that the session shares."""
    use_simulators(monkeypatch, task.suite, simulator_of)
    return TaskEnv(task.name)


def test_task_env_passes_gymnasiums_checker(env):
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("extra", [-1, 1])
def test_step_refuses_an_action_of_another_size(env, extra):
    env.reset(seed=1)
    with pytest.raises(
        ValueError,
        match=rf"{env.task.name}: an action of shape .*; give \[{env.task.action_size}\]",
    ):
        env.step(np.zeros(env.task.action_size + extra))


STARTS = """
from reconverge.envs.catalog import TASKS
from reconverge.envs.suites import make_simulator
for task in TASKS.values():
    simulator = make_simulator(task)
    episode = simulator.new_episode()
    for seed in (7, 8):
        simulator.reset(episode, seed)
        print("start", task.name, episode.data.qpos.tobytes().hex())
"""


def test_reset_gives_the_same_state_in_another_process(simulator_of):
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    command = [sys.executable, "-c", STARTS]
    out = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    found = [line.split()[1:] for line in out.splitlines() if line.startswith("start ")]
    expected = []
    for name, task in TASKS.items():
        simulator = simulator_of(task)
        episode = simulator.new_episode()
        for seed in (7, 8):
            simulator.reset(episode, seed)
            expected.append([name, episode.data.qpos.tobytes().hex()])
    assert found == expected


def flat(observation):
    return np.concatenate(list(observation.values()))


def test_reset_depends_on_its_seed_alone(env):
    first, info = env.reset(seed=3)
    assert info["seed"] == 3
    for _ in range(5):
        env.step(env.action_space.sample())
    other, _ = env.reset(seed=4)
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(flat(first), flat(again))
    assert not np.array_equal(flat(first), flat(other))


def test_reset_without_a_seed_follows_from_the_last_seed(env):
    runs = []
    for _ in range(2):
        env.reset(seed=11)
        runs.append([flat(env.reset()[0]) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0], runs[0][1])


def test_step_truncates_at_max_steps(env):
    env.reset(seed=0)
    for step in range(1, env.task.max_steps + 1):
        _, reward, terminated, truncated, info = env.step(
            np.zeros(env.task.action_size, np.float32)
        )
        assert (reward, terminated, info) == (0.0, False, {"success": False, "diverged": False})
        assert truncated == (step == env.task.max_steps)


def test_step_terminates_on_success_with_reward_one(env):
    expert = env.task.expert(env.simulator.landmarks)
    for seed in range(5):  # Meta-World's experts do not solve every start
        observation, _ = env.reset(seed=seed)
        total = 0.0
        for _ in range(env.task.max_steps):
            observation, reward, terminated, truncated, info = env.step(expert.act(observation))
            total += reward
            if terminated or truncated:
                break
        if terminated:
            assert (truncated, info["success"], total) == (False, True, 1.0)
            return
        assert (truncated, info["success"], total) == (True, False, 0.0)
    pytest.fail("the expert never succeeds")


def test_step_truncates_a_diverged_simulation_without_reward(env, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings to the working directory
    env.reset(seed=0)
    env.episode.data.qvel[0] = 1e12
    _, reward, terminated, truncated, info = env.step(np.zeros(env.task.action_size, np.float32))
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info == {"success": False, "diverged": True}


def test_task_env_refuses_an_unknown_input_frame():
    unknown = "unknown input_frame of lift 'hand': choose one of base, world"
    with pytest.raises(ReconvergeError, match=unknown):
        TaskEnv("lift", input_frame="hand")
