import errno
import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.storage._local as zarr_files

from reconverge.datasets import layout
from reconverge.datasets.checks import check_actions
from reconverge.datasets.lock import writing
from reconverge.datasets.store import (
    DemonstrationStore,
    Episode,
    StoreError,
    StoreVersionWarning,
)
from reconverge.errors import ReconvergeError
from support import ROOT
from support.typecheck import unchecked

SIZES = {"object": 4, "eef": 3}  # not in alphabetical order
ATTRIBUTES = {"task": "lift", "versions": {"mujoco": "3.3.0", "robosuite": "1.5.2"}, "noise": 0.1}


def make_episode(index, length=None):
    """Episode `index`: the same numbers whichever process asks."""
    rng = np.random.default_rng(index)
    length = length or int(rng.integers(3, 30))
    return Episode(
        observations={
            name: rng.standard_normal((length, size), np.float32) for name, size in SIZES.items()
        },
        action=rng.standard_normal((length, 2), np.float32),
        reward=np.zeros(length, np.float32),
        success=np.arange(length) == length - 1,
        extras={"executed_action": rng.standard_normal((length, 2), np.float32)},
        scalars={"seed": index, "attempts": 1 + index % 3},
    )


def make_store(path, n=0):
    store = DemonstrationStore.create(
        path,
        SIZES,
        2,
        ATTRIBUTES,
        extra_sizes={"executed_action": 2},
        scalar_types={"seed": "int64", "attempts": "int64"},
    )
    store.extend(make_episode(i) for i in range(n))
    return store


def assert_same_episode(found, wanted):
    assert list(found.observations) == list(wanted.observations)
    for name in SIZES:
        np.testing.assert_array_equal(found.observations[name], wanted.observations[name])
    np.testing.assert_array_equal(found.action, wanted.action)
    np.testing.assert_array_equal(found.reward, wanted.reward)
    np.testing.assert_array_equal(found.success, wanted.success)
    np.testing.assert_array_equal(found.extras["executed_action"], wanted.extras["executed_action"])
    assert found.scalars == wanted.scalars


def assert_holds_episodes(store, n):
    wanted = [make_episode(i) for i in range(n)]
    np.testing.assert_array_equal(
        store.episode_ends, np.cumsum([len(episode.action) for episode in wanted])
    )
    scalars = [
        dict(zip(store.scalars(), row, strict=True))
        for row in zip(*store.scalars().values(), strict=True)
    ]
    assert scalars == [episode.scalars for episode in wanted]
    steps = [
        {**e.observations, "action": e.action, "reward": e.reward, "success": e.success}
        for e in wanted
    ]
    for name, found in store.read([*SIZES, "action", "reward", "success"]).items():
        np.testing.assert_array_equal(found, np.concatenate([step[name] for step in steps]))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards that a few episodes fill, so that appends end within one and cross into the next."""
    monkeypatch.setattr(layout, "CHUNK_STEPS", 20)
    monkeypatch.setattr(layout, "SHARD_STEPS", 60)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lift.zarr"


# What goes in comes out.


def test_append_keeps_episodes_bit_for_bit(path):
    store = make_store(path, 3)
    for i in range(3, 9):
        store.append(make_episode(i))
    assert_holds_episodes(store, 9)
    opened = DemonstrationStore.open(path)
    assert_holds_episodes(opened, 9)
    for i in range(9):
        assert_same_episode(opened.episode(i), make_episode(i))
    assert (
        opened.n_steps
        == opened.episode_ends[-1]
        == sum(len(make_episode(i).action) for i in range(9))
    )
    assert opened.n_steps > 2 * layout.SHARD_STEPS
    assert {**opened.attributes, **ATTRIBUTES} == opened.attributes
    assert (opened.action_size, opened.observation_sizes) == (2, SIZES)
    arrays = opened.read()
    assert set(arrays) == {*SIZES, "action", "reward", "success", "executed_action"}
    np.testing.assert_array_equal(
        arrays["action"], np.concatenate([make_episode(i).action for i in range(9)])
    )
    flat = np.concatenate([arrays["object"], arrays["eef"]], axis=1)
    np.testing.assert_array_equal(opened.observations(), flat)
    np.testing.assert_array_equal(opened.scalars()["seed"], np.arange(9))
    assert_same_episode(opened.episode(-1), make_episode(8))


def test_create_makes_the_documented_layout(path):
    make_store(path, 4)
    root = zarr.open_group(path, mode="r", zarr_format=3)
    assert root.attrs["task"] == "lift"
    assert root.attrs["schema_version"] == 1
    types = {
        "data/object": "float32",
        "data/eef": "float32",
        "data/action": "float32",
        "data/executed_action": "float32",
        "data/reward": "float32",
        "data/success": "bool",
        "meta/episode_ends": "int64",
        "meta/seed": "int64",
    }
    assert {name: root[name].dtype for name in types} == types
    assert root["data/action"].shape == (root["meta/episode_ends"][-1], 2)
    assert root["data/action"].shards == (60, 2)
    assert root["data/action"].chunks == (20, 2)


def test_open_reads_an_empty_store(path):
    make_store(path)
    store = DemonstrationStore.open(path)
    assert len(store) == store.n_steps == 0
    assert store.read()["object"].shape == (0, 4)


def test_append_converts_wider_types(path):
    store = DemonstrationStore.create(path, {"x": 1}, 1, {})
    store.append(Episode({"x": np.ones((2, 1))}, np.ones((2, 1)), np.ones(2), np.ones(2, bool)))
    assert store.episode(0).action.dtype == store.episode(0).observations["x"].dtype == np.float32


def test_update_attributes_replaces_one_and_keeps_the_rest(path):
    store = make_store(path, 1)
    store.update_attributes({"thrown_away": 0.2})
    store.append(make_episode(1))
    opened = DemonstrationStore.open(path)
    assert opened.attributes["thrown_away"] == 0.2
    assert opened.attributes["task"] == "lift"
    with pytest.raises(StoreError, match="'episodes' is reserved"):
        store.update_attributes({"episodes": 5})


def test_identity_tells_demonstrations_apart(path):
    store = make_store(path, 2)
    first = store.identity()
    assert first == DemonstrationStore.open(path).identity() == json.loads(json.dumps(first))
    assert (first["origin"], first["episodes"]) == ("brought", 2)
    assert first["settings"] == {"source_format": None}
    store.append(make_episode(2))
    assert store.identity()["checksum"] != first["checksum"]
    store.update_attributes({"expert": "reach"})
    found = store.identity()
    assert found["origin"] == "scripted"
    assert found["settings"] == {"expert": "reach", "noise": 0.1}


def test_read_refuses_a_store_that_took_the_place_of_the_opened_one(path):
    """One that has grown holds the same rows and more; another of the same shape does not."""
    store = make_store(path, 2)
    opened = DemonstrationStore.open(path)
    store.append(make_episode(2))
    assert_holds_episodes(opened, 2)
    path.rename(path.with_name("first.zarr"))
    other = make_store(path)
    other.extend([make_episode(i + 9, len(make_episode(i).action)) for i in range(2)])
    np.testing.assert_array_equal(other.episode_ends, opened.episode_ends)
    said = r"lift\.zarr: data/action has other rows than when it was opened .*bring the first one"
    with pytest.raises(StoreError, match=said):
        opened.read(["action"])
    with pytest.raises(StoreError, match=r"meta/seed has other rows"):
        opened.scalars()


def test_open_reads_a_thousand_episodes_in_under_a_second(path, monkeypatch):
    monkeypatch.undo()
    store = make_store(path)
    store.extend([make_episode(i, length=150) for i in range(1000)])
    seconds = []
    for _ in range(3):
        start = time.process_time()  # a busy machine does not slow it
        DemonstrationStore.open(path)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1


# Interruptions.


class Killed(BaseException):
    """Stands for SIGKILL: no handler of `Exception` sees it."""


@pytest.mark.parametrize("half_written", [False, True])
def test_extend_killed_at_any_file_leaves_whole_episodes(path, monkeypatch, half_written):
    make_store(path, 4)
    real, written = zarr_files._put, []
    kill_at = 0

    def put(file, value, exclusive=False):
        written.append(file)
        if len(written) > kill_at:
            if half_written:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.with_suffix(".0123.partial").write_bytes(value.to_bytes()[: len(value) // 2])
            raise Killed
        return real(file, value, exclusive)

    done = 4
    while done == 4:
        store = DemonstrationStore.open(path, "a")
        assert not list(path.rglob("*.partial"))
        written.clear()
        with monkeypatch.context() as patch:
            patch.setattr(zarr_files, "_put", put)
            try:
                store.extend([make_episode(4), make_episode(5)])
            except Killed:
                kill_at += 1
        opened = DemonstrationStore.open(path)
        done = len(opened)
        assert_holds_episodes(opened, done)
    assert done == 6
    assert kill_at > 2 * 9  # metadata and a shard for each of nine arrays, then the commit


APPENDER = """
import sys
from test_store import make_episode, layout
from reconverge.datasets.store import DemonstrationStore
store = DemonstrationStore.open(sys.argv[1], "a")
print("open", flush=True)
while True:
    store.append(make_episode(len(store)))
    print(len(store), flush=True)
"""


def start(code, *arguments):
    folders = f"{Path(__file__).parent}{os.pathsep}{ROOT / 'tests'}"
    environment = {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_append_killed_at_random_moments_leaves_whole_episodes(path):
    make_store(path, 1)
    rng = random.Random(0)
    for _ in range(3):
        process = start(APPENDER, path)
        assert process.stdout.readline() == "open\n"
        first = process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        reported = int([first, *process.communicate()[0].split()][-1])
        store = DemonstrationStore.open(path)
        assert len(store) in (reported, reported + 1)  # killed between the commit and the report
        assert_holds_episodes(store, len(store))
    assert len(store) >= 4


def test_append_to_a_full_disk_keeps_earlier_episodes(path, monkeypatch):
    monkeypatch.undo()
    store = make_store(path, 3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(
            StoreError, match=r"cannot be written.*the 3 episodes in it are safe"
        ) as error:
            store.append(make_episode(3, length=5_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert_holds_episodes(DemonstrationStore.open(path), 3)
    store.append(make_episode(3))  # space again: the same store goes on
    assert_holds_episodes(DemonstrationStore.open(path), 4)


def test_create_on_a_full_disk_leaves_nothing(path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zarr_files, "_put", full)
    with pytest.raises(ReconvergeError, match=r"lift\.zarr: cannot be written.*No space left"):
        make_store(path)
    assert list(path.parent.iterdir()) == []


def test_writing_refuses_a_second_writer(path):
    first = make_store(path, 1)
    second = DemonstrationStore.open(path, "a")
    with writing(path, 1), pytest.raises(StoreError, match="another process is writing"):
        second.append(make_episode(1))
    first.append(make_episode(1))
    with pytest.raises(StoreError, match="2 episodes by now, had 1"):
        second.append(make_episode(1))
    assert_holds_episodes(DemonstrationStore.open(path), 2)


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_append_where_flock_is_not_implemented(path, monkeypatch):
    """As on Lustre mounted without it."""

    def missing(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    store = make_store(path, 1)
    with writing(path, 1), pytest.raises(StoreError, match="another process is writing"):
        store.append(make_episode(1))
    store.append(make_episode(1))
    assert_holds_episodes(DemonstrationStore.open(path), 2)


# Episodes and names that do not fit.


def test_create_refuses_an_existing_path(path):
    make_store(path, 1)
    with pytest.raises(StoreError, match="exists already; open it with mode='a'"):
        make_store(path)
    assert_holds_episodes(DemonstrationStore.open(path), 1)


def test_append_refuses_a_store_open_for_reading(path):
    make_store(path)
    with pytest.raises(StoreError, match="mode='a'"):
        DemonstrationStore.open(path).append(make_episode(0))


def changed(**fields):
    """An episode of 5 steps with other fields, past the checks that run-time typing
    makes in tests.
    """
    episode = make_episode(1, length=5)
    for name, value in fields.items():
        object.__setattr__(episode, name, value)
    return episode


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (changed(action=np.zeros((5, 3))), r"data/action has shape \(5, 3\), expected \(5, 2\)"),
        (changed(reward=np.zeros(4)), r"data/reward has shape \(4,\), expected \(5,\)"),
        (changed(reward=np.array([0, 0, np.nan, 0, 0])), r"data/reward\[2\] is nan"),
        (changed(reward=np.full(5, 1e300)), r"data/reward\[0\] is inf"),
        (changed(success=np.zeros(5)), "data/success is float64, expected bool"),
        (changed(reward=None), r"lacks \['data/reward'\]"),
        (
            changed(scalars={"seed": 1, "tries": 2}),
            r"lacks \['meta/attempts'\], has surplus \['meta/tri",
        ),
        (changed(scalars={"seed": 0.5, "attempts": 2}), "meta/seed is float64, expected int64"),
        (changed(action=np.zeros((0, 2))), "has no step"),
    ],
)
def test_extend_refuses_all_if_one_episode_does_not_fit(path, episode, message):
    store = make_store(path, 1)
    with pytest.raises(StoreError, match=message):
        store.extend([make_episode(1), episode])
    assert_holds_episodes(DemonstrationStore.open(path), 1)


@pytest.mark.parametrize(
    ("kind", "number", "given"),
    [
        ("int32", 3_000_000_000, np.int64),
        ("int64", 2**63 + 5, np.uint64),
        ("float32", 1_700_000_000_123, np.int64),
    ],
)
def test_append_refuses_whole_numbers_that_would_change(path, kind, number, given):
    store = DemonstrationStore.create(
        path, {"x": 1}, 1, {}, extra_sizes={"n": 1}, types={"n": kind}, absent=("reward", "success")
    )

    def make(value):
        rows = np.array([[7], [value]], given)
        return Episode({"x": np.zeros((2, 1))}, np.zeros((2, 1)), extras={"n": rows})

    with pytest.raises(StoreError, match=f"data/n has {number}, which no {kind} holds"):
        store.append(make(number))
    store.append(make(2**20))
    assert store.read(["n"])["n"].ravel().tolist() == [7, 2**20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attributes": {"noise": float("nan")}}, "not JSON"),
        ({"attributes": {"noise": np.float32(0.1)}}, "not JSON"),
        ({"attributes": {"schema_version": 7}}, "'schema_version' is reserved"),
        ({"observation_sizes": {"a/b": 1}}, "'a/b' is reserved"),
        ({"observation_sizes": {"action": 1}}, "'action' is reserved"),
        ({"extra_sizes": {"x": 1}}, "'x' is reserved, given twice"),
        ({"scalar_types": {"seed": "int8"}}, "meta/seed cannot be 'int8'; choose from int64"),
        ({"scalar_types": {"episode_ends": "int64"}}, "'episode_ends' is reserved"),
        ({"observation_sizes": {"a": 0}}, "data/a has rows of 0 numbers, expected an int above 0"),
        ({"extra_sizes": {"a": -1}}, "data/a has rows of -1 numbers, expected an int above 0"),
        (
            {"observation_sizes": {"a": 2.0}},
            "data/a has rows of 2.0 numbers, expected an int above 0",
        ),
        ({"action_size": True}, "data/action has rows of True numbers, expected an int above 0"),
        *(
            ({kind: {name: value}}, f"the name {re.escape(repr(name))} is not allowed; choose")
            for name in ("", ".", "..", "zarr.json", "a\0")
            for kind, value in {
                "observation_sizes": 1,
                "extra_sizes": 1,
                "scalar_types": "int64",
            }.items()
        ),
    ],
)
def test_create_refuses_an_impossible_schema(path, arguments, message):
    legal = {"observation_sizes": {"x": 1}, "action_size": 1, "attributes": {}}
    with unchecked(), pytest.raises(StoreError, match=message):
        DemonstrationStore.create(path, **{**legal, **arguments})
    assert not path.exists()


# Stores that something else changed.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of eight episodes to copy and damage."""
    path = tmp_path_factory.mktemp("whole") / "lift.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_STEPS", 20)
        patch.setattr(layout, "SHARD_STEPS", 60)
        make_store(path, 8)
    return path


def edit_array(name, index, value):
    def damage(path):
        zarr.open_group(path, mode="r+")[name][index] = value

    return damage


def replace_array(name, **arguments):
    def damage(path):
        zarr.open_group(path, mode="r+").create_array(name, overwrite=True, **arguments)

    return damage


def edit_json(file, **values):
    def damage(path):
        record = json.loads((path / file).read_text())
        (path / file).write_text(json.dumps(record | values))

    return damage


def edit_attributes(**values):
    def damage(path):
        zarr.open_group(path, mode="r+").update_attributes(values)

    return damage


def remove(file):
    return lambda path: (path / file).rename(path.parent / "removed")


def truncate(file, size):
    return lambda path: os.truncate(path / file, size)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("data/action"), "data/action is missing; restore"),
        (remove("data"), "data/object is missing"),
        (remove("meta"), "meta/episode_ends is missing"),
        (remove("zarr.json"), "has no zarr.json: no store, or a half-written one"),
        (
            remove("data/action/c/0/0"),
            r"data/action rows 0 to 59: the file data/action/c/0/0 is lost",
        ),
        (
            truncate("data/action/c/1/0", 0),
            r"data/action rows 60 to 119: the file data/action/c/1/0 is lost or e",
        ),
        (truncate("data/object/c/0/0", 100), "data/object rows 0 to 59: truncated or edited"),
        (truncate("data/reward/zarr.json", 50), "data/reward: metadata cannot be read"),
        (truncate("zarr.json", 50), "zarr.json cannot be read"),
        (
            edit_array("data/action", (7, 1), np.nan),
            r"data/action\[7, 1\] is nan, expected a finite number",
        ),
        (edit_array("data/eef", (61, 2), np.inf), r"data/eef\[61, 2\] is inf"),
        (edit_array("meta/episode_ends", 3, 5), r"meta/episode_ends\[3\] is 5, expected more than"),
        (
            edit_array("meta/episode_ends", 1, len(make_episode(0).action)),
            r"episode_ends\[1\] is .*, expected",
        ),
        (
            edit_array("meta/episode_ends", 0, -1),
            r"meta/episode_ends\[0\] is -1, expected more than 0",
        ),
        (
            edit_array("meta/episode_ends", 7, 9999),
            "data/object has .* rows, meta/episode_ends wants 9999",
        ),
        (
            replace_array("data/action", shape=(200, 2), dtype="f8"),
            r"data/action has float64 rows of shape \(2,\), not float32 rows of shape \(2,\)",
        ),
        (
            replace_array("data/action", shape=(200, 3), dtype="f4"),
            r"data/action has float32 rows of shape \(3,\), not float32 rows of shape \(2,\)",
        ),
        (
            edit_json("data/success/zarr.json", shape=[20]),
            "success has 20 rows, meta/episode_ends wants",
        ),
        (
            edit_json("meta/seed/zarr.json", shape=[2]),
            "meta/seed has 2 rows, meta/episode_ends wants 8",
        ),
        (
            edit_json("meta/episode_ends/zarr.json", shape=[2]),
            "episode_ends has 2 rows, the attribute",
        ),
        (edit_attributes(schema_version=2), "schema_version is 2, only 1 is read"),
        (edit_attributes(episodes=3), "the attributes were edited"),
        (edit_attributes(task="can"), "the attributes were edited"),
        (edit_json("zarr.json", attributes={}), "has no schema_version"),
    ],
)
def test_open_names_the_rule_and_the_place_of_any_damage(path, whole, damage, message):
    shutil.copytree(whole, path)
    damage(path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for mode in ("r", "a"):
        with pytest.raises(StoreError, match=message) as error:
            DemonstrationStore.open(path, mode)
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)
    assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_open_finds_a_flipped_bit_anywhere_in_the_data(path):
    make_store(path, 3)
    rng = np.random.default_rng(0)
    for file in [file for file in path.rglob("c/**/*") if file.is_file()]:
        whole = file.read_bytes()
        for position in [0, len(whole) - 1, *rng.integers(len(whole), size=4)]:
            flipped = bytearray(whole)
            flipped[position] ^= 1 << int(rng.integers(8))
            file.write_bytes(flipped)
            name = "/".join(file.relative_to(path).parts[:2])
            with pytest.raises(StoreError, match=f"{name} rows .*: truncated or edited"):
                DemonstrationStore.open(path)
        file.write_bytes(whole)
    assert_holds_episodes(DemonstrationStore.open(path), 3)


def test_open_refuses_a_path_without_a_store(path):
    with pytest.raises(
        StoreError, match=r"is not there; make it again with python -m tools\.collect"
    ):
        DemonstrationStore.open(path)
    path.write_text("")
    with pytest.raises(StoreError, match="is no directory"):
        DemonstrationStore.open(path)
    with pytest.raises(StoreError, match="mode 'w' is unknown; use 'r' or 'a'"):
        DemonstrationStore.open(path, "w")


# Stores of something else.


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"task": "can"}, "task is 'lift', wanted 'can'"),
        ({"controller": "osc"}, "controller is not recorded, wanted 'osc'"),
        ({"action_size": 7}, "action_size is 2, wanted 7"),
        ({"observation_sizes": {"object": 4}}, "observation_sizes is {.*}, wanted {'object': 4}"),
        (
            {"versions": {"mujoco": "3.5.0"}, "strict": True},
            "made with mujoco 3.3.0, running mujoco 3.5.0",
        ),
        ({"versions": {"metaworld": "3"}, "strict": True}, "metaworld of an unrecorded version"),
    ],
)
def test_require_names_both_values(path, wanted, message):
    store = make_store(path)
    with pytest.raises(StoreError, match=message) as error:
        store.require(**wanted)
    assert "python -m tools.collect" in str(error.value)


def test_require_warns_of_other_versions_unless_strict(path):
    store = make_store(path)
    with pytest.warns(StoreVersionWarning, match="robosuite 1.5.2, running robosuite 1.6.0"):
        store.require(versions={"robosuite": "1.6.0", "mujoco": "3.3.0"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.require(
            task="lift",
            action_size=2,
            observation_sizes=SIZES,
            versions=ATTRIBUTES["versions"],
            strict=True,
        )


# diffusion_policy's layout, written byte by byte as zarr v2 lays it down.


def write_version_2_array(folder, values, chunk, compress):
    folder.mkdir(parents=True)
    codec = (
        numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
        if compress
        else None
    )
    metadata = {
        "zarr_format": 2,
        "shape": values.shape,
        "chunks": (chunk, *values.shape[1:]),
        "dtype": values.dtype.str,
        "compressor": codec.get_config() if codec else None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    (folder / ".zarray").write_text(json.dumps(metadata))
    for i in range(0, len(values), chunk):
        block = np.zeros((chunk, *values.shape[1:]), values.dtype)
        block[: len(values[i : i + chunk])] = values[i : i + chunk]
        key = ".".join([str(i // chunk)] + ["0"] * (values.ndim - 1))
        (folder / key).write_bytes(codec.encode(block) if codec else block.tobytes())


@pytest.fixture
def version_2(tmp_path):
    path = tmp_path / "pusht.zarr"
    rng = np.random.default_rng(0)
    arrays = {
        "state": rng.standard_normal((150, 5)).astype(np.float32),
        "keypoint": rng.standard_normal((150, 9, 2)),
        "img": rng.integers(0, 255, (150, 4, 4, 3), dtype=np.uint8),
        "action": rng.standard_normal((150, 2)).astype(np.float32),
    }
    for name, values in arrays.items():
        write_version_2_array(path / "data" / name, values, 40, compress=name != "state")
    write_version_2_array(path / "meta" / "episode_ends", np.array([30, 90, 150]), 3, compress=True)
    for group in (path, path / "data", path / "meta"):
        (group / ".zgroup").write_text('{"zarr_format": 2}')
    return path, arrays


def test_open_of_diffusion_policys_directory_reads_its_own_keys(version_2):
    path, arrays = version_2
    store = DemonstrationStore.open(path)
    assert len(store) == 3
    found = store.read()
    img = arrays.pop("img")
    assert set(found) == set(arrays)
    assert store.pictures == {"img": (4, 4, 3)}
    np.testing.assert_array_equal(store.read_pictures("img", 25, 150), img[25:])
    np.testing.assert_array_equal(store.episode(1).pictures["img"], img[30:90])
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    np.testing.assert_array_equal(store.episode(1).observations["state"], arrays["state"][30:90])
    np.testing.assert_array_equal(store.episode(1).action, arrays["action"][30:90])
    assert store.episode(1).reward is None
    np.testing.assert_array_equal(store.observations(["state"]), arrays["state"])
    assert (store.action_size, store.observation_sizes["keypoint"]) == (2, 18)


def test_open_of_diffusion_policys_directory_takes_an_action_of_one_number(version_2):
    path, _ = version_2
    shutil.rmtree(path / "data" / "action")
    write_version_2_array(path / "data" / "action", np.zeros(150, np.float32), 40, compress=True)
    store = DemonstrationStore.open(path)
    assert store.action_size == 1
    assert check_actions(store).text == "in [-1, 1]"


def test_open_refuses_the_name_of_an_array_that_a_terminal_would_act_on(version_2):
    path, arrays = version_2
    write_version_2_array(path / "data" / "\x1b[2Jx", arrays["state"], 40, compress=True)
    with pytest.raises(StoreError, match=r"the name 'data/\\x1b\[2Jx' is not allowed; choose"):
        DemonstrationStore.open(path)


def test_open_of_diffusion_policys_directory_keeps_both_of_two_arrays_of_a_camera(version_2):
    path, arrays = version_2
    for name, brighter in (("top_image", 0), ("top_rgb", 1)):
        values = arrays["img"] // 2 + brighter
        write_version_2_array(path / "data" / name, values, 40, compress=True)
    store = DemonstrationStore.open(path)
    assert set(store.pictures) == {"img", "top", "top_rgb"}
    seen = store.episode(0).pictures
    np.testing.assert_array_equal(seen["top_rgb"], seen["top"] + 1)
    assert "top_rgb" not in store.observation_sizes


@pytest.mark.parametrize("stated", [1, "see the paper"])
def test_open_of_diffusion_policys_directory_counts_its_episodes_itself(version_2, stated):
    path, _ = version_2
    (path / ".zattrs").write_text(json.dumps({"episodes": stated}))
    assert len(DemonstrationStore.open(path)) == 3


def test_open_of_diffusion_policys_directory_validates_and_never_writes(version_2):
    path, arrays = version_2
    with pytest.raises(StoreError, match="mode='r'"):
        DemonstrationStore.open(path, "a")
    with pytest.raises(StoreError, match="open for reading"):
        DemonstrationStore.open(path).append(make_episode(0))
    with pytest.raises(
        StoreError, match=r"data/ array of .* 'reward': choose one of action, keypoint, state"
    ):
        DemonstrationStore.open(path).read(["reward"])
    bad = arrays["state"].copy()
    bad[77, 3] = np.nan
    (path / "data/state").rename(path / "state")
    write_version_2_array(path / "data/state", bad, 40, compress=False)
    with pytest.raises(StoreError, match=r"data/state\[77, 3\] is nan"):
        DemonstrationStore.open(path)
    os.truncate(path / "data/state/0.0", 100)
    with pytest.raises(StoreError, match="data/state rows 0 to 59: truncated or edited"):
        DemonstrationStore.open(path)
    (path / "data/action").rename(path / "action")
    with pytest.raises(StoreError, match="data/action is missing"):
        DemonstrationStore.open(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shape": [10**5 + 9, 2], "chunks": [1, 2]}, r"100009 chunks by its .* 5 files;"),
        ({"shape": [150, 10**15]}, r"has rows of shape \(1000000000000000,\), more than 2 GiB"),
        ({"chunks": [10**15, 2]}, r"has chunks of shape \(1000000000000000, 2\), more than 2 GiB"),
        ({"chunks": [0, 2]}, r"data/action rows .*: truncated or edited \(ZeroDivisionError"),
    ],
)
def test_open_of_diffusion_policys_directory_refuses_what_takes_all_memory(
    version_2, changes, said
):
    file = version_2[0] / "data/action/.zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(StoreError, match=said):
        DemonstrationStore.open(version_2[0])


def test_create_as_documented_in_the_howto(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "howto" / "data.md").read_text()
    exec(text.split("```python\n")[1].split("```")[0], {})
    store = DemonstrationStore.open("demonstrations/lift.zarr")
    assert (len(store), store.n_steps, store.attributes["source"]) == (1, 60, "teleoperation")
