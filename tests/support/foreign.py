"""Make small random demonstrations as others write them, and compare stores."""

import json
import shutil

import h5py
import numcodecs
import numpy as np
import zarr

from reconverge.datasets.formats.episode_attributes import (
    read_episode_attributes,
)
from reconverge.datasets.formats.exchange import rows_by_name
from reconverge.datasets.store import DemonstrationStore

SIZES = {
    "object": 10,
    "robot0_eef_pos": 3,
    "robot0_eef_quat": 4,
    "robot0_gripper_qpos": 2,
    "robot0_joint_pos": 7,
}
NAMES = ("demo_10", "demo_0", "demo_2")  # as HDF5 would not sort them, with gaps
LENGTHS = {"demo_0": 4, "demo_2": 1, "demo_10": 7}
ENV_ARGS_14 = {
    "env_name": "Lift",
    "env_version": "1.4.1",
    "type": 1,
    "env_kwargs": {
        "control_freq": 20,
        "controller_configs": {"type": "OSC_POSE", "control_delta": True},
    },
}
ENV_ARGS_15 = {
    **ENV_ARGS_14,
    "env_version": "1.5.1",
    "env_kwargs": {
        "control_freq": 20,
        "controller_configs": {
            "type": "BASIC",
            "body_parts": {"right": {"type": "OSC_POSE", "input_type": "delta"}},
        },
    },
}


def demo_arrays(name):
    """Return all arrays of a demo by their paths, the same at every call."""
    rng, length = np.random.default_rng(int(name[5:])), LENGTHS[name]
    seen = {key: rng.standard_normal((length + 1, size)) for key, size in SIZES.items()}
    ended = np.arange(length) == length - 1
    return {
        **{f"obs/{key}": rows[:-1] for key, rows in seen.items()},
        **{f"next_obs/{key}": rows[1:] for key, rows in seen.items()},
        "actions": rng.uniform(-1, 1, (length, 7)),
        "states": rng.standard_normal((length, 32)),
        "rewards": ended.astype(np.float64),
        "dones": ended.astype(np.int64),
    }


def make_robomimic(path, env_args=ENV_ARGS_14):
    """Make a file with the layout of robomimic's low-dimensional ones."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name in NAMES:
            demo = data.create_group(name)
            demo.attrs["num_samples"] = LENGTHS[name]
            demo.attrs["model_file"] = f'<mujoco model="{name}"/>'
            for place, rows in demo_arrays(name).items():
                demo[place] = rows
        data.attrs["total"] = sum(LENGTHS.values())
        data.attrs["env_args"] = json.dumps(env_args, indent=4)
        file["mask/train"] = np.array(["demo_10", "demo_2"], dtype="S")
        file["mask/valid"] = np.array(["demo_0"], dtype="S")
    return path


def make_replay_buffer(path, ends=(3, 4, 9), **more):
    """Make a directory with diffusion_policy's layout: zarr v2, any chunks, no reward."""
    rng = np.random.default_rng(0)
    root = zarr.open_group(path, mode="w", zarr_format=2)
    arrays = {
        "action": rng.standard_normal((9, 2), np.float32),
        "keypoint": rng.standard_normal((9, 3, 2)),
        **more,
    }
    arrays = {"state": rng.standard_normal((9, 5), np.float32), **arrays}
    for name, rows in arrays.items():
        if rows is not None:
            chunks = (4, *rows.shape[1:])
            compressor = numcodecs.Blosc(cname="zstd", clevel=5)
            root.create_array(f"data/{name}", data=rows, chunks=chunks, compressors=compressor)
    root.create_array("meta/episode_ends", data=np.array(ends, np.int64))
    return arrays


def zipped(folder, inside=""):
    """Make the archive of a folder, its content at the top or in a folder of the archive."""
    root = folder.parent if inside else folder
    return shutil.make_archive(str(folder), "zip", root, inside or None)


def assert_same_stores(found, wanted):
    """Compare attributes, types and bits of everything."""
    found, wanted = DemonstrationStore.open(found), DemonstrationStore.open(wanted)
    assert found.attributes == wanted.attributes
    assert found.episode_ends.tolist() == wanted.episode_ends.tolist()
    for ours, theirs in ((found.read(), wanted.read()), (found.scalars(), wanted.scalars())):
        assert list(ours) == list(theirs)
        for name, rows in theirs.items():
            assert (ours[name].dtype, ours[name].shape) == (rows.dtype, rows.shape), name
            assert ours[name].tobytes() == rows.tobytes(), name
    ours, theirs = (
        list(read_episode_attributes(store.path, len(store))) for store in (found, wanted)
    )
    assert ours == theirs


def contents(demonstrations):
    """Return all that demonstrations hold, to compare."""
    episodes = [
        (
            own,
            dict(episode.scalars),
            *(rows.tobytes() for rows in rows_by_name(episode, {}).values()),
        )
        for episode, own in demonstrations.episodes
    ]
    return (demonstrations.schema, dict(demonstrations.attributes), episodes)
