"""Pictures that are recorded, and the features that a policy gets of them."""

import shutil
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import zarr

from reconverge.datasets.layout import StoreWarning
from reconverge.datasets.store import EXPERT, DemonstrationStore, Episode, StoreError
from reconverge.envs.cameras import View
from reconverge.envs.catalog import TASKS
from reconverge.envs.render.sight import Sight
from reconverge.errors import ReconvergeError
from reconverge.policy.demonstrations import scripted
from reconverge.policy.demonstrations.encoding import encoded
from reconverge.policy.demonstrations.playback import difference, quaternions
from reconverge.policy.demonstrations.scripted import collect, store_path
from reconverge.policy.demonstrations.supply import find_stores, identity
from support.simulators import use_simulators

LIFT = replace(TASKS["lift"], max_steps=120)
VIEW = View(("agentview", "eye_in_hand"), 32)


class Means:
    """Describe a picture by its mean red, green and blue, in [-1, 1]."""

    size = 3
    fingerprint: ClassVar = {"name": "means"}

    def __call__(self, pictures):
        return (pictures.mean(axis=(1, 2)) / 127.5 - 1.0).astype(np.float32)


SEEN = Sight(VIEW, Means(), keeps_state=False).of(LIFT)
BOTH = Sight(VIEW, Means(), keeps_state=True).of(LIFT)


@pytest.fixture(autouse=True)
def small(monkeypatch, simulator_of):
    use_simulators(monkeypatch, "robosuite", simulator_of)
    monkeypatch.setattr(scripted, "SLOTS", 2)


@pytest.fixture(scope="module")
def pictured(tmp_path_factory, simulator_of):
    """Two episodes of lift with their pictures."""
    path = tmp_path_factory.mktemp("pictured") / "lift.zarr"
    with pytest.MonkeyPatch.context() as patch:
        use_simulators(patch, "robosuite", simulator_of)
        return collect(LIFT, path, episodes=2, noise=0.2, workers=1, view=VIEW)


def as_brought(source, path, shown=lambda rows: rows, **changes):
    """The same demonstrations, as if another program had made them, with pictures as `shown`."""
    store = DemonstrationStore.create(
        path,
        source.observation_sizes,
        source.action_size,
        {"task": "lift"},
        extra_sizes=source.attributes["extra_sizes"],
        scalar_types=source.attributes["scalar_types"],
        **{"pictures": source.pictures, **changes},
    )
    for episode in source.episodes(cameras=store.pictures):
        pictures = {camera: shown(rows) for camera, rows in episode.pictures.items()}
        store.append(replace(episode, pictures=pictures))
    return store


def test_pictures_change_nothing_else_of_the_demonstrations(tmp_path, pictured):
    plain = collect(LIFT, tmp_path / "lift.zarr", episodes=2, noise=0.2, workers=1)
    assert pictured.pictures == dict.fromkeys(VIEW.cameras, (32, 32, 3))
    for name, rows in plain.read().items():
        np.testing.assert_array_equal(pictured.read()[name], rows)


def test_a_store_with_other_pictures_is_not_gone_on_with(pictured):
    with pytest.raises(
        StoreError, match=r"has pictures of agentview \(32 pixels\), .* wanted none"
    ):
        collect(LIFT, pictured.path, episodes=3, noise=0.2, workers=1)


def test_experts_record_the_features_of_the_same_pictures(tmp_path, pictured):
    store = collect(SEEN, store_path(tmp_path, SEEN), episodes=2, noise=0.2, workers=1)
    assert list(store.observation_sizes) == list(BOTH.observations)  # the expert needs the state
    pictures = pictured.read_pictures("eye_in_hand", 0, pictured.n_steps)
    np.testing.assert_array_equal(
        store.read(["eye_in_hand_features"])["eye_in_hand_features"], Means()(pictures)
    )


def test_pictures_from_elsewhere_are_encoded_once(tmp_path, pictured):
    as_brought(pictured, tmp_path / "lift.zarr")
    found = find_stores([SEEN], tmp_path)["lift"]
    assert found.path == store_path(tmp_path, SEEN)
    assert set(SEEN.observations) <= set(found.observation_sizes)
    assert EXPERT not in found.attributes
    pictures = pictured.read_pictures("agentview", 0, pictured.n_steps)
    np.testing.assert_array_equal(
        found.read(["agentview_features"])["agentview_features"], Means()(pictures)
    )
    written = (found.path / "zarr.json").stat().st_mtime_ns
    find_stores([SEEN], tmp_path)
    assert (found.path / "zarr.json").stat().st_mtime_ns == written


def test_pictures_alone_and_beside_the_state_share_a_store(tmp_path, pictured):
    as_brought(pictured, tmp_path / "lift.zarr")
    alone = find_stores([SEEN], tmp_path)["lift"]
    both = find_stores([BOTH], tmp_path)["lift"]
    assert alone.identity() == both.identity()
    assert set(BOTH.observations) <= set(both.observation_sizes)


def test_an_experts_store_is_not_replaced(tmp_path, pictured):
    own = collect(SEEN, store_path(tmp_path, SEEN), episodes=2, noise=0.2, workers=1)
    as_brought(pictured, tmp_path / "lift.zarr")
    with pytest.raises(StoreError, match="was recorded by the expert"):
        find_stores([SEEN], tmp_path)
    assert DemonstrationStore.open(own.path).identity() == own.identity()


def test_a_policy_that_learns_to_see_takes_pictures_as_they_are(tmp_path, pictured):
    task = Sight(VIEW, None, keeps_state=False).of(LIFT)
    store = as_brought(pictured, tmp_path / "lift.zarr")
    assert find_stores([task], tmp_path)["lift"].path == store.path
    assert [each.name for each in tmp_path.iterdir()] == ["lift.zarr"]
    before = identity(store, task, 2)["sha256"]
    other = as_brought(pictured, tmp_path / "other.zarr", shown=lambda rows: 255 - rows)
    assert identity(other, task, 2)["sha256"] != before
    moon = Sight(View(("agentview", "frontview"), 32), None, keeps_state=False).of(LIFT)
    with pytest.raises(StoreError, match="has no pictures of frontview"):
        find_stores([moon], tmp_path)


def test_experts_record_the_pictures_that_a_policy_learns_from(tmp_path, pictured):
    task = Sight(VIEW, None, keeps_state=False).of(LIFT)
    store = collect(task, store_path(tmp_path, task), episodes=2, noise=0.2, workers=1)
    assert store.observation_sizes == pictured.observation_sizes
    for camera in VIEW.cameras:
        found, wanted = (each.read_pictures(camera, 0, each.n_steps) for each in (store, pictured))
        np.testing.assert_array_equal(found, wanted)


def test_a_store_with_pictures_serves_a_policy_that_is_told_the_state(pictured):
    store = collect(LIFT, pictured.path, episodes=2, noise=0.2, workers=1)
    assert store.identity() == pictured.identity()


def test_another_renderer_is_a_warning(tmp_path, pictured):
    copy = shutil.copytree(pictured.path, tmp_path / "lift.zarr")
    DemonstrationStore.open(copy, "a").update_attributes({"renderer": "a GPU"})
    with pytest.warns(StoreWarning, match="renderer of its pictures: a GPU, here: "):
        collect(LIFT, copy, episodes=2, noise=0.2, workers=1, view=VIEW)


def test_playback_compares_no_features():
    a = np.zeros((1, SEEN.observation_size), np.float32)
    b = a.copy()
    b[:, -6:] = 1.0
    assert difference(SEEN, a, b) == 0.0
    assert quaternions(SEEN) == [3]


def test_features_of_another_store_are_made_again(tmp_path, pictured):
    source = as_brought(pictured, tmp_path / "lift.zarr")
    assert len(encoded(source, SEEN, tmp_path / "seen.zarr")) == 2
    source.append(source.episode(0))
    assert len(encoded(source, SEEN, tmp_path / "seen.zarr")) == 3


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (SEEN, {"pictures": {"agentview": (32, 32, 3)}}, "has no pictures of eye_in_hand"),
        (
            Sight(View(("agentview",), 48), Means(), keeps_state=False).of(LIFT),
            {},
            "has pictures of 32 x 32 pixels of agentview, wanted 48 x 48",
        ),
    ],
)
def test_pictures_that_a_policy_cannot_take_are_one_line(
    tmp_path, pictured, task, changes, message
):
    source = as_brought(pictured, tmp_path / "lift.zarr", **changes)
    with pytest.raises(StoreError, match=message):
        encoded(source, task, tmp_path / "seen.zarr")
    assert not (tmp_path / "seen.zarr").exists()


def test_a_version_2_directory_is_to_be_converted_first(tmp_path, pictured):
    path = tmp_path / "lift.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    rows = pictured.read([*SEEN.sight.told(SEEN).observations, "action"])
    rows["agentview_image"] = pictured.read_pictures("agentview", 0, pictured.n_steps)
    for name, values in rows.items():
        root.create_array(f"data/{name}", data=values)
    root.create_array("meta/episode_ends", data=pictured.episode_ends)
    with pytest.raises(StoreError, match="convert it first"):
        find_stores([SEEN], tmp_path)


def test_a_missing_observation_is_one_line(tmp_path, pictured):
    store = DemonstrationStore.create(
        tmp_path / "lift.zarr",
        {"object": 10},
        7,
        {"task": "lift"},
        absent=["reward", "success"],
        pictures=pictured.pictures,
    )
    episode = pictured.episode(0)
    object_alone = {"object": episode.observations["object"]}
    store.append(Episode(object_alone, episode.action, pictures=episode.pictures))
    with pytest.raises(ReconvergeError, match="observation robot0_eef_pos of 3 numbers is missing"):
        encoded(store, SEEN, tmp_path / "seen.zarr")
