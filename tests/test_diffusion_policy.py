import shutil

import numpy as np
import pytest
from foreign import make_replay_buffer, zipped

from datasets.diffusion_policy import read_diffusion_policy
from datasets.exchange import ConversionError, write_store
from datasets.store import DemonstrationStore


def convert(source, target, leave_out=()):
    with read_diffusion_policy(source, leave_out) as demonstrations:
        write_store(demonstrations, target)
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


def test_episodes_are_those_of_the_replay_buffer(source, tmp_path):
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


def test_other_arrays_are_extras_and_rewards_are_kept(tmp_path):
    reward = np.linspace(0, 1, 9, dtype=np.float32)
    count = np.arange(9, dtype=np.int64)[:, None]
    make_replay_buffer(tmp_path / "a.zarr", reward=reward, n_contacts=count)
    store = convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    np.testing.assert_array_equal(store.read()["reward"], reward)
    assert store.episode(2).extras["n_contacts"].tolist() == count[4:].tolist()


def test_pictures_are_left_out_by_name(tmp_path):
    make_replay_buffer(tmp_path / "a.zarr", img=np.zeros((9, 4, 4, 3), np.uint8))
    with pytest.raises(ConversionError, match=r"img .*leave_out"):
        convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert "img" not in convert(tmp_path / "a.zarr", tmp_path / "b.zarr", ["img"]).read()
