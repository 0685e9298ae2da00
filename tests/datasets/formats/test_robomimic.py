import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.diffusion_policy import read_diffusion_policy
from reconverge.datasets.formats.diffusion_policy_writer import write_diffusion_policy
from reconverge.datasets.formats.env_args import input_frame, make_env_args
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.formats.robomimic import read_robomimic
from reconverge.datasets.formats.robomimic_writer import write_robomimic
from reconverge.datasets.store import DemonstrationStore, Episode
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
    contents,
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


def test_write_robomimic_keeps_filter_keys_of_episodes_that_have_others_after_them(
    source, tmp_path
):
    some = read_robomimic(source, "train")  # demo_2 and demo_10
    write_store(some, tmp_path / "some.zarr")
    store = DemonstrationStore.open(tmp_path / "some.zarr", "a")
    store.append(store.episode(0))
    write_robomimic(read_store(store.path), tmp_path / "more.hdf5")
    again = read_robomimic(tmp_path / "more.hdf5")
    assert again.attributes["episode_names"] == ["demo_2", "demo_10", "demo_11"]
    assert [len(episode.action) for episode, _ in again.episodes] == [1, 7, 1]
    assert again.attributes["masks"]["train"] == ["demo_10", "demo_2"]


def test_read_robomimic_takes_filter_keys_that_were_added_to_an_export(store, tmp_path):
    path = tmp_path / "split.hdf5"
    write_robomimic(read_store(store.path), path)
    with h5py.File(path, "a") as file:  # as robomimic's split_train_val.py
        file["mask/mine"] = np.array(["demo_2"], dtype="S")
    assert read_robomimic(path).attributes["masks"]["mine"] == ["demo_2"]


@pytest.mark.parametrize("write", [write_robomimic, write_diffusion_policy])
@pytest.mark.parametrize(
    ("observation", "extra", "said"),
    [
        ("_x", "y", "'_x' is not allowed; rename it"),
        ("gripper(width)", "y", r"'gripper\(width\)' is not allowed; rename it"),
        ("x", "obs", r"obs is a name that the format needs; add leave_out=\[obs\]"),
        ("x", "actions", "actions is a name that the format needs"),
    ],
)
def test_no_file_is_written_that_could_not_be_read(tmp_path, write, observation, extra, said):
    rows = np.zeros((2, 1), np.float32)
    episode = Episode({observation: rows}, rows, extras={extra: rows})
    sizes = {"observation_sizes": {observation: 1}, "action_size": 1, "extra_sizes": {extra: 1}}
    record = {**sizes, "scalar_types": {}, "absent": ["reward", "success"]}
    given = Demonstrations.from_record("mine", 1, [(episode, {})], record)
    target = tmp_path / ("a.hdf5" if write is write_robomimic else "a.zarr")
    if write is write_robomimic or observation != "x":
        with pytest.raises(ConversionError, match=said):
            write(given, target)
        assert not target.exists()
    else:  # there the names of robomimic mean nothing
        write(given, target)
        ((back, _),) = read_diffusion_policy(target).episodes
        assert set(back.extras) == {extra}


def test_make_env_args_of_a_simulator_that_says_little():
    told = make_env_args({"task": "Lift", "simulator": {"suite": "robosuite", "robot": "Panda"}})
    assert told == {"env_name": "Lift", "type": 2, "env_kwargs": {}}


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


def changed(path, change):
    """Make robomimic's file, with a change."""
    make_robomimic(path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(file, place, values):
    """Give every demo this array."""
    for name in file["data"]:
        demo = file["data"][name]
        if place in demo:
            del demo[place]
        demo[place] = values(len(demo["actions"]))


def of_type(kind):
    return lambda length: np.ones((length, 2), kind)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("f2", "float32"),
        ("bool", "float32"),
        ("u1", "float32"),
        ("i2", "float32"),
        (">f4", "float32"),
        ("i4", "float64"),
        ("u8", "float64"),
    ],
)
def test_read_robomimic_widens_observations(tmp_path, kind, wanted):
    path = changed(tmp_path / "a.hdf5", lambda file: put(file, "obs/object", of_type(kind)))
    write_store(read_robomimic(path), tmp_path / "a.zarr")
    rows = DemonstrationStore.open(tmp_path / "a.zarr").read()["object"]
    assert (rows.dtype, rows.tolist()) == (np.dtype(wanted), [[1.0, 1.0]] * 12)


def test_read_robomimic_takes_the_type_that_holds_all_demos(tmp_path):
    def change(file):
        del file["data/demo_2/obs/object"]
        file["data/demo_2/obs/object"] = np.full((1, 10), 0.1, "f4")

    found = read_robomimic(changed(tmp_path / "a.hdf5", change))
    assert found.types["object"] == "float64"
    assert list(found.episodes)[1][0].observations["object"][0, 0] == np.float32(0.1)


def test_read_robomimic_keeps_time_series_only_and_names_the_rest(tmp_path):
    """What MimicGen writes beside the steps."""

    def change(file):
        put(file, "src_demo_inds", lambda length: np.arange(2))
        put(file, "task", lambda length: "stack")
        put(file, "datagen_info/eef_pose", lambda length: np.ones((length, 4, 4)))
        file["data/demo_0"].create_group("datagen_info/subtask_term_signals")

    found = read_robomimic(changed(tmp_path / "a.hdf5", change))
    assert found.warnings == ("left out src_demo_inds, task: not one row a step",)
    assert found.extra_sizes["datagen_info.eef_pose"] == 16


def test_read_robomimic_drops_demos_without_a_step(tmp_path):
    def change(file):
        for place in ("actions", "rewards", "dones", "states"):
            rows = file[f"data/demo_2/{place}"][:0]
            del file[f"data/demo_2/{place}"]
            file[f"data/demo_2/{place}"] = rows
        file["data/demo_2"].attrs["num_samples"] = 0

    found = read_robomimic(changed(tmp_path / "a.hdf5", change))
    assert found.warnings == ("left out demo_2: without a step",)
    assert found.attributes["episode_names"] == ["demo_0", "demo_10"]
    assert found.attributes["masks"] == {"train": ["demo_10"], "valid": ["demo_0"]}
    assert len(list(found.episodes)) == found.count == 2


def test_read_robomimic_names_what_a_filter_key_lacks(tmp_path):
    def change(file):
        file["mask/stale"] = np.array(["demo_9", "demo_0", "demo_7"], dtype="S")

    path = changed(tmp_path / "a.hdf5", change)
    found = read_robomimic(path, "stale")
    assert found.warnings == ("mask/stale names demo_9, demo_7, which data lacks",)
    assert found.attributes["episode_names"] == ["demo_0"]
    with h5py.File(path, "r+") as file:
        del file["mask"]
    with pytest.raises(ConversionError, match="has no filter keys"):
        read_robomimic(path, "stale")


def test_read_robomimic_names_all_pixels_that_no_store_holds(tmp_path):
    def change(file):
        put(file, "next_obs/front", lambda length: np.zeros((length, 8, 8, 3), "u1"))
        put(file, "obs/depth", lambda length: np.zeros((length, 8, 8, 1), "f4"))
        put(file, "obs/real", lambda length: np.zeros((length, 8, 8, 3), "f4"))
        put(file, "note", lambda length: ["a"] * length)

    path = changed(tmp_path / "a.hdf5", change)
    with pytest.raises(ConversionError) as raised:
        read_robomimic(path, leave_out=["states"])
    named = "next_obs.front,note,depth,real"
    assert f"add leave_out=[states,{named}]" in str(raised.value)
    assert "real (pixels of type float32, not uint8)" in str(raised.value)
    read_robomimic(path, leave_out=["states", *named.split(",")])
    found = read_robomimic(path, leave_out=["note"], pictures=False)
    assert found.warnings == ("left out next_obs.front, depth, real: pictures",)


def test_read_robomimic_names_all_that_is_not_finite(tmp_path):
    def change(file):
        file["data/demo_0/obs/object"][3, 2] = np.nan
        file["data/demo_10/states"][1, 4] = -np.inf

    path = changed(tmp_path / "a.hdf5", change)
    with pytest.raises(ConversionError) as raised:
        list(read_robomimic(path).episodes)
    assert "demo_0: object[3, 2] is nan; demo_10: states[1, 4] is -inf" in str(raised.value)
    assert "leave_out=[object,states]" in str(raised.value)


LIBERO = {
    "bddl_file_name": "bddl_files/libero_10/KITCHEN_SCENE3_turn_on_the_stove.bddl",
    "problem_info": json.dumps({"language_instruction": '"turn on the stove"'}),
    "tag": np.array([b"libero-v1"]),
    "nothing": h5py.Empty("f4"),
}


def test_read_robomimic_of_libero_gives_task_and_instruction(tmp_path):
    found = read_robomimic(
        changed(tmp_path / "a.hdf5", lambda file: file["data"].attrs.update(LIBERO))
    )
    assert found.attributes["task"] == "KITCHEN_SCENE3_turn_on_the_stove"
    assert found.attributes["language_instruction"] == "turn on the stove"
    assert found.attributes["robomimic"]["attributes"]["tag"] == ["libero-v1"]


def rewards(values):
    return lambda file: put(file, "rewards", lambda length: np.resize(values, length))


def shaped(**options):
    def change(file):
        kwargs = {**ENV_ARGS_14["env_kwargs"], **options}
        file["data"].attrs["env_args"] = json.dumps({**ENV_ARGS_14, "env_kwargs": kwargs})
        put(file, "dones", lambda length: np.arange(length) == length - 1)

    return change


def done_by(**successes):
    """Rewards of zero, and dones at the end of some demos only."""

    def change(file):
        rewards([0.0])(file)
        for name in file["data"]:
            file[f"data/{name}/dones"][-1] = int(successes.get(name, False))

    return change


def moved(place, to):
    def change(file):
        for demo in file["data"].values():
            demo.move(place, to)

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda file: None, "reward > 0"),
        (rewards([0, 2.5]), "reward > 0"),
        (moved("rewards", "reward"), "reward > 0"),
        (rewards([0.0]), None),
        (rewards([1.0]), None),
        (rewards([0, 0.5, 1]), None),
        (rewards([-1, 0]), None),
        (shaped(reward_shaping=True), None),
        (shaped(reward_scale=2.0), None),
        (shaped(reward_scale=1.0, reward_shaping=False), "reward > 0"),
        (done_by(demo_2=True), "dones"),
        (done_by(), None),
        (done_by(demo_0=True, demo_2=True, demo_10=True), None),
    ],
)
def test_read_robomimic_takes_success_from_what_tells_it(tmp_path, change, rule):
    found = read_robomimic(changed(tmp_path / "a.hdf5", change))
    assert found.attributes.get("success_from") == rule
    assert ("success" in found.absent) == (rule is None)
    for episode, _ in found.episodes:
        told = {"reward > 0": episode.reward, "dones": episode.extras["dones"].ravel()}
        assert (episode.success is None) == (rule is None)
        assert rule is None or episode.success.tolist() == (told[rule] > 0).tolist()


def test_read_robomimic_takes_success_from_an_observation(tmp_path):
    def change(file):
        done_by(demo_2=True)(file)
        moved("dones", "obs/dones")(file)

    found = read_robomimic(changed(tmp_path / "a.hdf5", change))
    assert found.attributes["success_from"] == "dones"
    assert sum(episode.success.any() for episode, _ in found.episodes) == 1


def test_read_robomimic_believes_the_successes_of_a_file(tmp_path):
    path = changed(
        tmp_path / "a.hdf5",
        lambda file: put(file, "success", lambda length: np.ones(length, "u1")),
    )
    found = read_robomimic(path)
    assert "success_from" not in found.attributes
    assert all(episode.success.all() for episode, _ in found.episodes)


def test_read_robomimic_without_rewards_that_told_success(source, tmp_path):
    write_robomimic(read_robomimic(source), tmp_path / "b.hdf5")
    found = read_robomimic(tmp_path / "b.hdf5", leave_out=["reward"])
    assert set(found.absent) == {"reward", "success"}
    write_store(found, tmp_path / "a.zarr")
    assert DemonstrationStore.open(tmp_path / "a.zarr").episode(0).success is None


def test_write_robomimic_of_a_store_without_the_successes_that_rewards_told(store, tmp_path):
    """It is read back without them, as its record says."""
    assert store.attributes["success_from"] == "reward > 0"
    write_store(read_store(store.path, ["success"]), tmp_path / "less.zarr")
    write_robomimic(read_store(tmp_path / "less.zarr"), tmp_path / "less.hdf5")
    write_store(read_robomimic(tmp_path / "less.hdf5"), tmp_path / "back.zarr")
    assert_same_stores(tmp_path / "back.zarr", tmp_path / "less.zarr")


WRITING = """
import sys, h5py
file = h5py.File(sys.argv[1], "r+")
print("open", flush=True)
sys.stdin.read()
"""


def test_read_robomimic_says_that_another_process_is_writing(source):
    command = [sys.executable, "-c", WRITING, str(source)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(ConversionError, match=r"low_dim\.hdf5: is open for writing"):
            read_robomimic(source)
        process.stdin.close()
    assert read_robomimic(source).count == 3


def test_read_robomimic_finds_every_flipped_byte_of_an_export(store, tmp_path):
    """Whatever byte changes, the same demonstrations come back or an error does."""
    path = tmp_path / "export.hdf5"
    write_robomimic(read_store(store.path), path)
    content, wanted = path.read_bytes(), contents(read_robomimic(path))
    refused = 0
    for place in range(3, len(content), len(content) // 150):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        path.write_bytes(flipped)
        try:
            assert contents(read_robomimic(path)) == wanted, place
        except ConversionError:
            refused += 1
    assert refused > 100


def test_read_robomimic_finds_zeros_over_rows_and_their_checksum(store, tmp_path):
    path = tmp_path / "export.hdf5"
    write_robomimic(read_store(store.path), path)
    with h5py.File(path) as file:
        chunk = file["data/demo_0/actions"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"demo_0: actions: its rows were edited or damaged"):
        contents(read_robomimic(path))


def test_read_robomimic_takes_an_edit_that_was_meant(store, tmp_path):
    path = tmp_path / "export.hdf5"
    write_robomimic(read_store(store.path), path)
    with h5py.File(path, "r+") as file:
        actions = file["data/demo_0/actions"]
        actions[...] = 0.25
        with pytest.raises(ConversionError, match="delete its attribute reconverge_crc32"):
            contents(read_robomimic(path))
        del actions.attrs["reconverge_crc32"]
    (episode, _), *_ = read_robomimic(path).episodes
    assert (episode.action == 0.25).all()


def test_read_robomimic_refuses_arrays_that_are_too_large_together_before_it_reads_one(source):
    with h5py.File(source, "r+") as file:
        for name, length in zip(IN_ORDER, (4, 1, 7), strict=True):
            for i in range(3):  # of which nothing is written
                file[f"data/{name}"].create_dataset(f"obs/x{i}", (length, 6 * 10**7), "f4")
    with pytest.raises(
        ConversionError, match=r"demo_10 has 4\.69 GiB in its arrays, at most 4 can"
    ):
        read_robomimic(source)
    assert "x1" not in read_robomimic(source, leave_out=["x1"]).observation_sizes
