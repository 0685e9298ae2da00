"""No damage to a store's files is silent, none ends in a traceback."""

import json
import random
import shutil
import zipfile
import zlib

import numpy as np
import pytest
import zarr

from reconverge.datasets import layout, rules
from reconverge.datasets.formats.episode_attributes import EpisodeAttributes
from reconverge.datasets.store import DemonstrationStore, Episode, StoreError
from reconverge.datasets.sums import ATTACHED, signed

KINDS = {}


def kind(function):
    KINDS[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of nine arrays, most of several shards, with a file attached."""
    path = tmp_path_factory.mktemp("whole") / "lift.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_STEPS", 10)
        patch.setattr(layout, "SHARD_STEPS", 20)
        sizes = {"object": 2, "eef": 2}
        store = DemonstrationStore.create(
            path, sizes, 2, {"task": "lift"}, extra_sizes={"c": 2}, scalar_types={"seed": "int64"}
        )
        for i in range(4):
            rows = np.random.default_rng(i).standard_normal((4, 15, 2)).astype(np.float32)
            success = np.arange(15) == 14
            extras = {"c": rows[3]}
            seen = {"object": rows[0], "eef": rows[1]}
            store.append(
                Episode(seen, rows[2], success.astype(np.float32), success, extras, {"seed": i})
            )
    with EpisodeAttributes(path) as attributes:
        attributes.write({"model_file": f"<mujoco/> {i}"} for i in range(4))
    store.update_attributes({})
    return path


@pytest.fixture
def damaged(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "lift.zarr")


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def chunks_of(path):
    return [file for file in files_of(path) if "c" in file.relative_to(path).parts[2:-1]]


@kind
def flip(path, rng):
    file = rng.choice([file for file in files_of(path) if file.suffix != ".zip"])
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


@kind
def truncate(path, rng):
    file = rng.choice(files_of(path))
    content = file.read_bytes().rstrip()
    file.write_bytes(content[: rng.randrange(len(content))])


@kind
def delete(path, rng):
    rng.choice(files_of(path)).unlink()


@kind
def folder_in_place_of_a_file(path, rng):
    file = rng.choice(files_of(path))
    file.unlink()
    file.mkdir()


@kind
def swap_files(path, rng):
    a, b = rng.sample(files_of(path), 2)
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


@kind
def swap_chunks(path, rng):
    """Of one size, so that most decode."""
    chunks = chunks_of(path)
    a = rng.choice(chunks)
    near = [file for file in chunks if abs(len(file.read_bytes()) - len(a.read_bytes())) < 16]
    b = rng.choice([file for file in near if file.read_bytes() != a.read_bytes()] or [a])
    content = a.read_bytes()
    a.write_bytes(b.read_bytes() if b != a else b"")
    b.write_bytes(content if b != a else b"")


@kind
def swap_arrays(path, rng):
    a, b = rng.sample(["object", "eef", "action", "c"], 2)
    (path / "data" / a).rename(path / "aside")
    (path / "data" / b).rename(path / "data" / a)
    (path / "aside").rename(path / "data" / b)


@kind
def delete_a_folder(path, rng):
    shutil.rmtree(rng.choice([file for file in path.rglob("*") if file.is_dir()]))


@kind
def edit_json(path, rng):
    file = rng.choice([file for file in files_of(path) if file.name == "zarr.json"])
    record = json.loads(file.read_text())
    places = [(record, key) for key in record]
    for parent, key in places:
        child = parent[key]
        if isinstance(child, (dict, list)):
            keys = child if isinstance(child, dict) else range(len(child))
            places += [(child, key) for key in keys]
    parent, key = rng.choice(places)
    new = rng.choice([None, 0, 1, 7, -1, 1e9, "x", [], {}, [1], True, "float64", "gzip"])
    parent[key] = new if json.dumps(new) != json.dumps(parent[key]) else "other"
    if rng.random() < 0.3:
        del parent[key]
    file.write_text(json.dumps(record))


@kind
def add_an_array(path, rng):
    name = rng.choice(["data/obs/x", "data/y", "x", "data/action/x", "meta/a/b", "data/c/x"])
    shutil.copytree(path / "meta" / "seed", path / name)


def same_json(path, other):
    """Whether no file differs but in what JSON does not read."""
    for file in files_of(other):
        found = path / file.relative_to(other)
        if not found.is_file():
            return False
        if found.read_bytes() != file.read_bytes():
            try:
                if json.loads(found.read_bytes()) != json.loads(file.read_bytes()):
                    return False
            except ValueError:
                return False
    return len(files_of(path)) == len(files_of(other))


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("name", KINDS)
def test_open_finds_any_damage(whole, damaged, tmp_path, name, mode):
    rng = random.Random(zlib.crc32(f"{name} {mode}".encode()))
    for _ in range(15):
        KINDS[name](damaged, rng)
        if same_json(damaged, whole):
            continue
        with pytest.raises(StoreError) as error:
            DemonstrationStore.open(damaged, mode)
        assert "\n" not in str(error.value)
        assert str(damaged) in str(error.value)
        shutil.rmtree(damaged)
        shutil.copytree(whole, damaged)
    assert len(DemonstrationStore.open(whole)) == 4


def test_open_refuses_attached_attributes_that_are_longer(damaged):
    """In a whole archive, all of whose names are the same."""
    file = damaged / ATTACHED
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content + b" ")
    with pytest.raises(StoreError, match=rf"{ATTACHED} was edited"):
        DemonstrationStore.open(damaged)


def test_open_reads_a_store_without_checksums_of_rows(whole, damaged):
    """Made by an earlier version; the next append adds them."""
    group = zarr.open_group(damaged, mode="r+")
    record = {k: v for k, v in group.attrs.items() if k not in ("sums", "checksum")}
    group.attrs.clear()
    group.update_attributes(signed(damaged, record))
    store = DemonstrationStore.open(damaged, "a")
    wanted = DemonstrationStore.open(whole)
    assert len(store) == 4
    store.update_attributes({})
    assert store.attributes["sums"] == wanted.attributes["sums"]


def test_open_takes_rows_beyond_the_episodes_only_for_an_append(damaged):
    file = damaged / "data" / "action" / "zarr.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "shape": [75, 2]}))
    with pytest.raises(StoreError, match="data/action has 75 rows, meta/episode_ends wants 60"):
        DemonstrationStore.open(damaged)
    (damaged / "appending").touch()
    assert len(DemonstrationStore.open(damaged)) == 4
    DemonstrationStore.open(damaged, "a")
    assert not (damaged / "appending").exists()
    assert json.loads(file.read_text())["shape"] == [60, 2]


def test_check_surplus_takes_the_rows_of_an_append_that_has_ended_since(whole):
    """By a reader that had found three episodes just before."""
    name = "data/action"
    arrays, lengths = {name: zarr.open_group(whole, mode="r")[name]}, {name: 45}
    rules.check_surplus(whole, arrays, lengths, 3)
    with pytest.raises(StoreError, match="action has 60 rows, meta/episode_ends wants 45"):
        rules.check_surplus(whole, arrays, lengths, 4)


def test_identity_of_a_zarr_v2_directory_is_also_of_its_rows(tmp_path):
    """It has no checksums among its attributes."""
    found = []
    for i in range(2):
        group = zarr.open_group(tmp_path / str(i), mode="w", zarr_format=2)
        group.create_array("data/action", data=np.full((3, 1), 0.1 * i, np.float32))
        group.create_array("data/x", data=np.zeros((3, 1), np.float32))
        group.create_array("meta/episode_ends", data=np.array([3]))
        found.append(DemonstrationStore.open(tmp_path / str(i)).identity())
    assert found[0]["checksum"] != found[1]["checksum"]
    assert found[0]["origin"] == found[1]["origin"] == "brought"
