"""The gymnasium environment of every task."""

import copy
import os
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, RecordVideo

from reconverge.envs.cameras import View
from reconverge.envs.catalog import TASKS
from reconverge.envs.gymnasium_env import TaskEnv
from reconverge.envs.registration import env_id
from reconverge.envs.suites import SUITES
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from support.rows import ONE_OF_EACH_SUITE, rows
from support.simulators import use_simulators


@pytest.fixture
def env(simulator_of, task, monkeypatch):
    """The environment of a task on the simulator that the session shares."""
    use_simulators(monkeypatch, task.suite, simulator_of)
    return TaskEnv(task.name)


@pytest.fixture
def made(env):
    """The same task as gymnasium makes it."""
    return gymnasium.make(env_id(env.task.name), render_mode="rgb_array", width=64, height=48)


@ONE_OF_EACH_SUITE
def test_task_env_passes_gymnasiums_checker_without_a_warning(made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(made.unwrapped)
    made.close()
    made.close()


def test_task_env_passes_the_checker_of_stable_baselines3_without_a_warning(made):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(made.unwrapped)
        checker.check_env(made)


@ONE_OF_EACH_SUITE
def test_observations_hold_pictures_with_a_view(simulator_of, task, monkeypatch):
    use_simulators(monkeypatch, task.suite, simulator_of)
    view = View(("agentview", "eye_in_hand"), 32)
    env = gymnasium.make(env_id(task.name), view=view).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    observation, _ = env.reset(seed=5)
    env.close()
    assert list(observation) == list(env.observation_space) == ["state", *view.cameras]
    assert observation["agentview"].shape == (32, 32, 3)
    with VectorEnv(task, 1, view=view) as other:
        parts = task.split(other.reset([0], [5])[0])
        pictures = other.look([0])[0]
    felt = [parts[key] for key in SUITES[task.suite].proprioception]
    np.testing.assert_array_equal(observation["state"], np.concatenate(felt))
    for picture, camera in zip(pictures, view.cameras, strict=True):
        np.testing.assert_array_equal(observation[camera], picture)


def test_spaces_are_the_bounds_of_the_task(env):
    space = env.observation_space
    assert list(space) == list(env.task.observations)
    for key, (low, high) in env.task.observations.items():
        assert space[key].dtype == np.float32
        np.testing.assert_array_equal(space[key].low, np.float32(low))
        np.testing.assert_array_equal(space[key].high, np.float32(high))
    flattened = FlattenObservation(env)
    np.testing.assert_array_equal(flattened.observation_space.low, env.task.low)
    seen, _ = flattened.reset(seed=0)
    np.testing.assert_array_equal(seen, env.simulator.observe([env.episode])[0])


@ONE_OF_EACH_SUITE
def test_render_shows_the_episode_at_its_own_rate(made):
    made.reset(seed=0)
    first = made.render()
    assert (first.shape, first.dtype) == ((48, 64, 3), np.uint8)
    assert made.metadata["render_fps"] == SUITES[made.unwrapped.task.suite].control_hz
    for _ in range(10):
        made.step(np.ones(made.action_space.shape, np.float32))
    assert np.abs(made.render().astype(int) - first).max() > 20
    made.reset(seed=0)
    np.testing.assert_array_equal(made.render(), first)
    made.close()
    np.testing.assert_array_equal(made.render(), first)  # with another camera
    made.close()


@ONE_OF_EACH_SUITE
def test_record_video_films_in_real_time(made, tmp_path):
    pytest.importorskip("moviepy")
    import imageio.v3 as imageio

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        env = RecordVideo(made, str(tmp_path / "films"), episode_trigger=lambda _: True)
        env.reset(seed=0)
        for _ in range(7):
            env.step(env.action_space.sample())
        env.close()
    (film,) = tmp_path.glob("films/*.mp4")
    assert len(imageio.imread(film)) >= 7  # moviepy may round the last of 8 away
    assert imageio.immeta(film)["fps"] == made.metadata["render_fps"]


@ONE_OF_EACH_SUITE
@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_and_the_recorded_spec_make_the_same_environment(made, again):
    spec = EnvSpec.from_json(made.spec.to_json())
    for other in (again(made), gymnasium.make(spec)):
        assert other.unwrapped.render_mode == "rgb_array"
        seen = [flat(env.reset(seed=4)[0]) for env in (made, other)]
        np.testing.assert_array_equal(*seen)
        action = np.full(made.action_space.shape, 0.3, np.float32)
        np.testing.assert_array_equal(*[flat(env.step(action)[0]) for env in (made, other)])
        other.close()


def test_the_time_limit_is_gymnasiums_where_it_makes_the_environment(simulator_of, monkeypatch):
    use_simulators(monkeypatch, "robosuite", simulator_of)
    still = np.zeros(7, np.float32)
    for limit, steps in ((None, 400), (3, 3), (402, 402)):
        env = gymnasium.make("reconverge/lift-v0", max_episode_steps=limit)
        env.reset(seed=0)
        ends = [env.step(still)[2:4] for _ in range(steps)]
        assert ends == [(False, False)] * (steps - 1) + [(False, True)]


def test_render_without_a_mode_is_nothing_and_a_warning(simulator_of, monkeypatch):
    use_simulators(monkeypatch, "robosuite", simulator_of)
    env = TaskEnv("lift")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="nothing is rendered without render_mode"):
        assert env.render() is None
    for options, said in (
        ({"render_mode": "human"}, "unknown render_mode 'human': choose one of rgb_array"),
        ({"render_mode": "rgb_array", "camera": "nowhere"}, "unknown camera 'nowhere'"),
        ({"render_mode": "rgb_array", "width": 31}, "width and height must be even"),
    ):
        with pytest.raises(ReconvergeError, match=said):
            TaskEnv("lift", **options).render()


def test_opengl_is_loaded_for_the_first_picture():
    code = (
        "import sys, gymnasium, reconverge.envs\n"
        "names = {'OpenGL', 'mujoco.egl', 'imageio_ffmpeg'}\n"
        "def loaded(): return sorted(names & set(sys.modules))\n"
        "env = gymnasium.make('reconverge/lift-v0', render_mode='rgb_array')\n"
        "env.reset(seed=0); env.step(env.action_space.sample()); print('found', loaded())\n"
        "env.render(); print('found', loaded()); env.close()"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("found")]
    whole = "found ['OpenGL', 'imageio_ffmpeg', 'mujoco.egl']"
    assert found == ["found []", whole], done.stderr[-2000:]


@ONE_OF_EACH_SUITE
def test_reset_refuses_options(env):
    for nothing in (None, {}):
        env.reset(seed=0, options=nothing)
    with pytest.raises(ReconvergeError, match=r"reset\(options=...\): state, x: a task has none"):
        env.reset(options={"state": 1, "x": 2})


@ONE_OF_EACH_SUITE
def test_step_wants_a_reset(env):
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset before step"):
        env.step(np.zeros(env.task.action_size))


@ONE_OF_EACH_SUITE
def test_step_takes_a_list_of_numbers(env):
    action = [0.25] * env.task.action_size
    seen = []
    for given in (action, np.array(action)):
        env.reset(seed=1)
        seen.append(flat(env.step(given)[0]))
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("extra", [-1, 1])
def test_step_refuses_an_action_of_another_size(env, extra):
    env.reset(seed=1)
    with pytest.raises(
        ValueError,
        match=rf"{env.task.name}: actions of shape .*; give \[{env.task.action_size}\]",
    ):
        env.step(np.zeros(env.task.action_size + extra))


STARTS = """
import sys
from reconverge.envs.catalog import get_task
from reconverge.envs.suites import make_simulator
for task in map(get_task, sys.argv[1:]):
    simulator = make_simulator(task)
    episode = simulator.new_episode()
    for seed in (7, 8):
        simulator.reset(episode, seed)
        print("start", task.name, episode.data.qpos.tobytes().hex())
"""


def test_reset_gives_the_same_state_in_another_process(simulator_of):
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    # one placed by a reset, one in the model, one of another suite
    names = rows() if os.environ.get("ALL_TASKS") else ["lift", "door", "hammer"]
    command = [sys.executable, "-c", STARTS, *names]
    out = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    found = [line.split()[1:] for line in out.splitlines() if line.startswith("start ")]
    expected = []
    for name in names:
        simulator = simulator_of(TASKS[name])
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


@ONE_OF_EACH_SUITE
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
