import json
import os
import warnings
from dataclasses import replace

import numpy as np
import pytest

from reconverge.datasets.store import DemonstrationStore, Episode, StoreError
from reconverge.envs.catalog import TASKS
from reconverge.envs.suites import in_frame
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from reconverge.policy import evaluate, train
from reconverge.policy.demonstrations import playback
from reconverge.policy.demonstrations.fit import in_frames_of
from reconverge.policy.demonstrations.playback import (
    PlaybackWarning,
    Recording,
    StorePlayback,
    difference,
    play_back,
    play_episodes,
    quaternions,
    warn_unless_it_plays,
)
from reconverge.policy.runs.checkpoint import newest
from reconverge.policy.runs.loading import load_policy
from reconverge.policy.runs.summary import read_summary
from support.physics import record, reset_reference, to_world
from support.rows import rows
from support.stores import OWN, rewrite, store_from_elsewhere
from support.tiny_run import call, options, shorten

pytestmark = pytest.mark.usefixtures("made_simulators")
# Of one object, of several, and the one that a state does not place.
THREE = rows("robosuite") if os.environ.get("ALL_TASKS") else ["lift", "stack", "door"]
SOME = pytest.mark.parametrize("robosuite_task", THREE, indirect=True)


@SOME
def test_play_back_succeeds_in_the_world_frame(
    simulator_of, made_simulators, reference_of, robosuite_task, monkeypatch
):
    """In our simulator and in robosuite's own environment with input_ref_frame="world"."""
    simulator = simulator_of(robosuite_task)
    rotation = simulator.controller.input_rotation  # from the base frame to the world
    recordings = []
    for seed in (0, 1):
        observations, actions, _ = record(simulator, seed)
        recordings.append(Recording(to_world(actions, rotation), observations, seed=seed))
    with VectorEnv(in_frame(robosuite_task, "world"), 2, 1) as env:
        assert env.simulator.fingerprint["input_frame"] == "world"
        assert [played.success for played in play_back(env, recordings)] == [True, True]
    reference = reference_of(robosuite_task)
    reset_reference(reference, 0)
    monkeypatch.setattr(reference.robots[0].part_controllers["right"], "input_ref_frame", "world")
    ended = [
        bool(reference.step(action) and reference._check_success())
        for action in recordings[0].actions
    ]
    assert ended[-1]


@SOME
def test_play_back_differs_in_nothing_from_seed_or_state(simulator_of, robosuite_task):
    simulator = simulator_of(robosuite_task)
    observations, actions, states = record(simulator, 3)
    with VectorEnv(robosuite_task, 2, 1) as env:
        whole = [Recording(actions, observations, seed=3)]
        if not simulator.model.nmocap:  # else states do not tell how an episode began
            whole.append(Recording(actions, observations, state=states[0]))
        assert all((p.success, p.error) == (True, 0.0) for p in play_back(env, whole))
        idle = [
            Recording(0 * actions, observations, seed=3),
            Recording(actions, observations, seed=4),
        ]
        for played in play_back(env, idle):
            assert not played.success
            assert played.error > 0.02


def test_difference_takes_a_quaternion_and_its_negative_for_one():
    task, half = TASKS["can"], 0.5**0.5
    assert quaternions(task) == [3, 10, 17]
    a = np.zeros((3, task.observation_size))
    a[:, 3:7] = half, half, 0.0, 0.0
    b = a.copy()
    b[1, 3:7] *= -1
    b[2, 3:7] = half, -half, 0.0, 0.0
    np.testing.assert_allclose(difference(task, a, b), [0.0, 0.0, 2**0.5])


# Stores.


def test_play_episodes_tells_other_actions(demonstrations, tmp_path):
    store = DemonstrationStore.open(demonstrations / "lift.zarr")
    with VectorEnv(TASKS["lift"], 2, 1) as env:
        result = play_episodes(store, env, 5)
        assert (result.episodes, result.recorded, result.succeeded, result.fails) == (
            2,
            2,
            2,
            False,
        )
        assert result.worst_error < 1e-3
        assert result.actions == "executed_action"
        turned = rewrite(
            store, tmp_path / "lift.zarr", lambda actions: actions * [1, -1, 1, 1, 1, 1, -1]
        )
        result = play_episodes(turned, env, 5)
        assert (result.succeeded, result.fails) == (0, True)
        assert result.median_error > 0.02


def test_play_episodes_starts_from_states_in_the_stores_frame(simulator_of, tmp_path):
    store = store_from_elsewhere(simulator_of(TASKS["lift"]), tmp_path / "anything.zarr")
    with VectorEnv(*in_frames_of([TASKS["lift"]], [store]), 2, 1) as env:
        result = play_episodes(store, env, 2)
    assert (result.succeeded, result.actions) == (2, "action")


def read_only(path, value):
    raise ReconvergeError(f"{path}: cannot be written")


def test_warn_unless_it_plays_remembers_the_result(demonstrations, tmp_path, monkeypatch):
    source = DemonstrationStore.open(demonstrations / "lift.zarr")
    folder = tmp_path / "my stores"
    bad = rewrite(source, folder / "lift.zarr", lambda actions: 0 * actions)
    made = []

    def make_env():
        made.append(VectorEnv(TASKS["lift"], 2, 1))
        return made[-1]

    for _ in range(2):
        with pytest.warns(
            PlaybackWarning,
            match=r"0 of 2 successes again.*see python -m tools.check_store 'store=\S+ stores/",
        ):
            warn_unless_it_plays(bad, make_env)
    assert len(made) == 1  # remembered
    assert DemonstrationStore.open(bad.path).attributes["checksum"] == bad.attributes["checksum"]
    file = bad.path.with_name("lift.zarr.playback.json")
    record = json.loads(file.read_text())
    good = {**record["result"], "succeeded": 2, "near": 2}
    damages = ({**record, "of": "another"}, {**record, "result": good}, [1], {}, None)
    for i, damage in enumerate([json.dumps(damage) for damage in damages] + ["{", "[" * 9999]):
        file.write_text(damage)
        with pytest.warns(PlaybackWarning, match="0 of 2 successes again"):
            warn_unless_it_plays(bad, make_env)
        assert len(made) == 2 + i  # played again
    file.unlink()
    monkeypatch.setattr(playback, "write_json", read_only)
    with pytest.warns(PlaybackWarning):
        warn_unless_it_plays(bad, make_env)
    assert sorted(path.name for path in folder.iterdir()) == ["lift.zarr"]


def test_warn_unless_it_plays_tells_states_of_another_model(tmp_path):
    task = TASKS["lift"]
    store = DemonstrationStore.create(
        tmp_path / "lift.zarr", task.sizes, 7, {}, extra_sizes={"states": 9}
    )
    rows = {key: np.zeros((2, size), np.float32) for key, size in task.sizes.items()}
    ended = np.array([False, True])
    states = {"states": np.zeros((2, 9), np.float32)}
    store.append(
        Episode(rows, np.zeros((2, 7), np.float32), ended.astype(np.float32), ended, states)
    )
    with VectorEnv(task, 1, 1) as env:
        with pytest.warns(
            PlaybackWarning,
            match=r"cannot be played back: lift: a state has 32 numbers, got shape \(9,\)",
        ):
            warn_unless_it_plays(store, lambda: env)
        with pytest.raises(StoreError, match="cannot be played back"):
            play_episodes(store, env, 1)


def test_play_episodes_fails_on_states_far_from_the_recorded_ones(demonstrations, tmp_path):
    """The same actions succeed again, but the recorded observations are of something else."""
    source = DemonstrationStore.open(demonstrations / "lift.zarr")
    kept = {name: value for name, value in source.attributes.items() if name not in OWN}
    sizes = {"extra_sizes": {"executed_action": 7}, "scalar_types": {"seed": "int64"}}
    store = DemonstrationStore.create(
        tmp_path / "lift.zarr", source.observation_sizes, 7, kept, **sizes
    )
    for episode in source.episodes():
        seen = dict(episode.observations)
        seen["object"] = seen["object"] + np.float32([0.15] + [0] * 9)
        store.append(replace(episode, observations=seen))
    with VectorEnv(TASKS["lift"], 2, 1) as env:
        result = play_episodes(store, env, 2)
    assert (result.succeeded, result.near, result.fails) == (2, 0, True)
    assert result.worst_error == pytest.approx(0.15, abs=1e-3)
    assert "2 of 2 beyond 0.1" in str(result)


def test_store_playback_fails_on_what_is_no_number():
    nothing = StorePlayback(3, 0, 0, float("nan"), float("nan"), 0, "action")
    assert nothing.fails
    assert not StorePlayback(3, 0, 0, 0.01, 0.2, 2, "action").fails


def test_warn_unless_it_plays_is_silent_for_good_stores_alone(demonstrations, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_unless_it_plays(
            DemonstrationStore.open(demonstrations / "lift.zarr"),
            lambda: VectorEnv(TASKS["lift"], 2, 1),
        )
    plain = DemonstrationStore.create(tmp_path / "lift.zarr", TASKS["lift"].sizes, 7, {})
    with pytest.warns(PlaybackWarning, match="not played back: the store has neither meta/seed"):
        warn_unless_it_plays(plain, lambda: pytest.fail("it cannot be played"))


def test_train_and_evaluate_act_in_the_stores_frame(
    demonstrations, simulator_of, tmp_path, monkeypatch, made_simulators
):
    """Beside one of another frame in the same sequence."""
    folder, run = tmp_path / "stores", tmp_path / "run"
    folder.mkdir()
    store_from_elsewhere(simulator_of(TASKS["lift"]), folder / "lift.zarr")
    rewrite(DemonstrationStore.open(demonstrations / "can.zarr"), folder / "can.zarr")
    arguments = options(folder, run, "method=finetune", "updates_per_task=2")
    shorten(monkeypatch, 20, "lift", "can")
    assert call(train.main, arguments, monkeypatch) == 0
    assert set(made_simulators) == {("lift", "world"), ("can", "base")}
    loaded = load_policy(newest(run / "checkpoints"))
    assert loaded.spec.input_frames == {"lift": "world"}
    found = read_summary(run).demonstrations
    assert {name: one["origin"] for name, one in found.items()} == {
        "lift": "brought",
        "can": "scripted",
    }
    made_simulators.clear()
    assert call(evaluate.main, [f"checkpoint={run}", "n_rollouts=1", "workers=1"], monkeypatch) == 0
    assert made_simulators == [("lift", "world"), ("can", "base")]
