"""Pictures of robomimic's and LIBERO's files: their cameras, upright, and back under their keys."""

import h5py
import numpy as np
import pytest

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.pictures.keys import key_of
from reconverge.datasets.formats.robomimic import read_robomimic
from reconverge.datasets.formats.robomimic_writer import write_robomimic
from reconverge.datasets.pixels import camera_of
from support.foreign import LENGTHS, make_robomimic

KEYS = {
    "agentview": "agentview_image",
    "eye_in_hand": "robot0_eye_in_hand_image",
    "front": "front",
}


def pictures(name, key, shape=(12, 9, 3)):
    """The pictures of a demo, the same at every call."""
    seed = [int(name[5:]), *key.encode()]
    return np.random.default_rng(seed).integers(0, 256, (LENGTHS[name], *shape), np.uint8)


def make_source(path, keys, attributes=None, change=lambda rows: rows):
    make_robomimic(path)
    with h5py.File(path, "r+") as file:
        file["data"].attrs.update(attributes or {})
        for name, demo in file["data"].items():
            for key in keys:
                demo[f"obs/{key}"] = change(pictures(name, key))
    return path


def test_keys_and_cameras_are_each_others():
    for camera, key in KEYS.items():
        assert camera_of(key) == camera
    assert [key_of(camera, {}) for camera in KEYS] == [*list(KEYS.values())[:2], "front_image"]
    assert key_of("front", {"picture_keys": {"front": "front"}}) == "front"
    assert (camera_of("agentview_rgb"), camera_of("eye_in_hand_rgb")) == (
        "agentview",
        "eye_in_hand",
    )
    assert camera_of("_image") == "_image"


def test_robomimics_pictures_come_in_and_go_out_byte_for_byte(tmp_path):
    source = make_source(tmp_path / "image.hdf5", KEYS.values())
    write_store(read_robomimic(source), tmp_path / "image.zarr")
    found = read_store(tmp_path / "image.zarr")
    assert found.pictures == dict.fromkeys(KEYS, (12, 9, 3))
    for name, (episode, _) in zip(found.attributes["episode_names"], found.episodes, strict=True):
        for camera, rows in episode.pictures.items():
            np.testing.assert_array_equal(rows, pictures(name, KEYS[camera]))
    write_robomimic(read_store(tmp_path / "image.zarr"), tmp_path / "back.hdf5")
    with h5py.File(source) as before, h5py.File(tmp_path / "back.hdf5") as after:
        for name in LENGTHS:
            assert set(after[f"data/{name}/obs"]) == set(before[f"data/{name}/obs"])
            for key in KEYS.values():
                ours, theirs = (file[f"data/{name}/obs/{key}"] for file in (after, before))
                assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
                assert ours[()].tobytes() == theirs[()].tobytes()


@pytest.mark.parametrize(
    ("keys", "convention", "turned"),
    [
        (["agentview_rgb", "eye_in_hand_rgb"], "opengl", True),
        (["agentview_rgb", "eye_in_hand_rgb"], None, True),
        (["agentview_rgb", "eye_in_hand_rgb"], "opencv", False),
        (["agentview_image"], None, False),
    ],
)
def test_liberos_pictures_are_turned_upright_once(tmp_path, keys, convention, turned):
    attributes = {"macros_image_convention": convention} if convention else {}
    source = make_source(tmp_path / "demo.hdf5", keys, attributes)
    step = -1 if turned else 1
    write_robomimic(read_robomimic(source), tmp_path / "back.hdf5")
    for path in (source, tmp_path / "back.hdf5"):
        found = read_robomimic(path)
        names = found.attributes["episode_names"]
        assert sorted(found.pictures) == sorted(map(camera_of, keys))
        for name, (episode, _) in zip(names, found.episodes, strict=True):
            for key in keys:
                wanted = pictures(name, key)[:, ::step]
                np.testing.assert_array_equal(episode.pictures[camera_of(key)], wanted)
    with h5py.File(tmp_path / "back.hdf5") as back:
        upright = {"agentview_image", "robot0_eye_in_hand_image"} if turned else set(keys)
        assert upright >= {k for k in back["data/demo_0/obs"] if camera_of(k) != k}
        assert ("macros_image_convention" in back["data"].attrs) == (convention == "opencv")


def test_pictures_with_the_colours_first_are_turned(tmp_path):
    first = make_source(
        tmp_path / "a.hdf5", ["top_image"], change=lambda rows: np.moveaxis(rows, -1, 1)
    )
    found = read_robomimic(first)
    assert found.pictures == {"top": (12, 9, 3)}
    for name, (episode, _) in zip(found.attributes["episode_names"], found.episodes, strict=True):
        np.testing.assert_array_equal(episode.pictures["top"], pictures(name, "top_image"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file, rows: rows.astype(np.float32) / 255, "pixels of type float32, not uint8"),
        (lambda file, rows: rows[..., :1], "rows of another shape in demo_2 and 1 more"),
        (lambda file, rows: rows[:-1], "rows, not 4, in demo_0"),
        (lambda file, rows: None, "missing in demo_0"),
        (lambda file, rows: rows[:, :3], "rows of another shape in demo_2 and 1 more"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_in_a_line(tmp_path, change, message):
    path = make_source(tmp_path / "a.hdf5", ["top_image"])
    with h5py.File(path, "r+") as file:
        rows = file["data/demo_0/obs/top_image"][()]
        del file["data/demo_0/obs/top_image"]
        if (changed := change(file, rows)) is not None:
            file["data/demo_0/obs/top_image"] = changed
    with pytest.raises(ConversionError, match=message) as raised:
        read_robomimic(path)
    assert "\n" not in str(raised.value)
    assert read_robomimic(path, pictures=False, leave_out=["top_image"]).pictures == {}


def test_two_arrays_of_one_camera_are_refused(tmp_path):
    path = make_source(tmp_path / "a.hdf5", ["top_image", "top_rgb"])
    with pytest.raises(ConversionError, match=r"both be pictures of top; add leave_out=\[top_rgb"):
        read_robomimic(path)
    assert list(read_robomimic(path, leave_out=["top_rgb"]).pictures) == ["top"]
