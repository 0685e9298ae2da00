"""Pictures for training: those of the store, whole or not at all, moved as a camera would be."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reconverge.datasets.store import DemonstrationStore, Episode, StoreError
from reconverge.datasets.uncompressed import Frames, moved, open_frames
from reconverge.datasets.windows import Windows
from reconverge.errors import ReconvergeError

CAMERAS = ("agentview", "eye_in_hand")


def make_store(path, lengths=(3, 5), cameras=CAMERAS):
    """A store whose pictures tell their step, and its camera."""
    store = DemonstrationStore.create(
        path,
        {"x": 2},
        1,
        {},
        absent=("reward", "success"),
        pictures=dict.fromkeys(cameras, (4, 6, 3)),
    )
    append(store, lengths)
    return store


def append(store, lengths):
    for length in lengths:
        steps = np.arange(store.n_steps, store.n_steps + length, dtype=np.uint8)
        of_step = np.broadcast_to(steps[:, None, None, None], (length, 4, 6, 3))
        pictures = {camera: of_step + np.uint8(100 * i) for i, camera in enumerate(store.pictures)}
        flat = np.zeros((length, 2), np.float32)
        store.append(Episode({"x": flat}, flat[:, :1], pictures=pictures))


def first(frames, step, camera=0):
    """The first number of a picture."""
    return int(frames.gather(torch.tensor([[step]]))[0, 0, camera, 0, 0, 0])


def files(tmp_path):
    return sorted(file.name for file in (tmp_path / "lift.zarr.frames").glob("*.npy"))


def test_gather_returns_the_pictures_of_the_steps(tmp_path):
    store = make_store(tmp_path / "lift.zarr")
    frames = open_frames(store, CAMERAS, 8)
    seen = frames.gather(torch.tensor([[0, 1], [7, 7], [3, 2]]))
    assert seen.shape == (3, 2, 2, 4, 6, 3)
    assert seen.dtype == torch.uint8
    assert seen[:, :, 0, 0, 0, 0].tolist() == [[0, 1], [7, 7], [3, 2]]
    assert seen[:, :, 1, 3, 5, 2].tolist() == [[100, 101], [107, 107], [103, 102]]
    assert frames.step_bytes == 2 * 4 * 6 * 3
    assert first(open_frames(store, CAMERAS[1:], 8), 2) == 102
    assert [len(file) for file in open_frames(store, CAMERAS, 3).files] == [3, 3]


def test_files_are_written_once(tmp_path):
    store = make_store(tmp_path / "lift.zarr")
    open_frames(store, CAMERAS[:1], 8)
    (folder,) = tmp_path.glob("*.frames")
    (file,) = folder.glob("*.npy")
    before = file.stat().st_mtime_ns
    open_frames(store, CAMERAS, 8)
    assert file.stat().st_mtime_ns == before
    assert len(files(tmp_path)) == 2


def test_files_of_the_store_before_it_grew_are_removed(tmp_path):
    store = make_store(tmp_path / "lift.zarr")
    older = open_frames(store, CAMERAS, 8)
    before = files(tmp_path)
    append(store, [2])
    assert first(open_frames(store, CAMERAS, 10), 9) == 9
    assert len(files(tmp_path)) == 2
    assert not set(before) & set(files(tmp_path))
    assert first(older, 5) == 5  # still open


def test_files_of_a_camera_whose_name_goes_on_stay(tmp_path):
    store = make_store(tmp_path / "lift.zarr", cameras=("a", "a-b"))
    open_frames(store, ["a-b"], 8)
    open_frames(store, ["a"], 8)
    assert len(files(tmp_path)) == 2


def test_pictures_of_a_store_that_took_the_place_of_the_opened_one_are_refused(tmp_path):
    store = make_store(tmp_path / "lift.zarr")
    store.path.rename(tmp_path / "first.zarr")
    make_store(store.path, cameras=CAMERAS[::-1])  # each has the other's pictures
    with pytest.raises(StoreError, match=r"data/agentview_image has other rows than when it was"):
        open_frames(store, CAMERAS, 3)
    assert files(tmp_path) == []


@pytest.mark.parametrize("kept", [None, 0, 200])
def test_files_that_are_not_whole_are_written_again(tmp_path, kept):
    store = make_store(tmp_path / "lift.zarr")
    open_frames(store, CAMERAS, 8)
    (file,) = (tmp_path / "lift.zarr.frames").glob("eye_in_hand-*.npy")
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:kept])
    assert first(open_frames(store, CAMERAS, 8), 4, camera=1) == 104


def test_a_disk_without_room_is_one_line(tmp_path, monkeypatch):
    store = make_store(tmp_path / "lift.zarr")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(StoreError, match="compression, the disk has 1e-07 left; free some, or lo"):
        open_frames(store, CAMERAS, 8)
    assert not files(tmp_path)


def test_a_camera_that_the_store_lacks_is_one_line(tmp_path):
    with pytest.raises(ReconvergeError, match=r"camera of .* 'moon'"):
        open_frames(make_store(tmp_path / "lift.zarr"), ["moon"], 8)


def ramp(batch):
    """Pictures whose red tells the row and whose green tells the column, blue the step."""
    pictures = torch.zeros(batch, 2, 2, 8, 9, 3, dtype=torch.uint8)
    pictures[..., 0] = torch.arange(8, dtype=torch.uint8)[:, None]
    pictures[..., 1] = torch.arange(9, dtype=torch.uint8)
    pictures[:, 1, ..., 2] = 200
    return pictures


def test_moved_pictures_are_crops_of_the_padded_ones():
    pictures, most = ramp(50), 2
    found = moved(pictures, most, torch.Generator().manual_seed(0))
    padded = np.pad(pictures.numpy(), [(0, 0)] * 3 + [(most, most)] * 2 + [(0, 0)], mode="edge")
    offsets = set()
    for window, camera in np.ndindex(50, 2):
        crops = {
            (i, j): padded[window, :, camera, i : i + 8, j : j + 9]
            for i, j in np.ndindex(2 * most + 1, 2 * most + 1)
        }
        same = [at for at, crop in crops.items() if np.array_equal(crop, found[window, :, camera])]
        assert len(same) == 1  # both steps of a window by the same offset
        offsets.add(same[0])
    assert len(offsets) > 20  # of 25


def test_sample_moves_the_pictures_of_the_windows_that_it_draws():
    rows = np.zeros((8, 2), np.float32)
    frames = Frames([ramp(4)[:, :, 0].flatten(0, 1).numpy()])
    windows = Windows.from_episodes(rows, rows[:, :1], np.array([8]), 2, 2, frames=frames, crop=1)
    still = replace(windows, crop=0).sample(30, torch.Generator().manual_seed(0))
    seen = windows.sample(30, torch.Generator().manual_seed(0))[0]
    moves = (seen != still[0]).any(2).any(1)
    assert 15 < moves.sum() < 30  # eight of nine


def test_sampled_windows_show_their_own_steps(tmp_path):
    store = make_store(tmp_path / "lift.zarr")
    rows = np.zeros((8, 2), np.float32)
    frames = open_frames(store, CAMERAS, 8)
    ends = np.array([3, 8])
    windows = Windows.from_episodes(rows, rows[:, :1], ends, 2, 2, frames=frames, crop=1)
    seen, _ = windows.gather(torch.tensor([3, 7]))
    assert seen.shape == (2, 2, 2 + frames.step_bytes)
    assert seen[:, :, 2].tolist() == [[3, 3], [6, 7]]  # an episode's first step repeats
    kept = windows.select(torch.tensor([1]))
    assert kept.gather(torch.tensor([0]))[0][0, :, 2].tolist() == [3, 3]
    drawn = [kept.sample(30, torch.Generator().manual_seed(1))[0] for _ in range(2)]
    assert torch.equal(*drawn)
    assert drawn[0][:, 1, 2].unique().tolist() == [3, 4, 5, 6, 7]
