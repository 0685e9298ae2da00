import json

import h5py
import numpy as np
import pytest
import torch

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.env_args import input_frame, make_env_args
from reconverge.datasets.formats.robomimic import read_robomimic
from reconverge.datasets.formats.robomimic_writer import write_robomimic
from reconverge.datasets.store import DemonstrationStore
from reconverge.datasets.windows import Windows
from reconverge.envs.catalog import TASKS
from reconverge.policy.demonstrations import fit as playback
from reconverge.policy.demonstrations.scripted import collect
from reconverge.tools import check_store
from support.foreign import (
    ENV_ARGS_14,
    ENV_ARGS_15,
    LENGTHS,
    SIZES,
    assert_same_stores,
    demo_arrays,
    make_robomimic,
)
from support.physics import record, to_world
from support.simulators import use_simulators

IN_ORDER = ["demo_0", "demo_2", "demo_10"]


@pytest.fixture
def source(tmp_path):
    return make_robomimic(tmp_path / "low_dim.hdf5")


@pytest.fixture
def store(source, tmp_path):
    write_store(read_robomimic(source), tmp_path / "lift.zarr")
    return DemonstrationStore.open(tmp_path / "lift.zarr")


def test_read_robomimic_gives_every_array_of_every_demo(store):
    assert store.observation_sizes == SIZES
    assert store.episode_ends.tolist() == [4, 5, 12]
    for i, name in enumerate(IN_ORDER):
        episode, arrays = store.episode(i), demo_arrays(name)
        for key in SIZES:
            np.testing.assert_array_equal(episode.observations[key], arrays[f"obs/{key}"])
            np.testing.assert_array_equal(
                episode.extras[f"next_obs.{key}"], arrays[f"next_obs/{key}"]
            )
        np.testing.assert_array_equal(episode.action, arrays["actions"])
        np.testing.assert_array_equal(episode.extras["states"], arrays["states"])
        np.testing.assert_array_equal(episode.reward, arrays["rewards"])
        assert episode.success.tolist() == (arrays["rewards"] >= 1).tolist()
        assert episode.action.dtype == episode.extras["states"].dtype == np.float64


def test_read_robomimic_gives_attributes(store):
    attributes = store.attributes
    assert attributes["env_args"] == ENV_ARGS_14
    assert attributes["input_frame"] == "world"
    assert attributes["versions"] == {"robosuite": "1.4.1"}
    assert attributes["episode_names"] == IN_ORDER
    assert attributes["masks"] == {"train": ["demo_10", "demo_2"], "valid": ["demo_0"]}


def test_write_robomimic_restores_the_file(source, store, tmp_path):
    write_robomimic(read_store(store.path), tmp_path / "back.hdf5")
    with h5py.File(source) as wanted, h5py.File(tmp_path / "back.hdf5") as found:
        there = {}
        wanted.visititems(lambda name, item: there.update({name: item}))
        for name, item in there.items():
            if isinstance(item, h5py.Dataset) and not name.startswith("mask"):
                assert (found[name].dtype, found[name].shape) == (item.dtype, item.shape), name
                assert found[name][()].tobytes() == item[()].tobytes(), name
            for key, value in item.attrs.items():
                assert found[name].attrs[key] == value, (name, key)
        assert [name.decode() for name in found["mask/train"]] == ["demo_10", "demo_2"]
        assert set(found["data/demo_0"]) == set(wanted["data/demo_0"])


@pytest.mark.parametrize(
    ("key", "names"), [("train", ["demo_2", "demo_10"]), ("valid", ["demo_0"])]
)
def test_read_robomimic_takes_the_episodes_of_a_filter_key(source, tmp_path, key, names):
    write_store(read_robomimic(source, key), tmp_path / "some.zarr")
    store = DemonstrationStore.open(tmp_path / "some.zarr")
    assert np.diff(store.episode_ends, prepend=0).tolist() == [LENGTHS[name] for name in names]
    assert store.attributes["episode_names"] == names
    np.testing.assert_array_equal(store.episode(-1).action, demo_arrays(names[-1])["actions"])
    write_robomimic(read_store(store.path), tmp_path / "some.hdf5")
    again = read_robomimic(tmp_path / "some.hdf5", key)
    assert again.attributes["episode_names"] == names


def test_read_robomimic_leaves_out_arrays(source, tmp_path):
    left_out = ["robot0_joint_pos", "states", *(f"next_obs.{key}" for key in SIZES)]
    write_store(read_robomimic(source, leave_out=left_out), tmp_path / "a.zarr")
    assert set(DemonstrationStore.open(tmp_path / "a.zarr").read()) == {
        *SIZES,
        "action",
        "reward",
        "success",
        "dones",
    } - {"robot0_joint_pos"}
    write_robomimic(read_store(tmp_path / "a.zarr", ["dones"]), tmp_path / "b.hdf5")
    again = read_robomimic(tmp_path / "b.hdf5", leave_out=["object"])
    assert set(again.observation_sizes) == {
        "robot0_eef_pos",
        "robot0_eef_quat",
        "robot0_gripper_qpos",
    }
    assert set(next(iter(again.episodes))[0].observations) == set(again.observation_sizes)
    with pytest.raises(
        ConversionError,
        match=r"unknown leave_out= of .*low_dim\.hdf5 'camera': choose one of .*object",
    ):
        read_robomimic(source, leave_out=["camera"])


def test_write_robomimic_is_read_by_robomimic(store, tmp_path):
    import robomimic.utils.file_utils as file_utils
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.utils.dataset import SequenceDataset

    path = str(tmp_path / "back.hdf5")
    write_robomimic(read_store(store.path), tmp_path / "back.hdf5")
    keys, to, tp = list(SIZES), 2, 3
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": keys}})
    assert file_utils.get_env_metadata_from_dataset(path) == ENV_ARGS_14
    shapes = file_utils.get_shape_metadata_from_dataset(path)
    assert shapes["ac_dim"] == 7
    assert {key: tuple(shape) for key, shape in shapes["all_shapes"].items()} == {
        k: (n,) for k, n in SIZES.items()
    }
    options = {
        "obs_keys": keys,
        "dataset_keys": ("actions", "rewards", "dones"),
        "hdf5_use_swmr": False,
    }
    truth = SequenceDataset(
        path, frame_stack=to, seq_length=tp, hdf5_cache_mode="low_dim", **options
    )
    observations, actions = store.observations(), store.read(["action"])["action"]
    windows = Windows.from_episodes(observations, actions, store.episode_ends, to, tp)
    history, chunk = windows.gather(torch.arange(len(windows)))
    assert len(truth) == len(windows) == 12
    for i in range(len(truth)):
        seen = np.concatenate([truth[i]["obs"][key] for key in keys], axis=1)[:to]
        np.testing.assert_array_equal(history[i], seen.astype(np.float32))
        np.testing.assert_array_equal(chunk[i], truth[i]["actions"][to - 1 :].astype(np.float32))
    assert len(SequenceDataset(path, filter_by_attribute="valid", **options)) == 4


def controller(**part):
    return {"type": 1, "env_version": "1.5.1", "env_kwargs": {"controller_configs": part}}


@pytest.mark.parametrize(
    ("env_args", "frame"),
    [
        (ENV_ARGS_14, "world"),
        (ENV_ARGS_15, "base"),
        ({"type": 1, "env_kwargs": {}}, "world"),  # robomimic's first files name no version
        ({"type": 1, "env_version": "1.5.0", "env_kwargs": {}}, "base"),
        (controller(body_parts={"right": {"input_ref_frame": "world"}}), "world"),
        (controller(input_ref_frame="world", type="OSC_POSE"), "world"),
        ({"type": 2, "env_name": "door"}, None),
    ],
)
def test_input_frame_is_that_of_the_controller(env_args, frame):
    assert input_frame("here", env_args) == frame


@pytest.fixture(scope="module")
def collected(tmp_path_factory, simulator_of):
    with pytest.MonkeyPatch.context() as patch:
        use_simulators(patch, "robosuite", lambda task: simulator_of(TASKS[task.name]))
        return collect(
            TASKS["lift"],
            tmp_path_factory.mktemp("lift") / "lift.zarr",
            episodes=2,
            noise=0.1,
            workers=1,
        )


def assert_plays_back(store, frame):
    found = check_store.play(store, count=2, workers=1)
    assert (playback.input_frame(store), found.wrong) == (frame, False)
    assert found.text.startswith("2 of 2 successes again")


def test_write_robomimic_plays_back(collected, tmp_path, simulator_of, monkeypatch):
    use_simulators(monkeypatch, "robosuite", simulator_of)
    write_robomimic(read_store(collected.path), tmp_path / "lift.hdf5")
    write_store(read_robomimic(tmp_path / "lift.hdf5"), tmp_path / "lift.zarr")
    assert_same_stores(tmp_path / "lift.zarr", collected.path)
    assert_plays_back(DemonstrationStore.open(tmp_path / "lift.zarr"), "base")


def test_read_robomimic_of_robosuite_14_plays_back_from_states(tmp_path, simulator_of):
    """Our expert's episodes with states, no seeds, and actions in the world's frame, which the
    store must remember.
    """
    simulator, task = simulator_of(TASKS["lift"]), TASKS["lift"]
    _, rotation = simulator.env.robots[0].composite_controller.get_controller_base_pose("right")
    with h5py.File(tmp_path / "low_dim.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(ENV_ARGS_14)
        for seed in range(2):
            observations, actions, states = record(simulator, seed)
            demo = data.create_group(f"demo_{seed}")
            demo.attrs["num_samples"] = len(actions)
            arrays = {f"obs/{key}": rows for key, rows in task.split(observations).items()}
            arrays |= {
                "actions": to_world(actions, rotation),
                "states": states,
                "rewards": np.zeros(len(actions)),
            }
            for place, rows in arrays.items():
                demo[place] = rows.astype(np.float64)
            demo["rewards"][-1] = 1.0
    write_store(read_robomimic(tmp_path / "low_dim.hdf5"), tmp_path / "brought.zarr")
    assert_plays_back(DemonstrationStore.open(tmp_path / "brought.zarr"), "world")


@pytest.mark.parametrize("frame", ["base", "world"])
def test_make_env_args_is_understood_by_robosuite(collected, frame):
    import robosuite

    env_args = json.loads(json.dumps(make_env_args({**collected.attributes, "input_frame": frame})))
    assert env_args["env_version"] == robosuite.__version__
    env = robosuite.make(env_args["env_name"], **env_args["env_kwargs"])
    arm = env.robots[0].part_controllers["right"]
    assert (arm.name, arm.input_ref_frame, env.control_freq) == ("OSC_POSE", frame, 20)
    assert arm.output_max.tolist() == collected.attributes["simulator"]["action_scale"]
    assert arm.kp.tolist() == collected.attributes["simulator"]["stiffness"]
    env.close()
