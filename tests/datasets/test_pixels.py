"""Pictures in stores: what goes in comes out, by the episode, and no damage to them is silent."""

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
import zarr.storage._local as zarr_files

from reconverge.datasets import checks, pixels
from reconverge.datasets.layout import SHARD_STEPS
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agentview": np.zeros((5, 6, 8, 3), np.float32)}, "image is float32, expected uint8"),
        ({"agentview": np.zeros((5, 6, 8, 3), np.int64)}, "image is int64, expected uint8"),
        (
            {"agentview": np.zeros((5, 8, 6, 3), np.uint8)},
            r"shape \(5, 8, 6, 3\), expected \(5,",
        ),
        (
            {"agentview": np.zeros((4, 6, 8, 3), np.uint8)},
            r"shape \(4, 6, 8, 3\), expected \(5,",
        ),
        ({"agentview": None}, r"lacks \['data/agentview_image'\], has surplus none"),
        ({"top": np.zeros((5, 6, 8, 3), np.uint8)}, r"surplus \['data/top_image'\]"),
    ],
)
def test_append_refuses_pictures_that_do_not_fit_and_keeps_the_rest(path, change, message):
    store = make_store(path, episodes=[make_episode(0)])
    episode = make_episode(0)
    kept = {c: rows for c, rows in {**episode.pictures, **change}.items() if rows is not None}
    object.__setattr__(episode, "pictures", kept)  # past the checks of types that tests make
    with pytest.raises(StoreError, match=message) as raised:
        store.append(episode)
    assert "\n" not in str(raised.value)
    assert len(DemonstrationStore.open(path)) == 1


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (
            {"top": (8, 8, 1)},
            r"pictures of 'top' have the shape \[8, 8, 1\], expected height",
        ),
        ({"top": (8, 8)}, "expected height, width and 3"),
        ({"top": (0, 8, 3)}, "expected height, width and 3"),
        ({"": (8, 8, 3)}, "pictures of ''"),
        ({"a/b": (8, 8, 3)}, "'a/b_image' is reserved"),
    ],
)
def test_create_refuses_cameras_that_cannot_be(path, cameras, message):
    with pytest.raises(StoreError, match=message):
        make_store(path, cameras)
    assert not path.exists()


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def exchange(file):
    other = file.parents[3] / "1" / "0" / "0" / "0"
    content = file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "image rows 0 to 11: the file .*/c/0/0/0/0 is lost or empty"),
        (flip_a_bit, "image rows 0 to 11: truncated or edited"),
        (exchange, "agentview_image has lost, edited or exchanged rows"),
    ],
)
def test_open_finds_damaged_pictures(path, damage, message):
    make_store(path, episodes=[make_episode(i) for i in range(len(LENGTHS))])
    damage(path / "data/agentview_image/c/0/0/0/0")
    with pytest.raises(StoreError, match=message) as raised:
        DemonstrationStore.open(path)
    assert "\n" not in str(raised.value)


def test_nothing_holds_all_pictures_in_memory(path, monkeypatch):
    """Appending, opening, checking and reading episodes of 0.5 MB each take few of them at most."""
    monkeypatch.setattr(pixels, "STEPS", (8, 16))
    cameras, count = {"agentview": (60, 60, 3)}, 14
    size = 60 * 60 * 3 * 50
    tracemalloc.start()
    store = make_store(path, cameras)
    for i in range(count):
        store.append(make_episode(i, cameras, length=50))
    found = [len(episode.action) for episode in DemonstrationStore.open(path).episodes()]
    text = checks.check_pictures(store).text
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [50] * count
    assert count * 50 < SHARD_STEPS  # other arrays are read all at once
    assert text.startswith("agentview 60 x 60; ")
    assert peak < 9 * size  # chunks on their way, compressed and not, are some episodes more


def test_check_pictures_names_those_of_a_camera_that_saw_nothing(path):
    episode = make_episode(2)
    episode.pictures["eye_in_hand"][13] = 7
    store = make_store(path, episodes=[make_episode(0), episode])
    found = checks.check_pictures(store)
    assert found.wrong
    assert found.text.startswith(
        "agentview 8 x 6, eye_in_hand 4 x 4; 0.0 MB; blank: eye_in_hand at"
    )
    assert found.text.endswith("at step 18")


class Killed(BaseException):
    """Stands for SIGKILL: no handler of `Exception` sees it."""


def test_an_interrupted_append_loses_no_picture(path, monkeypatch):
    wanted = [make_episode(0), make_episode(2)]
    make_store(path, episodes=wanted)
    real, kill_at = zarr_files._put, 0

    def put(file, value, exclusive=False):
        written.append(file)
        if len(written) > kill_at:
            raise Killed
        return real(file, value, exclusive)

    done = 2
    while done == 2:
        store, written = DemonstrationStore.open(path, "a"), []
        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(zarr_files, "_put", put)
            store.append(make_episode(3))
        kill_at += 1
        found = list(DemonstrationStore.open(path).episodes())
        done = len(found)
        for ours, theirs in zip(found, [*wanted, make_episode(3)], strict=False):
            for camera, rows in theirs.pictures.items():
                np.testing.assert_array_equal(ours.pictures[camera], rows)
    assert kill_at > 2 * 5  # metadata and shards of five arrays, then the commit
