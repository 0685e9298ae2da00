"""What goes through a format comes back: the same bits, types, attributes and order."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from foreign import assert_same_stores
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import exchange
from datasets.diffusion_policy import read_diffusion_policy
from datasets.diffusion_policy_writer import write_diffusion_policy
from datasets.exchange import ConversionError, Demonstrations, made_whole, read_store, write_store
from datasets.layout import STEP_TYPES, Episode
from datasets.lerobot_v3 import read_lerobot
from datasets.lerobot_writer import write_lerobot
from datasets.robomimic import read_robomimic, write_robomimic
from datasets.store import DemonstrationStore

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,11}", fullmatch=True).filter(
    lambda name: name.lower() not in TAKEN and not name.startswith("observation.")
)
TAKEN = {
    "action", "reward", "success", "obs", "actions", "rewards", "timestamp", "index", "frame_index", "episode_index",
    "task_index", "episode_ends", "num_samples", "scalars", "zarr.json",
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def numbers(rng, shape, kind):
    """Any numbers of a type: extreme ones, negative zero."""
    if kind == "bool":
        return rng.random(shape) < 0.5
    if kind.startswith("float"):
        rows = rng.standard_normal(shape) * 10.0 ** rng.integers(-40, 30, shape)
        return np.where(rng.random(shape) < 0.1, -0.0, rows).astype(kind)
    return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


@st.composite
def recipes(draw):
    """Demonstrations of every kind that a store can hold, but for their numbers."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=str.lower))
    cut = draw(st.integers(1, len(names)))
    floats = st.sampled_from(["float32", "float64"])
    attributes = st.dictionaries(st.sampled_from(["task", "expert", "noise", "bounds"]), JSON, max_size=3)
    return {
        "observations": {name: draw(st.integers(1, 4)) for name in names[:cut]},
        "extras": {name: draw(st.integers(1, 4)) for name in names[cut:]},
        "action_size": draw(st.integers(1, 4)),
        "types": {name: draw(floats) for name in (*names[:cut], "action", "reward")}
        | {name: draw(st.sampled_from(STEP_TYPES)) for name in names[cut:]},
        "scalars": draw(st.dictionaries(NAMES, st.sampled_from(["int64", "float64", "bool"]), max_size=2)),
        "absent": draw(st.sampled_from([(), ("success",), ("reward", "success")])),
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
            scalars={name: numbers(rng, (1,), kind)[0].item() for name, kind in recipe["scalars"].items()},
        )
        episodes.append((episode, {"model_file": f"<mujoco>{i}</mujoco>", "seed": i} if recipe["own"] else {}))
    return Demonstrations(
        source="random",
        count=len(episodes),
        episodes=episodes,
        observation_sizes=recipe["observations"],
        action_size=recipe["action_size"],
        attributes=recipe["attributes"],
        extra_sizes=recipe["extras"],
        scalar_types=recipe["scalars"],
        types={name: kind for name, kind in types.items() if kind != "float32" and name not in absent},
        absent=absent,
    )


def bits(rows):
    return None if rows is None else (rows.dtype, rows.shape, rows.tobytes())


def assert_same(found, wanted):
    """Bits, types, order and attributes of everything."""
    for name in ("count", "action_size", "attributes", "scalar_types", "types", "absent"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("observation_sizes", "extra_sizes"):
        assert list(getattr(found, name).items()) == list(getattr(wanted, name).items())
    for (ours, own), (theirs, stated) in zip(found.episodes, wanted.episodes, strict=True):
        assert own == stated
        assert ours.scalars == theirs.scalars
        assert [type(value) for value in ours.scalars.values()] == [type(value) for value in theirs.scalars.values()]
        for name in ("action", "reward", "success"):
            assert bits(getattr(ours, name)) == bits(getattr(theirs, name)), name
        for name in ("observations", "extras"):
            there = {key: bits(rows) for key, rows in getattr(theirs, name).items()}
            assert {key: bits(rows) for key, rows in getattr(ours, name).items()} == there


def read_whole(path):
    """A replay buffer's demonstrations, which else end with its context."""
    with read_diffusion_policy(path) as demonstrations:
        return replace(demonstrations, episodes=list(demonstrations.episodes))


FORMATS = {
    "store": (write_store, read_store, "through.zarr"),
    "robomimic": (write_robomimic, read_robomimic, "through.hdf5"),
    "lerobot": (write_lerobot, read_lerobot, "through"),
    "diffusion_policy": (write_diffusion_policy, read_whole, "through.zarr"),
    "diffusion_policy, archived": (write_diffusion_policy, read_whole, "through.zarr.zip"),
}


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=15, deadline=None)
@given(recipe=recipes(), batch=st.integers(1, 12))
def test_everything_comes_back_from_every_format(name, recipe, batch):
    write, read, file = FORMATS[name]
    wanted = build(recipe)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "BATCH_STEPS", batch)
        write(wanted, Path(folder) / file)
        assert_same(read(Path(folder) / file), wanted)


@settings(max_examples=3, deadline=None)
@given(recipe=recipes())
def test_a_store_comes_back_through_all_formats(recipe):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_store(build(recipe), folder / "before.zarr")
        write_robomimic(read_store(folder / "before.zarr"), folder / "one.hdf5")
        write_lerobot(read_robomimic(folder / "one.hdf5"), folder / "two")
        write_diffusion_policy(read_lerobot(folder / "two"), folder / "three.zarr.zip")
        write_store(read_whole(folder / "three.zarr.zip"), folder / "after.zarr")
        assert_same_stores(folder / "after.zarr", folder / "before.zarr")


def test_a_store_holds_what_it_was_given(tmp_path):
    rows = np.arange(6, dtype=np.float64).reshape(3, 2) / 3
    episode = Episode(observations={"x": rows}, action=rows, extras={"n": np.array([[2**60], [1], [2]])})
    given_ = Demonstrations(
        source="here", count=1, episodes=[(episode, {"note": "first"})], observation_sizes={"x": 2}, action_size=2,
        extra_sizes={"n": 1}, types={"x": "float64", "action": "float64", "n": "int64"}, absent=("reward", "success"),
    )  # fmt: skip
    write_store(given_, tmp_path / "a.zarr")
    store = DemonstrationStore.open(tmp_path / "a.zarr")
    found = store.episode(0)
    assert found.reward is None
    assert found.success is None
    np.testing.assert_array_equal(found.action, rows)
    assert found.extras["n"].tolist() == [[2**60], [1], [2]]
    assert store.observations().dtype == np.float32
    assert [own for _, own in read_store(store.path).episodes] == [{"note": "first"}]


@pytest.mark.parametrize("error", [ConversionError("no"), OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_raised_leaves_nothing(tmp_path, kind, error):
    def make():
        with made_whole(tmp_path / "target") as temporary:
            if kind == "file":
                temporary.write_text("half")
            else:
                (temporary / "meta").mkdir(parents=True)
            raise error

    with pytest.raises((ConversionError, KeyboardInterrupt)) as found:
        make()
    assert list(tmp_path.iterdir()) == []
    assert ".partial" not in str(found.value)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "target").write_text("mine")
    with pytest.raises(ConversionError, match="exists already"), made_whole(tmp_path / "target"):
        pass
    assert (tmp_path / "target").read_text() == "mine"
