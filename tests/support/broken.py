"""Demonstrations that are broken, each with what the one line about it must say."""

import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from reconverge.datasets.formats.demonstration_store import write_store
from reconverge.datasets.formats.robomimic import read_robomimic
from support.foreign import ENV_ARGS_14, make_replay_buffer, make_robomimic, zipped
from support.lerobot import make_foreign


def hdf5(change):
    """A case: robomimic's file after a change."""

    def make(folder):
        path = make_robomimic(folder / "bad.hdf5")
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


def put(file, place, values):
    if place in file:
        del file[place]
    file[place] = values


def truncate(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def external(file):
    del file["data/demo_0/actions"]
    file["data/demo_0"].create_dataset("actions", (4, 7), "u1", external=[("/etc/passwd", 0, 28)])


def virtual(file):
    layout = h5py.VirtualLayout((4, 7), "f8")
    layout[:] = h5py.VirtualSource("/tmp/elsewhere.hdf5", "actions", (4, 7))
    del file["data/demo_0/actions"]
    file["data/demo_0"].create_virtual_dataset("actions", layout)


def nested(file):
    file["data/demo_0"].create_group("a/b/c/d/e/f")
    file["data/demo_0/a/b/c/d/e/f"]["rows"] = np.zeros((4, 1))


def spoil(name, index, value):
    def change(file):
        file[name][index] = value

    return change


def env_args(**changes):
    return hdf5(
        lambda file: file["data"].attrs.update(env_args=json.dumps({**ENV_ARGS_14, **changes}))
    )


OSC = {"controller_configs": {"type": "OSC_POSE", "input_ref_frame": "tool"}}
HDF5_CASES = {
    "no file": (lambda folder: folder / "gone.hdf5", "no such file"),
    "text": (lambda folder: write(folder / "bad.hdf5", "hello"), "no HDF5 file"),
    "truncated": (
        lambda folder: truncate(make_robomimic(folder / "bad.hdf5")),
        "no HDF5 file, truncated",
    ),
    "no data": (hdf5(lambda f: f.move("data", "date")), "group data is missing"),
    "no demo": (
        hdf5(lambda f: [f["data"].pop(name) for name in list(f["data"])]),
        "holds no step",
    ),
    "data is an array": (hdf5(lambda f: put(f, "data", [1.0])), "data is no group"),
    "demo is an array": (hdf5(lambda f: put(f, "data/demo_2", [1.0])), "demo_2 is no group"),
    "no actions": (hdf5(lambda f: f["data/demo_0"].pop("actions")), "demo_0: actions are missing"),
    "no obs": (hdf5(lambda f: [f[f"data/{name}"].pop("obs") for name in f["data"]]), "has obs"),
    "an array less": (
        hdf5(lambda f: f["data/demo_2/obs"].pop("object")),
        "cannot convert object (missing in demo_2); add leave_out=[object]",
    ),
    "an action beyond real numbers": (
        hdf5(lambda f: put(f, "data/demo_0/actions", np.full((4, 7), 2**53 + 1))),
        "demo_0: actions[0, 0] is 9007199254740993, which no float64 holds",
    ),
    "text for numbers": (
        hdf5(lambda f: put(f, "data/demo_0/obs/object", ["a"] * 4)),
        "cannot convert object (rows of another shape in demo_2 and 1 more)",
    ),
    "complex numbers": (
        hdf5(lambda f: put(f, "data/demo_0/obs/object", np.zeros((4, 10), "c8"))),
        "cannot convert object (of type complex64)",
    ),
    "another size later": (
        hdf5(lambda f: put(f, "data/demo_2/actions", np.zeros((1, 6)))),
        "cannot convert action (rows of another shape in demo_2); actions must be numbers",
    ),
    "a short array": (
        hdf5(lambda f: put(f, "data/demo_10/states", np.zeros((6, 32)))),
        "cannot convert states (6 rows, not 7, in demo_10); add leave_out=[states]",
    ),
    "one number": (
        hdf5(lambda f: put(f, "data/demo_0/actions", 3.0)),
        "num_samples is 4, actions has 0 rows",
    ),
    "nan": (
        hdf5(spoil("data/demo_10/obs/object", (3, 2), np.nan)),
        "demo_10: object[3, 2] is nan, expected finite numbers; repair them, or add leave_out=[ob",
    ),
    "infinite": (
        hdf5(spoil("data/demo_2/actions", (0, 1), np.inf)),
        "demo_2: action[0, 1] is inf",
    ),
    "a negative length": (
        hdf5(lambda f: f["data/demo_2"].attrs.update(num_samples=-1)),
        "num_samples is -1",
    ),
    "a length too long": (
        hdf5(lambda f: f["data/demo_2"].attrs.update(num_samples=9)),
        "num_samples is 9",
    ),
    "an empty episode": (
        hdf5(
            lambda f: [
                put(f, f"data/demo_0/{k}", f[f"data/demo_0/{k}"][:0]) for k in ("actions", "states")
            ]
        ),
        "actions has 0 rows",
    ),
    "a picture": (
        hdf5(lambda f: put(f, "data/demo_0/obs/view", np.zeros((4, 2, 2, 3), "u1"))),
        "view",
    ),
    "env_args no JSON": (
        hdf5(lambda f: f["data"].attrs.update(env_args="{")),
        "env_args is not JSON",
    ),
    "env_args a list": (
        hdf5(lambda f: f["data"].attrs.update(env_args="[1]")),
        "env_args is no object",
    ),
    "a strange version": (env_args(env_version="new"), "env_version is 'new'"),
    "a strange frame": (env_args(env_kwargs=OSC), "input_ref_frame is 'tool'"),
    "a link to another file": (
        hdf5(lambda f: put(f, "data/demo_3", h5py.ExternalLink("/etc/passwd", "/data"))),
        "demo_3 is a link",
    ),
    "a link to another place": (
        hdf5(lambda f: put(f, "data/demo_0/obs/x", h5py.SoftLink("/data/demo_2/actions"))),
        "x is a link",
    ),
    "bytes of another file": (hdf5(external), "actions keeps its data in another file"),
    "rows of another file": (hdf5(virtual), "actions keeps its data in another file"),
    "a circle": (
        hdf5(lambda f: put(f, "data/demo_0/obs/again", f["data/demo_0"])),
        "groups in one another",
    ),
    "deep groups": (hdf5(nested), "groups in one another"),
    "a name that is a path": (
        hdf5(lambda f: put(f, "data/demo_0/obs/..", np.zeros((4, 1)))),
        "the name '..'",
    ),
    "an episode's name that is a path": (
        hdf5(lambda f: f["data"].create_group("..")),
        "the name '..'",
    ),
    "two arrays of one name": (
        hdf5(lambda f: put(f, "data/demo_0/obs/states", np.zeros((4, 1)))),
        "would both be states",
    ),
    "an observation named action": (
        hdf5(lambda f: put(f, "data/demo_0/obs/action", np.zeros((4, 1)))),
        "would both be action",
    ),
    "our attribute edited": (
        hdf5(lambda f: f["data"].attrs.update(reconverge="{")),
        "reconverge was edited",
    ),
    "our schema edited": (
        hdf5(lambda f: f["data"].attrs.update(reconverge='{"observation_sizes": 3}')),
        "observation_sizes is 3",
    ),
}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def buffer(change=lambda folder: None, **arrays):
    """A case: a replay buffer of these arrays after a change."""

    def make(folder):
        make_replay_buffer(folder / "bad.zarr", **arrays)
        change(folder / "bad.zarr")
        return folder / "bad.zarr"

    return make


def put_ends(path, ends):
    zarr.open_group(path, mode="a", zarr_format=2).create_array(
        "meta/episode_ends", data=ends, overwrite=True
    )


def own(record):
    """A change: the attribute that our writer leaves."""
    return lambda path: (path / ".zattrs").write_text(json.dumps({"reconverge": record}))


def archive(name, content=b""):
    """A case: an archive with one more entry."""

    def make(folder):
        make_replay_buffer(folder / "bad.zarr")
        path = Path(zipped(folder / "bad.zarr"))
        with zipfile.ZipFile(path, "a") as file:
            file.writestr(name, content)
        return path

    return make


def zip_of(text):
    def make(folder):
        write(folder / "bad/notes.txt", text)
        return zipped(folder / "bad")

    return make


NAN = np.full((9, 5), np.nan, np.float32)
BUFFER_CASES = {
    "no action": (buffer(action=None), "data/action is missing"),
    "text in a buffer": (buffer(note=np.full((9, 1), "a")), "cannot convert note (text)"),
    "nan in a buffer": (buffer(state=NAN), "nan"),
    "a negative length in a buffer": (
        buffer(ends=(3, 2, 9)),
        "episode_ends[1] is 2, expected at least 3",
    ),
    "ends beyond the rows": (
        buffer(ends=(3, 4, 12)),
        "cannot convert action, keypoint, state (9 rows, meta/episode_ends wants 12)",
    ),
    "ends that are no whole numbers": (
        buffer(lambda path: put_ends(path, np.array([3.0, 4.0, 9.0]))),
        "meta/episode_ends has 1 dimensions of float64",
    ),
    "no step in a buffer": (buffer(ends=(0, 0, 0)), "holds no step"),
    "no ends": (buffer(lambda path: shutil.rmtree(path / "meta")), "episode_ends is missing"),
    "a chunk truncated": (buffer(lambda path: truncate(path / "data/state/1.0")), "truncated"),
    "metadata truncated": (
        buffer(lambda path: truncate(path / "data/state/.zarray")),
        "cannot be read",
    ),
    "a grey picture in a buffer": (buffer(img=np.zeros((9, 2, 2), np.uint8)), "leave_out"),
    "pictures of too few steps in a buffer": (
        buffer(img=np.zeros((8, 2, 2, 3), np.uint8)),
        "cannot convert img (8 rows, meta/episode_ends wants 9)",
    ),
    "pictures of twice the rate in a buffer": (
        buffer(img=np.zeros((18, 2, 2, 3), np.uint8)),
        "cannot convert img (18 rows, meta/episode_ends wants 9); add leave_out=[img]",
    ),
    "two pictures of a camera in a buffer": (
        buffer(img=np.zeros((9, 2, 2, 3), np.uint8), img_image=np.zeros((9, 2, 2, 3), np.uint8)),
        "img and img_image would both be pictures of img; add leave_out=[img_image]",
    ),
    "our record edited": (buffer(own({"observations": 3})), "the attribute reconverge was edited"),
    "our record holds numbers": (
        buffer(own({"observations": [1], "extras": ["state", "keypoint"], "scalars": []})),
        "the attribute reconverge names other arrays than data has",
    ),
    "our record is no record": (buffer(own("all")), "the attribute reconverge was edited"),
    "our record names an array too many": (
        buffer(own({"observations": ["camera"], "extras": ["state", "keypoint"], "scalars": []})),
        "the attribute reconverge names other arrays than data has",
    ),
    "no observation": (buffer(state=None, keypoint=None), "no observation"),
    "an archive truncated": (
        lambda folder: truncate(archive("x")(folder)),
        "no archive, or truncated",
    ),
    "an archive of something else": (zip_of("hello"), "meta/episode_ends is missing"),
    "no archive": (
        lambda folder: write(folder / "bad.zarr.zip", "hello"),
        "no archive, or truncated",
    ),
}


def lerobot(change):
    """A case: a LeRobot dataset after a change."""

    def make(folder):
        make_foreign(folder / "bad")
        change(folder / "bad")
        return folder / "bad"

    return make


def info(**changes):
    def change(path):
        value = json.loads((path / "meta/info.json").read_text())
        (path / "meta/info.json").write_text(json.dumps({**value, **changes}))

    return lerobot(change)


def feature(name, **value):
    def change(path):
        found = json.loads((path / "meta/info.json").read_text())
        found["features"][name] = {"dtype": "float32", "shape": [2], "names": None, **value}
        (path / "meta/info.json").write_text(json.dumps(found))

    return lerobot(change)


def column(name, values, file="data/chunk-000/file-000.parquet"):
    def change(path):
        table = pq.read_table(path / file)
        place = table.column_names.index(name)
        pq.write_table(table.set_column(place, name, pa.array(values)), path / file)

    return lerobot(change)


META = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-000/file-000.parquet"
SINGLE = np.float32
LEROBOT_CASES = {
    "no info": (
        lerobot(lambda path: (path / "meta/info.json").unlink()),
        "meta/info.json is missing",
    ),
    "info truncated": (
        lerobot(lambda path: truncate(path / "meta/info.json")),
        "info.json is truncated",
    ),
    "version 1": (info(codebase_version="v1.6"), "codebase_version is 'v1.6'"),
    "no features": (info(features={}), "no feature action"),
    "no frames a second": (info(fps=0), "fps is 0"),
    "frames of nobody": (info(total_frames=9), "info.json says 9 steps"),
    "episodes of nobody": (info(total_episodes=3), "info.json says 3"),
    "a negative length in meta": (column("length", [-3, 8], META), "episode 0 has length -3"),
    "no episodes": (
        lerobot(lambda path: shutil.rmtree(path / "meta/episodes")),
        "meta/episodes lacks",
    ),
    "no data files": (
        lerobot(lambda path: shutil.rmtree(path / "data")),
        "data has no parquet file",
    ),
    "data truncated": (lerobot(lambda path: truncate(path / DATA)), "is truncated"),
    "a file lost": (lerobot(lambda path: (path / DATA).unlink()), "episode 0: is missing"),
    "frames lost": (column("frame_index", [0, 1, 3]), "frames are missing or repeated"),
    "frames of another episode": (
        column("episode_index", [0, 0, 7]),
        "frames are missing or repeated",
    ),
    "a film": (
        feature("observation.images.top", dtype="video", shape=[3, 96, 96]),
        "does not say where the video of episode 0 is",
    ),
    "pictures in a table that has none": (
        feature("observation.images.top", dtype="image", shape=[3, 96, 96]),
        "lacks observation.images.top",
    ),
    "depth in a table": (
        feature("observation.images.top", dtype="image", shape=[96, 96, 1]),
        "leave_out=[observation.images",
    ),
    "a camera's name that is a path": (
        feature("observation.images./../x", dtype="video", shape=[3, 96, 96]),
        "the name 'observation.images./../x' is not allowed",
    ),
    "text as a feature": (
        feature("note", dtype="string", shape=[1]),
        "cannot convert note (text); add leave_out=[note]",
    ),
    "a feature without a column": (feature("observation.force"), "lacks observation.force"),
    "a feature's name that is a path": (feature("../../x"), "the name '../../x'"),
    "a negative shape": (feature("observation.state", shape=[-2]), "shape [-2]"),
    "nan in a dataset": (column("action", [[0.0, np.nan]] * 3), "float64"),
    "single nan in a dataset": (
        column("action", pa.array([[SINGLE(0), SINGLE(np.nan)]] * 3, pa.list_(pa.float32()))),
        "[0, 1] is nan",
    ),
    "empty values": (
        column("action", pa.array([[1.0, 2.0], None, [1.0, 2.0]], pa.list_(pa.float32()))),
        "1 empty",
    ),
    "lists of unequal length": (
        column("action", pa.array([[1.0, 2.0], [1.0], [1.0, 2.0]], pa.list_(pa.float32()))),
        "5 numbers",
    ),
    "our schema lost": (
        lerobot(lambda path: write(path / "meta/reconverge.json", "[]")),
        "holds no object",
    ),
}


def store(change):
    """A case: a store after a change."""

    def make(folder):
        source = make_robomimic(folder / "good.hdf5")
        write_store(read_robomimic(source), folder / "bad.zarr")
        change(folder / "bad.zarr")
        return folder / "bad.zarr"

    return make


STORE_CASES = {
    "no store": (lambda folder: folder / "gone.zarr", "is not there; give"),
    "an array lost": (
        store(lambda path: shutil.rmtree(path / "data/object")),
        "data/object is missing",
    ),
    "a shard lost": (store(lambda path: shutil.rmtree(path / "data/object/c")), "lost or empty"),
    "attributes edited": (store(lambda path: edit(path / "zarr.json")), "were edited"),
    "models truncated": (
        store(lambda path: truncate(path / "episode_attributes.zip")),
        "truncated or edited",
    ),
}


def edit(path):
    path.write_text(path.read_text().replace('"world"', '"base"'))


CASES = {**HDF5_CASES, **BUFFER_CASES, **LEROBOT_CASES, **STORE_CASES}
