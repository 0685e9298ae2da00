"""What goes through a format comes back: the same bits, types, attributes and order."""

import errno
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconverge.datasets.formats import exchange
from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.formats.split import split
from reconverge.datasets.formats.table import FORMATS
from reconverge.datasets.layout import STEP_TYPES, Episode
from reconverge.datasets.store import DemonstrationStore
from reconverge.errors import ReconvergeError
from support.foreign import assert_same_stores
from support.strategies import JSON, NAMES, numbers

CAMERAS = ("agentview", "eye_in_hand", "front.left", "a_rgb", "img")
SIDES = st.tuples(st.integers(1, 5), st.integers(1, 5))


@st.composite
def recipes(draw):
    """Demonstrations of every kind that a store can hold, but for their numbers."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=str.lower))
    cameras = draw(st.lists(st.sampled_from(CAMERAS), max_size=2, unique=True))
    cut = draw(st.integers(1, len(names)))
    floats = st.sampled_from(["float32", "float64"])
    attributes = st.dictionaries(
        st.sampled_from(["task", "expert", "noise", "bounds"]), JSON, max_size=3
    )
    return {
        "observations": {name: draw(st.integers(1, 4)) for name in names[:cut]},
        "extras": {name: draw(st.integers(1, 4)) for name in names[cut:]},
        "action_size": draw(st.integers(1, 4)),
        "types": {name: draw(floats) for name in (*names[:cut], "action", "reward")}
        | {name: draw(st.sampled_from(STEP_TYPES)) for name in names[cut:]},
        "scalars": draw(
            st.dictionaries(NAMES, st.sampled_from(["int64", "float64", "bool"]), max_size=2)
        ),
        "absent": draw(st.sampled_from([(), ("success",), ("reward", "success")])),
        "pictures": {camera: (*draw(SIDES), 3) for camera in cameras},
        "lengths": draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)),
        "seed": draw(st.integers(0, 1000)),
        "own": draw(st.booleans()),
        "attributes": {**draw(attributes), "fps": 20},
    }


def build(recipe):
    """The demonstrations of a recipe."""
    rng, absent, types = np.random.default_rng(recipe["seed"]), recipe["absent"], recipe["types"]
    episodes = []
    for i, length in enumerate(recipe["lengths"]):
        sizes = {**recipe["observations"], **recipe["extras"], "action": recipe["action_size"]}
        rows = {name: numbers(rng, (length, size), types[name]) for name, size in sizes.items()}
        episode = Episode(
            observations={name: rows[name] for name in recipe["observations"]},
            action=rows["action"],
            reward=None if "reward" in absent else numbers(rng, (length,), types["reward"]),
            success=None if "success" in absent else numbers(rng, (length,), "bool"),
            extras={name: rows[name] for name in recipe["extras"]},
            scalars={
                name: numbers(rng, (1,), kind)[0].item() for name, kind in recipe["scalars"].items()
            },
            pictures={
                camera: rng.integers(0, 256, (length, *shape), np.uint8)
                for camera, shape in recipe["pictures"].items()
            },
        )
        episodes.append(
            (episode, {"model_file": f"<mujoco>{i}</mujoco>", "seed": i} if recipe["own"] else {})
        )
    return Demonstrations(
        source="random",
        count=len(episodes),
        episodes=episodes,
        observation_sizes=recipe["observations"],
        action_size=recipe["action_size"],
        attributes=recipe["attributes"],
        extra_sizes=recipe["extras"],
        scalar_types=recipe["scalars"],
        types={
            name: kind for name, kind in types.items() if kind != "float32" and name not in absent
        },
        absent=absent,
        pictures=recipe["pictures"],
    )


def bits(rows):
    return None if rows is None else (rows.dtype, rows.shape, rows.tobytes())


def assert_same(found, wanted):
    """Bits, types, order and attributes of everything."""
    for name in ("count", "action_size", "attributes", "scalar_types", "types", "absent"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("observation_sizes", "extra_sizes", "pictures"):
        assert list(getattr(found, name).items()) == list(getattr(wanted, name).items())
    for (ours, own), (theirs, stated) in zip(found.episodes, wanted.episodes, strict=True):
        assert own == stated
        assert ours.scalars == theirs.scalars
        assert [type(value) for value in ours.scalars.values()] == [
            type(value) for value in theirs.scalars.values()
        ]
        for name in ("action", "reward", "success"):
            assert bits(getattr(ours, name)) == bits(getattr(theirs, name)), name
        for name in ("observations", "extras", "pictures"):
            there = {key: bits(rows) for key, rows in getattr(theirs, name).items()}
            assert {key: bits(rows) for key, rows in getattr(ours, name).items()} == there


def read_whole(name, path):
    """Read every episode."""
    demonstrations = FORMATS[name].read(path)
    return replace(demonstrations, episodes=list(demonstrations.episodes))


TARGETS = [
    *((name, f"through{suffix}") for name, kind in FORMATS.items() for suffix in kind.suffixes),
    ("diffusion_policy", "through.zarr"),
]


def write(name, found, path):
    """Write in a format without any loss."""
    exact = {"videos": False} if "videos" in FORMATS[name].write_options else {}
    FORMATS[name].write(found, path, **exact)


@pytest.mark.parametrize(("name", "file"), TARGETS)
@settings(max_examples=15, deadline=None)
@given(recipe=recipes(), batch=st.integers(1, 12))
def test_read_gives_back_all_that_write_was_given(name, file, recipe, batch):
    wanted = build(recipe)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "BATCH_STEPS", batch)
        write(name, wanted, Path(folder) / file)
        assert_same(read_whole(name, Path(folder) / file), wanted)


@settings(max_examples=3, deadline=None)
@given(recipe=recipes())
def test_read_store_is_the_same_after_all_formats(recipe):
    with tempfile.TemporaryDirectory() as folder:
        path, found = Path(folder) / "before.zarr", build(recipe)
        write_store(found, path)
        for i, (name, file) in enumerate([*TARGETS, ("store", "after.zarr")]):
            found = read_store(path) if i == 0 else found
            target = Path(folder) / f"{i}_{file}"
            write(name, found, target)
            found = read_whole(name, target)
        assert_same_stores(target, path)


def test_write_store_keeps_types_and_episode_attributes(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "BATCH_STEPS", 3)  # an episode
    rows = np.arange(6, dtype=np.float64).reshape(3, 2) / 3
    episode = Episode(
        observations={"x": rows}, action=rows, extras={"n": np.array([[2**60], [1], [2]])}
    )
    given_ = Demonstrations(
        source="here",
        count=2,
        episodes=[(episode, {"note": "first"}), (episode, {"note": "second"})],
        observation_sizes={"x": 2},
        action_size=2,
        extra_sizes={"n": 1},
        types={"x": "float64", "action": "float64", "n": "int64"},
        absent=("reward", "success"),
    )
    write_store(given_, tmp_path / "a.zarr")
    store = DemonstrationStore.open(tmp_path / "a.zarr")
    found = store.episode(0)
    assert found.reward is None
    assert found.success is None
    np.testing.assert_array_equal(found.action, rows)
    assert found.extras["n"].tolist() == [[2**60], [1], [2]]
    assert store.observations().dtype == np.float32
    notes = [own["note"] for _, own in read_store(store.path).episodes]
    assert notes == ["first", "second"]


def test_read_store_leaves_out_rewards_and_successes(tmp_path):
    store = DemonstrationStore.create(tmp_path / "a.zarr", {"x": 1}, 1, {})
    rows = np.ones((2, 1), np.float32)
    store.append(Episode({"x": rows}, rows, reward=rows[:, 0], success=rows[:, 0] > 0))
    write_store(read_store(store.path, ["reward"]), tmp_path / "b.zarr")
    left = DemonstrationStore.open(tmp_path / "b.zarr")
    assert set(store.columns) - set(left.columns) == {"data/reward"}
    assert left.episode(0).success.all()
    with pytest.raises(ConversionError, match=r"unknown leave_out= of .* 'reward'"):
        read_store(left.path, ["reward"])


OWN_NAMES = ("row_shapes", "masks", "robomimic", "episode_names", "success_from", "picture_keys")
VALUES = (None, "x", [1], ["a", "a"], {"x": [9, 9]}, {"paths": {"n": 1}, "x": [[]]}, {"paths": 1})


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    ("name", "file"), [("robomimic", "a.hdf5"), ("diffusion_policy", "a.zip"), ("lerobot", "a")]
)
def test_attributes_of_our_names_may_mean_anything(tmp_path, name, file, value):
    rows = np.ones((2, 1), np.float32)
    wanted = Episode({"x": rows}, rows, rows[:, 0], rows[:, 0] > 0, {"n": rows})
    given_ = Demonstrations("here", 1, [(wanted, {})], {"x": 1}, 1, extra_sizes={"n": 1})
    attributes = {"fps": 20, **dict.fromkeys(OWN_NAMES, value)}
    write(name, replace(given_, attributes=attributes), tmp_path / file)
    ((found, _),) = read_whole(name, tmp_path / file).episodes
    for rows_ in (found.observations["x"], found.extras["n"], found.action):
        np.testing.assert_array_equal(rows_, rows)


def test_split_ignores_an_attribute_that_is_no_shape():
    rows = np.ones((1, 1), np.float32)
    given_ = Demonstrations("here", 1, [(Episode({"x": rows}, rows), {})], {"x": 1}, 1)
    given_ = replace(given_, attributes={"row_shapes": [1]})
    assert split(given_, {"x": [("y", 1)]}).attributes == {"row_shapes": [1]}


def filmed(*cameras, attributes=None, observation="x"):
    """Demonstrations of one step with these cameras."""
    rows = np.ones((1, 1), np.float32)
    seen = {camera: np.full((1, 16, 16, 3), i, np.uint8) for i, camera in enumerate(cameras)}
    episode = Episode({observation: rows}, rows, pictures=seen)
    stated = {"fps": 20, **(attributes or {})}
    found = Demonstrations("here", 1, [(episode, {})], {observation: 1}, 1, stated)
    shapes = dict.fromkeys(cameras, (16, 16, 3))
    return replace(found, absent=("reward", "success"), pictures=shapes)


OTHERS = [target for target in TARGETS if target[0] != "store"]


@pytest.mark.parametrize(("name", "file"), OTHERS)
def test_write_refuses_a_camera_that_could_not_be_read_back(tmp_path, name, file):
    with pytest.raises(ConversionError, match=r"'.*caméra.*' is not allowed; rename"):
        write(name, filmed("caméra"), tmp_path / file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "file"), OTHERS)
@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (
            filmed("eye_in_hand", "robot0_eye_in_hand"),
            "the pictures of robot0_eye_in_hand would both be robot0_eye_in_hand_image; leave on",
        ),
        (
            filmed("top", "side", attributes={"picture_keys": {"top": "a", "side": "a"}}),
            "the pictures of top and the pictures of side would both be a; leave one of them out",
        ),
        (
            filmed("top", observation="a", attributes={"picture_keys": {"top": "a"}}),
            "an array and the pictures of top would both be a; leave one of them out with leave_",
        ),
    ],
)
def test_write_refuses_two_cameras_of_one_key(tmp_path, name, file, given_, said):
    if name == "lerobot":  # which has keys of its own for them
        write(name, given_, tmp_path / file)
        assert set(read_whole(name, tmp_path / file).pictures) == set(given_.pictures)
        return
    with pytest.raises(ConversionError, match=said):
        write(name, given_, tmp_path / file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "file"), TARGETS)
def test_write_overwrites_nothing_and_leaves_nothing_of_what_failed(tmp_path, name, file):
    def broken():
        yield Episode({"x": np.ones((2, 1), np.float32)}, np.ones((2, 1), np.float32)), {}
        raise OSError(errno.ENOSPC, "No space left on device")

    given_ = Demonstrations("here", 2, broken(), {"x": 1}, 1, {"fps": 20})
    given_ = replace(given_, absent=("reward", "success"))
    with pytest.raises(
        ReconvergeError, match=f"{file}: cannot be written .*No space left"
    ) as found:
        FORMATS[name].write(given_, tmp_path / file)
    assert ".partial" not in str(found.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / file).write_text("mine")
    with pytest.raises(ReconvergeError, match=f"{file}: exists already"):
        FORMATS[name].write(given_, tmp_path / file)
    assert (tmp_path / file).read_text() == "mine"
