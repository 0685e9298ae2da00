"""Pictures in stores: what goes in comes out, by the episode, and no damage to them is silent."""

import numpy as np
import pytest

from reconverge.datasets import pixels
from reconverge.datasets.store import DemonstrationStore, Episode, StoreError

CAMERAS = {"agentview": (6, 8, 3), "eye_in_hand": (4, 4, 3)}
LENGTHS = (5, 1, 17, 8)


def make_episode(index, cameras=CAMERAS, length=None):
    rng, length = np.random.default_rng(index), length or LENGTHS[index]
    return Episode(
        {"x": rng.standard_normal((length, 2), np.float32)},
        rng.standard_normal((length, 1), np.float32),
        pictures={
            camera: rng.integers(0, 256, (length, *shape), np.uint8)
            for camera, shape in cameras.items()
        },
    )


def make_store(path, cameras=CAMERAS, episodes=()):
    store = DemonstrationStore.create(
        path, {"x": 2}, 1, {}, absent=("reward", "success"), pictures=cameras
    )
    for episode in episodes:
        store.append(episode)
    return store


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards that a few episodes fill, so that appends end within one and cross into the next."""
    monkeypatch.setattr(pixels, "STEPS", (4, 12))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lift.zarr"


def test_pictures_come_back_bit_for_bit_by_episode_and_by_steps(path):
    wanted = [make_episode(i) for i in range(len(LENGTHS))]
    make_store(path, episodes=wanted)
    store = DemonstrationStore.open(path)
    assert store.pictures == CAMERAS
    for found, given in zip(store.episodes(), wanted, strict=True):
        assert list(found.pictures) == list(CAMERAS)
        for camera, rows in given.pictures.items():
            np.testing.assert_array_equal(found.pictures[camera], rows)
            assert found.pictures[camera].dtype == np.uint8
    np.testing.assert_array_equal(store.episode(-1).pictures["agentview"], rows_of(wanted[-1]))
    together = np.concatenate([rows_of(episode) for episode in wanted])
    for start, stop in ((0, 31), (3, 9), (11, 13), (30, 31), (7, 7), (25, 99), (-2, 31)):
        found = store.read_pictures("agentview", start, stop)
        np.testing.assert_array_equal(found, together[start:stop])


def rows_of(episode, camera="agentview"):
    return episode.pictures[camera]


def test_pictures_are_read_only_where_they_are_asked_for(path):
    store = make_store(path, episodes=[make_episode(0)])
    assert list(store.read()) == ["x", "action"]
    assert store.observation_sizes == {"x": 2}
    with pytest.raises(StoreError, match=r"camera of .* 'top': choose one of agentview, eye_in_ha"):
        store.read_pictures("top", 0, 1)


def test_a_store_without_pictures_does_not_speak_of_them(path):
    store = make_store(path, {}, [make_episode(0, {})])
    assert store.pictures == {}
    assert "pictures" not in store.attributes
    assert store.episode(0).pictures == {}
