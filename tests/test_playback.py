"""Recorded actions, in either frame, from seeds and from states: they do again what they did."""

import json
import warnings

import numpy as np
import pytest
from test_robosuite_tasks import play, reset_reference
from tiny_run import call, make_demonstrations, options

from datasets.store import DemonstrationStore, Episode, StoreError
from envs import vector
from envs.evaluator import Evaluator
from envs.playback import Recording, difference, play_back, quaternions
from envs.robosuite_tasks import RobosuiteSimulator
from envs.task_env import TaskEnv
from envs.tasks import TASKS
from envs.vector import VectorEnv
from policy import evaluate, train
from policy.checkpoint import newest
from policy.loading import load_policy
from tools import check_store, playback
from tools.playback import PlaybackWarning, input_frame, play_episodes, require_fit, warn_unless_it_plays

OWN = {"schema_version", "episodes", "observation_sizes", "action_size", "extra_sizes", "scalar_types", "checksum"}


@pytest.fixture(scope="module")
def world_of():
    """Simulators with actions in the world frame, built once."""
    built = {}
    return lambda name: built.setdefault(name, RobosuiteSimulator(TASKS[name], "world"))


@pytest.fixture(autouse=True)
def asked(monkeypatch, simulator_of, world_of):
    """The session's simulators; the frames asked for, task by task."""
    asked = []

    def build(task, input_frame="base"):
        asked.append((task.name, input_frame))
        return simulator_of(TASKS[task.name]) if input_frame == "base" else world_of(task.name)

    monkeypatch.setitem(vector.SUITES, "robosuite", build)
    return asked


def record(simulator, seed):
    """An expert's episode: observations, actions in the base frame, and the states before them."""
    observations, actions, states = [], [], []
    for episode, action in play(simulator, seed):
        observations.append(simulator.observe([episode])[0])
        actions.append(action)
        states.append(np.concatenate([[0.0], episode.data.qpos, episode.data.qvel]))
    return np.stack(observations[:-1]), np.stack(actions[:-1]), np.stack(states[:-1])


def to_world(actions, rotation):
    """Pose changes in the base frame, as seen from the world."""
    return np.concatenate([actions[:, :3] @ rotation.T, actions[:, 3:6] @ rotation.T, actions[:, 6:]], axis=1)


def test_base_frame_actions_succeed_in_the_world_frame(
    simulator_of, world_of, reference_of, robosuite_task, monkeypatch
):
    """In our simulator and in robosuite's own environment with input_ref_frame="world"."""
    simulator, name = simulator_of(robosuite_task), robosuite_task.name
    robot = simulator._env.robots[0]
    _, rotation = robot.composite_controller.get_controller_base_pose("right")
    recordings = []
    for seed in (0, 1):
        observations, actions, _ = record(simulator, seed)
        recordings.append(Recording(to_world(actions, rotation), observations, seed=seed))
    with VectorEnv(robosuite_task, 2, 1, input_frame="world") as env:
        assert env.simulator is world_of(name)
        assert env.simulator.fingerprint["input_frame"] == "world"
        assert [played.success for played in play_back(env, recordings)] == [True, True]
    reference = reference_of(robosuite_task)
    reset_reference(reference, 0)
    monkeypatch.setattr(reference.robots[0].part_controllers["right"], "input_ref_frame", "world")
    ended = [bool(reference.step(action) and reference._check_success()) for action in recordings[0].actions]
    assert ended[-1]


def test_played_back_from_seed_or_state_nothing_differs(simulator_of, robosuite_task):
    simulator = simulator_of(robosuite_task)
    observations, actions, states = record(simulator, 3)
    with VectorEnv(robosuite_task, 2, 1) as env:
        whole = [Recording(actions, observations, seed=3), Recording(actions, observations, state=states[0])]
        assert [(p.success, p.error) for p in play_back(env, whole)] == [(True, 0.0)] * 2
        idle = [Recording(0 * actions, observations, seed=3), Recording(actions, observations, seed=4)]
        for played in play_back(env, idle):
            assert not played.success
            assert played.error > 0.02


def test_a_state_of_robosuites_whole_model_is_restored(simulator_of, reference_of, robosuite_task):
    """The observation is the one that robosuite gives there, hidden objects or not."""
    reference, simulator = reference_of(robosuite_task), simulator_of(robosuite_task)
    reset_reference(reference, 7)
    for _ in range(3):
        reference.step(np.full(7, 0.3))
    reference.sim.forward()
    episode = simulator.new_episode()
    simulator.restore(episode, reference.sim.get_state().flatten())
    expected = reference._get_observations(force_update=True)
    found = robosuite_task.split(simulator.observe([episode])[0])
    np.testing.assert_allclose(found["robot0_eef_pos"], expected["robot0_eef_pos"], atol=1e-6)
    places = {"lift": "cube_pos", "can": "Can_pos", "square": "SquareNut_pos"}
    start = 0 if robosuite_task.name == "lift" else 7
    np.testing.assert_allclose(found["object"][start : start + 3], expected[places[robosuite_task.name]], atol=1e-6)
    assert np.abs(episode.data.qvel[:7]).max() > 0.01
    with pytest.raises(ValueError, match=rf"{robosuite_task.name}: a state has .* numbers, got shape \(5,\)"):
        simulator.restore(episode, np.zeros(5))


def test_a_quaternion_and_its_negative_are_one_rotation_but_half_a_turn_is_not():
    task, half = TASKS["can"], 0.5**0.5
    assert quaternions(task) == [3, 10, 17]
    a = np.zeros((3, task.observation_size))
    a[:, 3:7] = half, half, 0.0, 0.0
    b = a.copy()
    b[1, 3:7] *= -1
    b[2, 3:7] = half, -half, 0.0, 0.0
    np.testing.assert_allclose(difference(task, a, b), [0.0, 0.0, 2**0.5])


def test_frames_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="lift: unknown input_frame 'hand'; choose from base, world"):
        TaskEnv("lift", input_frame="hand")
    with pytest.raises(ValueError, match="hammer: unknown input_frame 'world'; choose from base"):
        VectorEnv(TASKS["hammer"], 1, input_frame="world")


def test_an_evaluator_keeps_each_tasks_frame(asked):
    evaluator = Evaluator([TASKS["lift"], TASKS["can"]], 1, 1, {"can": "world"})
    evaluator.env(0)
    evaluator.env(1)
    evaluator.close()
    assert asked == [("lift", "base"), ("can", "world")]


# Stores.


@pytest.fixture(scope="module")
def collected(tmp_path_factory, simulator_of):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vector.SUITES, "robosuite", lambda task: simulator_of(TASKS[task.name]))
        return make_demonstrations(tmp_path_factory.mktemp("stores"), ["lift", "can"])


def rewrite(source, target, change=lambda actions: actions, **attributes):
    """A copy of a store with other executed actions and attributes (None: left out)."""
    kept = {name: value for name, value in source.attributes.items() if name not in OWN} | attributes
    store = DemonstrationStore.create(
        target, source.observation_sizes, source.action_size,
        {name: value for name, value in kept.items() if value is not None},
        extra_sizes=source.attributes["extra_sizes"], scalar_types=source.attributes["scalar_types"],
    )  # fmt: skip
    for i in range(len(source)):
        e = source.episode(i)
        executed = {"executed_action": change(e.extras["executed_action"])}
        store.append(Episode(e.observations, e.action, e.reward, e.success, executed, e.scalars))
    return store


def brought(simulator, path, **attributes):
    """A store as a converter leaves it: states, no seed, no expert, keys in another order, world frame."""
    task = simulator.task
    sizes = {"extra_key": 1, **dict(reversed(task.sizes.items()))}
    store = DemonstrationStore.create(
        path, sizes, 7, {"input_frame": "world", "env_args": {"env_name": task.simulator}, **attributes},
        extra_sizes={"states": simulator.model.nq + simulator.model.nv + 1},
    )  # fmt: skip
    for seed in range(2):
        observations, actions, states = record(simulator, seed)
        named = task.split(observations) | {"extra_key": np.zeros((len(actions), 1), np.float32)}
        success = np.arange(len(actions)) == len(actions) - 1
        single = {"states": states.astype(np.float32)}
        store.append(
            Episode(named, actions.astype(np.float32), success.astype(np.float32), success, single)
        )  # fmt: skip
    return store


def test_a_store_plays_back_and_one_with_other_actions_does_not(collected, tmp_path):
    store = DemonstrationStore.open(collected / "lift.zarr")
    with VectorEnv(TASKS["lift"], 2, 1) as env:
        result = play_episodes(store, env, 5)
        assert (result.episodes, result.recorded, result.succeeded, result.fails) == (2, 2, 2, False)
        assert result.worst_error < 1e-3
        assert result.actions == "executed_action"
        turned = rewrite(store, tmp_path / "lift.zarr", lambda actions: actions * [1, -1, 1, 1, 1, 1, -1])
        result = play_episodes(turned, env, 5)
        assert (result.succeeded, result.fails) == (0, True)
        assert result.median_error > 0.02


def test_a_brought_store_plays_back_from_its_states_in_its_frame(simulator_of, tmp_path):
    store = brought(simulator_of(TASKS["lift"]), tmp_path / "anything.zarr")
    assert input_frame(store) == "world"
    with VectorEnv(TASKS["lift"], 2, 1, input_frame="world") as env:
        result = play_episodes(store, env, 2)
    assert (result.succeeded, result.actions) == (2, "action")
    require_fit(store, TASKS["lift"])
    with pytest.raises(StoreError, match="is of lift, wanted can"):
        require_fit(store, TASKS["can"])


def test_other_versions_warn_and_other_frames_are_refused(simulator_of, tmp_path):
    store = brought(simulator_of(TASKS["lift"]), tmp_path / "lift.zarr", versions={"robosuite": "1.4.1"})
    with pytest.warns(UserWarning, match=r"made with robosuite 1\.4\.1, running robosuite 1\.5"):
        require_fit(store, TASKS["lift"])
    store.update_attributes({"input_frame": "hand"})
    with pytest.raises(StoreError, match="input_frame is 'hand'; choose from base, world"):
        input_frame(store)


def test_training_warns_once_played_and_remembers(collected, tmp_path, monkeypatch):
    source = DemonstrationStore.open(collected / "lift.zarr")
    bad = rewrite(source, tmp_path / "lift.zarr", lambda actions: 0 * actions)
    made = []

    def make_env():
        made.append(VectorEnv(TASKS["lift"], 2, 1))
        return made[-1]

    for _ in range(2):
        with pytest.warns(PlaybackWarning, match="0 of 2 successes again.*see python -m tools.check_store store="):
            warn_unless_it_plays(bad, make_env)
    assert len(made) == 1  # remembered
    assert DemonstrationStore.open(bad.path).attributes["checksum"] == bad.attributes["checksum"]
    file = bad.path.with_name("lift.zarr.playback.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "of": "another"}))
    with pytest.warns(PlaybackWarning):
        warn_unless_it_plays(bad, make_env)
    assert len(made) == 2
    monkeypatch.setattr(playback.os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError()))
    file.unlink()
    with pytest.warns(PlaybackWarning):
        warn_unless_it_plays(bad, make_env)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lift.zarr"]


def test_states_of_another_model_are_told(tmp_path):
    task = TASKS["lift"]
    store = DemonstrationStore.create(tmp_path / "lift.zarr", task.sizes, 7, {}, extra_sizes={"states": 9})
    rows = {key: np.zeros((2, size), np.float32) for key, size in task.sizes.items()}
    ended = np.array([False, True])
    states = {"states": np.zeros((2, 9), np.float32)}
    store.append(Episode(rows, np.zeros((2, 7), np.float32), ended.astype(np.float32), ended, states))
    with VectorEnv(task, 1, 1) as env:
        with pytest.warns(
            PlaybackWarning, match=r"cannot be played back: lift: a state has 32 numbers, got shape \(9,\)"
        ):
            warn_unless_it_plays(store, lambda: env)
        with pytest.raises(StoreError, match="cannot be played back"):
            play_episodes(store, env, 1)


def test_a_good_store_and_one_that_cannot_be_played_pass_in_silence(collected, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_unless_it_plays(DemonstrationStore.open(collected / "lift.zarr"), lambda: VectorEnv(TASKS["lift"], 2, 1))
        plain = DemonstrationStore.create(tmp_path / "lift.zarr", TASKS["lift"].sizes, 7, {})
        warn_unless_it_plays(plain, lambda: pytest.fail("it cannot be played"))
    assert "neither meta/seed nor data/states" in playback.unplayable(plain)


def test_a_brought_store_trains_and_evaluates_in_its_frame(collected, simulator_of, tmp_path, monkeypatch, asked):
    """Beside one of another frame in the same sequence."""
    folder, run = tmp_path / "stores", tmp_path / "run"
    folder.mkdir()
    brought(simulator_of(TASKS["lift"]), folder / "lift.zarr")
    rewrite(DemonstrationStore.open(collected / "can.zarr"), folder / "can.zarr")
    arguments = options(folder, run, "method=finetune", "updates_per_task=2")
    assert call(train.main, arguments, monkeypatch) == 0
    assert set(asked) == {("lift", "world"), ("can", "base")}
    _, spec = load_policy(newest(run / "checkpoints"))
    assert spec.input_frames == {"lift": "world"}
    assert json.loads((run / "summary.json").read_text())["options"]["demonstrations"]["brought"] == {"lift": 2}
    asked.clear()
    assert call(evaluate.main, [f"checkpoint={run}", "n_rollouts=1", "workers=1"], monkeypatch) == 0
    assert asked == [("lift", "world"), ("can", "base")]


# The entry point.


def check(monkeypatch, capsys, *arguments):
    capsys.readouterr()
    code = call(check_store.main, arguments, monkeypatch)
    output = capsys.readouterr()
    return code, " ".join(output.out.split()), output.err


def test_a_report_of_sound_stores(collected, monkeypatch, capsys, asked):
    code, out, _ = check(monkeypatch, capsys, f"store={collected}", "playback=2", "workers=1")
    assert code == 0
    assert out.count("2 of 2 successes again") == 2
    assert "lift.zarr" in out
    assert "robot0_gripper_qpos[1]" in out
    assert "│ wrong │" not in out
    assert asked == [("can", "base"), ("lift", "base")]


def test_what_is_wrong_is_said_and_the_exit_code_tells(collected, tmp_path, monkeypatch, capsys):
    source = DemonstrationStore.open(collected / "lift.zarr")
    rewrite(source, tmp_path / "idle.zarr", lambda actions: 0 * actions)
    DemonstrationStore.create(tmp_path / "lift.zarr", TASKS["lift"].sizes, 7, {})
    (tmp_path / "no.zarr").mkdir()
    (tmp_path / "no.zarr" / "zarr.json").write_text("{}")
    code, out, err = check(
        monkeypatch, capsys, f"store={tmp_path}/idle.zarr,{tmp_path}/lift.zarr,{tmp_path}/no.zarr",
        "playback=2", "dimensions=false",
    )  # fmt: skip
    assert (code, err) == (1, "")
    assert "0 of 2 successes again" in out
    assert out.count("│ wrong │") == 3
    assert "least" not in out


def test_what_playback_lacks_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    store = DemonstrationStore.create(tmp_path / "mine.zarr", {"state": 2}, 2, {})
    store.append(
        Episode({"state": np.eye(2, dtype=np.float32)}, np.eye(2, dtype=np.float32), np.ones(2), np.ones(2, bool))
    )
    code, out, _ = check(monkeypatch, capsys, f"store={store.path}", "playback=1")
    assert code == 1
    assert "names no task that can be simulated" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "store= is missing"),
        (["store=nowhere"], "store=nowhere: no directory"),
        (["store=."], "holds none"),
        (["store=.", "playback=-1"], "playback=-1: must be at least 0"),
        (["store=.", "playback=x"], "whole number"),
        (["stor=."], "did you mean 'store'"),
    ],
)
def test_bad_options_are_refused(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = check(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_help_names_every_option(monkeypatch, capsys):
    code, out, _ = check(monkeypatch, capsys, "--help")
    assert code == 0
    assert all(f"{name}:" in out for name in ("store", "playback", "dimensions", "workers"))
