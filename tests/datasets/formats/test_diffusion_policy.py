import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.diffusion_policy import read_diffusion_policy
from reconverge.datasets.formats.diffusion_policy_writer import write_diffusion_policy
from reconverge.datasets.formats.table import source_format
from reconverge.datasets.layout import STEP_TYPES, StoreError, StoreWarning
from reconverge.datasets.store import DemonstrationStore
from support.broken import put_ends
from support.foreign import make_replay_buffer, zipped
from support.strategies import JSON, NAMES, numbers


def convert(source, target, leave_out=()):
    write_store(read_diffusion_policy(source, leave_out), target)
    return DemonstrationStore.open(target)


@pytest.fixture(params=["directory", "zip", "zip with a folder"])
def source(request, tmp_path):
    """The same replay buffer in all its shapes."""
    folder = tmp_path / "pusht.zarr"
    arrays = make_replay_buffer(folder)
    if request.param == "directory":
        return folder, arrays
    archive = zipped(folder, "pusht.zarr" if "folder" in request.param else "")
    shutil.rmtree(folder)
    return tmp_path / archive, arrays


def test_read_diffusion_policy_gives_the_episodes_of_the_replay_buffer(source, tmp_path):
    path, arrays = source
    store = convert(path, tmp_path / "out.zarr")
    assert store.episode_ends.tolist() == [3, 4, 9]
    assert store.observation_sizes == {"keypoint": 6, "state": 5}
    found = store.read()
    np.testing.assert_array_equal(found["action"], arrays["action"])
    np.testing.assert_array_equal(found["keypoint"], arrays["keypoint"].reshape(9, 6))
    assert (found["keypoint"].dtype, found["state"].dtype) == (np.float64, np.float32)
    assert store.attributes["row_shapes"] == {"keypoint": [3, 2]}
    assert store.episode(1).success is None


def test_read_diffusion_policy_gives_extras_and_rewards(tmp_path):
    reward = np.linspace(0, 1, 9, dtype=np.float32)
    count = np.arange(9, dtype=np.int64)[:, None]
    make_replay_buffer(tmp_path / "a.zarr", reward=reward, n_contacts=count)
    store = convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    np.testing.assert_array_equal(store.read()["reward"], reward)
    assert store.episode(2).extras["n_contacts"].tolist() == count[4:].tolist()


def test_read_diffusion_policy_takes_pictures_and_writes_them_under_their_key(tmp_path):
    img = np.random.default_rng(0).integers(0, 256, (9, 4, 6, 3), np.uint8)
    make_replay_buffer(tmp_path / "a.zarr", img=img, depth=np.zeros((9, 8, 8), np.uint8))
    with pytest.raises(ConversionError, match=r"depth \(pixels\); add leave_out=\[depth\]"):
        convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    store = convert(tmp_path / "a.zarr", tmp_path / "b.zarr", ["depth"])
    assert store.pictures == {"img": (4, 6, 3)}
    np.testing.assert_array_equal(store.read_pictures("img", 0, 9), img)
    write_diffusion_policy(read_store(store.path), tmp_path / "c.zarr")
    back = zarr.open_group(tmp_path / "c.zarr", mode="r")["data/img"]
    np.testing.assert_array_equal(back[:], img)
    blind = read_diffusion_policy(tmp_path / "a.zarr", pictures=False)
    assert blind.warnings == ("left out depth, img: pictures",)
    assert not convert(tmp_path / "a.zarr", tmp_path / "d.zarr", ["depth", "img"]).pictures


def test_read_diffusion_policy_finds_chunks_in_folders(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr")
    flat = convert(tmp_path / "a.zarr", tmp_path / "b.zarr").read()
    for file in tmp_path.glob("a.zarr/data/*/.zarray"):
        described = json.loads(file.read_text()) | {"dimension_separator": "/"}
        file.write_text(json.dumps(described))
        for chunk in [path for path in file.parent.iterdir() if "." in path.name[1:]]:
            place = file.parent.joinpath(*chunk.name.split("."))
            chunk.rename(chunk.with_name("moved"))
            place.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "moved").rename(place)
    nested = convert(tmp_path / "a.zarr", tmp_path / "c.zarr").read()
    assert nested.keys() == flat.keys()
    assert all(np.array_equal(nested[name], flat[name]) for name in flat)


def test_write_diffusion_policy_restores_shapes(source, tmp_path):
    """All that ReplayBuffer asks for, and what it would give; nothing else is below
    data and meta.
    """
    path, arrays = source
    convert(path, tmp_path / "between.zarr")
    write_diffusion_policy(read_store(tmp_path / "between.zarr"), tmp_path / "back.zarr")
    root = zarr.open_group(tmp_path / "back.zarr", mode="r", zarr_format=2)
    assert set(root["data"].array_keys()) == arrays.keys()
    assert root["meta/episode_ends"][:].tolist() == [3, 4, 9]
    for name, rows in arrays.items():
        assert (root[f"data/{name}"].dtype, root[f"data/{name}"].shape) == (rows.dtype, rows.shape)
        np.testing.assert_array_equal(root[f"data/{name}"][:], rows)


def test_read_diffusion_policy_gives_numbers_of_an_episode_as_scalars(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr")
    meta = zarr.open_group(tmp_path / "a.zarr/meta", mode="a", zarr_format=2)
    for name, rows in {
        "seed": np.array([7, 8, 9]),
        "limits": np.zeros((4, 2)),
        "kind": np.array([1, 2, 3], "u1"),
    }.items():
        meta.create_array(name, data=rows)
    store = convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert {name: rows.tolist() for name, rows in store.scalars().items()} == {
        "kind": [1, 2, 3],
        "seed": [7, 8, 9],
    }
    assert read_diffusion_policy(tmp_path / "a.zarr").warnings == (
        "left out meta/limits: not a number an episode",
    )


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4", "i8", "u4", "u8", ">i4"])
def test_read_diffusion_policy_takes_ends_of_any_whole_number(tmp_path, kind):
    make_replay_buffer(tmp_path / "a.zarr")
    put_ends(tmp_path / "a.zarr", np.array([3, 4, 9], kind))
    assert convert(tmp_path / "a.zarr", tmp_path / "b.zarr").episode_ends.tolist() == [3, 4, 9]


def test_read_diffusion_policy_drops_episodes_without_a_step(tmp_path):
    arrays = make_replay_buffer(tmp_path / "a.zarr", ends=(0, 3, 3, 4, 9, 9))
    meta = zarr.open_group(tmp_path / "a.zarr/meta", mode="a", zarr_format=2)
    meta.create_array("seed", data=np.arange(6))
    assert read_diffusion_policy(tmp_path / "a.zarr").warnings == (
        "left out episode 0, 2, 5: without a step",
    )
    store = convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert store.episode_ends.tolist() == [3, 4, 9]
    assert store.scalars()["seed"].tolist() == [1, 3, 4]
    np.testing.assert_array_equal(store.read()["state"], arrays["state"])


def test_read_diffusion_policy_finds_arrays_in_nested_groups(tmp_path):
    nested = {
        "obs/agent_pos": np.arange(18, dtype=np.int16).reshape(9, 2),
        "obs/state": np.ones((9, 2)),
        "info/deep/count": np.arange(9),
    }
    arrays = make_replay_buffer(tmp_path / "a.zarr", **nested)
    (tmp_path / "a.zarr/data/._state").mkdir()
    (tmp_path / "a.zarr/data/._state/.zarray").write_text("?")
    (tmp_path / "a.zarr/data/state/._0.0").write_text("?")
    store = convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert store.observation_sizes == {"keypoint": 6, "agent_pos": 2, "obs.state": 2, "state": 5}
    found = store.read()
    np.testing.assert_array_equal(found["agent_pos"], nested["obs/agent_pos"])
    np.testing.assert_array_equal(found["state"], arrays["state"])
    assert found["agent_pos"].dtype == np.float32
    assert found["info.deep.count"].ravel().tolist() == list(range(9))


def test_read_diffusion_policy_takes_whole_numbers_where_nothing_else_is_seen(tmp_path):
    state = np.arange(9, dtype=np.uint16)[:, None]
    make_replay_buffer(tmp_path / "a.zarr", keypoint=None, state=state)
    found = convert(tmp_path / "a.zarr", tmp_path / "b.zarr").observations()
    assert found.tolist() == state.tolist()


def as_version_3(path, source, **options):
    """Copy a replay buffer into zarr v3."""
    found = zarr.open_group(source, mode="r", zarr_format=2)
    root = zarr.create_group(path, zarr_format=3, attributes={"task": "push"})
    for name in (*(f"data/{name}" for name in found["data"].array_keys()), "meta/episode_ends"):
        root.create_array(name, data=found[name][:], **(options if "data" in name else {}))
    return path


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("options", [{}, {"compressors": BloscCodec(cname="lz4")}])
def test_read_diffusion_policy_of_zarr_3(tmp_path, archived, options):
    arrays = make_replay_buffer(tmp_path / "a.zarr")
    path = as_version_3(tmp_path / "b.zarr", tmp_path / "a.zarr", **options)
    path = Path(zipped(path, "b.zarr")) if archived else path
    assert source_format(path) == "diffusion_policy"
    store = convert(path, tmp_path / "c.zarr")
    assert store.attributes["task"] == "push"
    assert store.episode_ends.tolist() == [3, 4, 9]
    np.testing.assert_array_equal(store.read()["keypoint"], arrays["keypoint"].reshape(9, 6))


def test_read_diffusion_policy_of_zarr_3_finds_truncated_chunks(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr")
    options = {"compressors": BloscCodec(cname="lz4")}
    path = as_version_3(tmp_path / "b.zarr", tmp_path / "a.zarr", **options)
    chunk = path / "data/state/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(ConversionError, match="data/state/c/0/0 is truncated"):
        convert(path, tmp_path / "c.zarr")


def test_read_diffusion_policy_of_zarr_3_passes_over_metadata_of_nothing(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr")
    path = as_version_3(tmp_path / "b.zarr", tmp_path / "a.zarr")
    (path / "data/action/zarr.json").write_text('{"zarr_format": 3}')
    with pytest.raises(ConversionError, match="data/action is missing"):
        convert(path, tmp_path / "c.zarr")


def test_read_diffusion_policy_says_which_chunks_are_missing(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/data/state/0.0").unlink()
    (line,) = read_diffusion_policy(tmp_path / "a.zarr").warnings
    assert re.fullmatch(r"data/state lacks 1 of \d+ chunks: read as 0(\.0)?", line)


def test_read_diffusion_policy_counts_the_chunks_of_arrays_whose_names_begin_alike(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr", state_more=np.ones((9, 2), np.float32))
    (tmp_path / "a.zarr/data/state_more/0.0").unlink()
    (line,) = read_diffusion_policy(Path(zipped(tmp_path / "a.zarr"))).warnings
    assert re.fullmatch(r"data/state_more lacks 1 of 3 chunks: read as 0(\.0)?", line)


def test_read_diffusion_policy_counts_chunks_in_shards(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr")
    root = zarr.open_group(tmp_path / "a.zarr", mode="a")
    found = root["data/state"][:]
    sharded = as_version_3(tmp_path / "b.zarr", tmp_path / "a.zarr")
    root = zarr.open_group(sharded, mode="a")
    root.create_array("data/state", data=found, chunks=(3, 5), shards=(9, 5), overwrite=True)
    assert not read_diffusion_policy(sharded).warnings


def test_read_diffusion_policy_refuses_its_own_export_without_a_chunk(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr")
    write_diffusion_policy(read_diffusion_policy(tmp_path / "a.zarr"), tmp_path / "b.zip")
    with (
        zipfile.ZipFile(tmp_path / "b.zip") as whole,
        zipfile.ZipFile(tmp_path / "c.zip", "w") as cut,
    ):
        for name in whole.namelist():
            if name != "data/state/0.0":
                cut.writestr(name, whole.read(name))
    with pytest.raises(ConversionError, match=r"data/state lacks 1 of \d+ chunks; restore"):
        read_diffusion_policy(tmp_path / "c.zip")


def test_read_diffusion_policy_reads_an_archive_where_it_lies(tmp_path, monkeypatch):
    """Nothing of it is unpacked, whatever its entries are called."""
    make_replay_buffer(tmp_path / "a.zarr")
    archive = Path(zipped(tmp_path / "a.zarr"))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../../outside", "x")
        file.writestr("__MACOSX/meta/episode_ends/._.zarray", "x")
    monkeypatch.setattr(tempfile, "mkdtemp", None)
    before = sorted(tmp_path.parent.rglob("*"))
    assert read_diffusion_policy(archive).count == 3
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("archived", [False, True])
def test_read_diffusion_policy_refuses_to_choose_one_of_several_buffers(tmp_path, archived):
    for name in ("push", "lift", "lift/backup"):
        make_replay_buffer(tmp_path / "both" / name)
    path = Path(zipped(tmp_path / "both")) if archived else tmp_path / "both"
    said = r"both.* holds 2 replay buffers: lift/, push/; give the path of a single one, unpacked"
    with pytest.raises(ConversionError, match=said):
        read_diffusion_policy(path)
    shutil.rmtree(tmp_path / "both/push")
    path = Path(zipped(tmp_path / "both")) if archived else tmp_path / "both"
    assert read_diffusion_policy(path).count == 3


def test_read_diffusion_policy_refuses_linked_folders_and_links_to_nothing(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr")
    chunk = tmp_path / "a.zarr/data/state/0.0"
    (chunk.rename(tmp_path / "elsewhere"), chunk.symlink_to(tmp_path / "elsewhere"))
    assert read_diffusion_policy(tmp_path / "a.zarr").count == 3
    (tmp_path / "a.zarr/.#.zattrs").symlink_to("somebody@somewhere")  # of an editor
    assert read_diffusion_policy(tmp_path / "a.zarr").count == 3
    keypoint = tmp_path / "a.zarr/data/keypoint"
    keypoint.rename(tmp_path / "keypoint")
    for target in ("keypoint", "nothing"):
        keypoint.unlink(missing_ok=True)
        keypoint.symlink_to(tmp_path / target)
        for read, error in (
            (read_diffusion_policy, ConversionError),
            (DemonstrationStore.open, StoreError),
        ):
            with pytest.raises(error, match=r"links to nothing: data/keypoint; put what they"):
                read(tmp_path / "a.zarr")


def test_read_diffusion_policy_leaves_out_an_episode_that_was_never_ended(tmp_path):
    arrays = make_replay_buffer(tmp_path / "a.zarr", ends=(3, 4, 7))
    said = "left out 2 steps after the last episode"
    assert read_diffusion_policy(tmp_path / "a.zarr").warnings == (said,)
    store = convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert store.episode_ends.tolist() == [3, 4, 7]
    np.testing.assert_array_equal(store.read()["state"], arrays["state"][:7])
    with pytest.warns(StoreWarning, match=said):
        opened = DemonstrationStore.open(tmp_path / "a.zarr")
    np.testing.assert_array_equal(opened.read()["state"], arrays["state"][:7])


def test_opening_a_replay_buffer_refuses_a_camera_of_twice_the_rate(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr", img=np.zeros((18, 8, 8, 3), np.uint8))
    with pytest.raises(StoreError, match=r"data/img has 18 rows, meta/episode_ends wants 9; "):
        DemonstrationStore.open(tmp_path / "a.zarr")


def of_narrow_ends(path):
    put_ends(path, np.array([3, 4, 9], np.int32))


def with_an_empty_episode(path):
    put_ends(path, np.array([3, 3, 9]))


def without_the_group_file(path):
    (path / ".zgroup").unlink()


def of_version_3(path):
    path.rename(path.with_name("b.zarr"))
    as_version_3(path, path.with_name("b.zarr"))


@pytest.mark.parametrize(
    "change", [of_narrow_ends, with_an_empty_episode, without_the_group_file, of_version_3]
)
def test_what_converts_but_does_not_open_is_told_to_be_converted(tmp_path, change):
    path = tmp_path / "a.zarr"
    make_replay_buffer(path)
    change(path)
    with pytest.raises(StoreError, match=rf"; make a store of it .*convert source={path} target="):
        DemonstrationStore.open(path)
    assert source_format(path) == "diffusion_policy"
    assert len(convert(path, tmp_path / "c.zarr")) in (2, 3)


def edit(file, change):
    described = json.loads(file.read_text())
    change(described)
    file.write_text(json.dumps(described))


@pytest.mark.parametrize("version", [2, 3])
def test_read_diffusion_policy_names_an_unknown_codec_and_leaves_out_its_pictures(
    tmp_path, version
):
    path = tmp_path / "a.zarr"
    make_replay_buffer(path, camera0_rgb=np.zeros((9, 8, 8, 3), np.uint8))
    if version == 2:
        described = path / "data/camera0_rgb/.zarray"
        edit(described, lambda found: found.update(compressor={"id": "imagecodecs_jpegxl"}))
    else:
        path = as_version_3(tmp_path / "b.zarr", path)
        described = path / "data/camera0_rgb/zarr.json"
        edit(described, lambda found: found["codecs"][-1].update(name="imagecodecs_jpegxl"))
    said = r"convert camera0_rgb \(in the unknown codec imagecodecs_jpegxl\); add leave_out=\[cam"
    with pytest.raises(ConversionError, match=said):
        read_diffusion_policy(path)
    assert read_diffusion_policy(path, ["camera0_rgb"]).count == 3
    blind = read_diffusion_policy(path, pictures=False)
    assert blind.warnings == ("left out camera0_rgb: pictures",)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_read_diffusion_policy_takes_pictures_of_real_numbers_that_are_bytes(tmp_path, kind):
    img = np.random.default_rng(0).integers(0, 256, (9, 8, 10, 3), np.uint8)
    img[:2, 0, 0, 0] = 0, 255
    make_replay_buffer(tmp_path / "a.zarr", img=img.astype(kind))
    store = convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert store.observation_sizes == {"keypoint": 6, "state": 5}
    assert store.pictures == {"img": (8, 10, 3)}
    np.testing.assert_array_equal(store.read_pictures("img", 0, 9), img)


@pytest.mark.parametrize("value", [0.5, 256, -1, 1e30, np.nan])
def test_read_diffusion_policy_refuses_pictures_of_which_a_number_is_no_byte(tmp_path, value):
    img = np.zeros((9, 8, 8, 3), np.float32)
    img[8, 7, 7, 2] = value
    make_replay_buffer(tmp_path / "a.zarr", img=img)
    said = r"img \(pixels of type float32, not uint8\); add leave_out=\[img\]"
    with pytest.raises(ConversionError, match=said):
        read_diffusion_policy(tmp_path / "a.zarr")


@settings(max_examples=8, deadline=None)
@given(
    kinds=st.dictionaries(
        NAMES, st.sampled_from([kind for kind in STEP_TYPES if kind != "uint8"]), max_size=4
    ),
    rows=st.sampled_from([(3,), (1,), (2, 2), ()]),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    chunk=st.integers(1, 50),
    attributes=st.dictionaries(st.sampled_from(["task", "fps", "note"]), JSON, max_size=3),
    archived=st.booleans(),
)
def test_read_diffusion_policy_keeps_every_bit(kinds, rows, lengths, chunk, attributes, archived):
    rng, steps = np.random.default_rng(len(kinds)), sum(lengths)
    arrays = {name: numbers(rng, (steps, *rows), kind) for name, kind in kinds.items()}
    arrays |= {
        "action": numbers(rng, (steps, 2), "float32"),
        "seen": numbers(rng, (steps, 3), "float64"),
    }
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "buffer.zarr"
        root = zarr.open_group(path, mode="w", zarr_format=2, attributes=attributes)
        for key, values in arrays.items():
            root.create_array(f"data/{key}", data=values, chunks=(chunk, *values.shape[1:]))
        root.create_array("meta/episode_ends", data=np.cumsum(lengths))
        store = convert(Path(zipped(path)) if archived else path, Path(name) / "out.zarr")
        found = store.read()
    assert {key: store.attributes[key] for key in attributes} == attributes
    assert store.episode_ends.tolist() == np.cumsum(lengths).tolist()
    assert found.keys() == arrays.keys()
    shapes = {"action": [2], "seen": [3], **store.attributes["row_shapes"]}
    for key, values in arrays.items():
        assert found[key].dtype == values.dtype
        assert found[key].tobytes() == values.tobytes()
        assert shapes.get(key, list(found[key].shape[1:])) == list(values.shape[1:])
