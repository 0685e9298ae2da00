"""Files of D4RL become demonstrations."""

import h5py
import numpy as np
import pytest

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import write_store
from reconverge.datasets.formats.hdf5.d4rl import read_d4rl
from reconverge.datasets.formats.table import source_format
from reconverge.datasets.store import DemonstrationStore


def make_d4rl(path, **changes):
    """Make a file of nine steps: an episode of four that ended, one of three that timed out, and
    the beginning of another; return its arrays.
    """
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.standard_normal((9, 3), np.float32),
        "actions": rng.standard_normal((9, 2), np.float32),
        "rewards": rng.standard_normal(9, np.float32),
        "terminals": np.arange(9) == 3,
        "timeouts": np.arange(9) == 6,
        "infos/qpos": rng.standard_normal((9, 4)),
        "metadata/algorithm": "SAC",
        "metadata/policy/fc0/weight": np.ones((5, 3)),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file[name] = values
    return arrays


def test_read_d4rl_cuts_the_steps_into_episodes(tmp_path):
    arrays = make_d4rl(tmp_path / "hopper.hdf5")
    assert source_format(tmp_path / "hopper.hdf5") == "d4rl"
    found = read_d4rl(tmp_path / "hopper.hdf5")
    left_out = "metadata.algorithm, metadata.policy.fc0.weight"
    assert found.warnings == (f"left out {left_out}: not one row a step",)
    write_store(found, tmp_path / "a.zarr")
    store = DemonstrationStore.open(tmp_path / "a.zarr")
    assert store.episode_ends.tolist() == [4, 7, 9]
    rows = store.read()
    for name, place in {
        "observations": "observations",
        "action": "actions",
        "reward": "rewards",
        "infos.qpos": "infos/qpos",
    }.items():
        np.testing.assert_array_equal(rows[name], arrays[place])
    assert "success" not in rows


def test_read_d4rl_takes_successes_and_whole_numbers(tmp_path):
    make_d4rl(
        tmp_path / "door.hdf5",
        timeouts=None,
        **{"infos/goal_achieved": np.arange(9) > 7, "observations": np.ones((9, 3), np.int16)},
    )
    episodes = [episode for episode, _ in read_d4rl(tmp_path / "door.hdf5").episodes]
    assert [episode.success.any() for episode in episodes] == [False, True]
    assert episodes[0].observations["observations"].dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"terminals": None, "timeouts": None}, "neither terminals nor timeouts"),
        ({"timeouts": np.zeros(4, bool)}, "timeouts has 4 rows, not 9"),
        ({"rewards": np.zeros(8)}, "cannot convert reward (8 rows, not 9, in the file)"),
        ({"observations": np.zeros((9, 8, 8, 3), "u1")}, "cannot convert observations (pixels)"),
        ({"actions": np.zeros((0, 2))}, "has 0 steps"),
    ],
)
def test_read_d4rl_says_in_one_line_what_is_wrong(tmp_path, changes, said):
    make_d4rl(tmp_path / "a.hdf5", **changes)
    with pytest.raises(ConversionError) as raised:
        read_d4rl(tmp_path / "a.hdf5")
    assert said in str(raised.value)


def test_read_d4rl_refuses_arrays_that_are_too_large_together_before_it_reads_one(tmp_path):
    make_d4rl(tmp_path / "hopper.hdf5")
    with h5py.File(tmp_path / "hopper.hdf5", "r+") as file:
        for i in range(3):  # of which nothing is written
            file.create_dataset(f"infos/x{i}", (9, 5 * 10**7), "f4")
    with pytest.raises(ConversionError, match=r"the file has 5\.03 GiB in its arrays, at most 4"):
        read_d4rl(tmp_path / "hopper.hdf5")
