"""Datasets of Minari become demonstrations."""

import json

import h5py
import numpy as np
import pytest

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import write_store
from reconverge.datasets.formats.hdf5.minari import read_minari
from reconverge.datasets.formats.table import source_format
from reconverge.datasets.store import DemonstrationStore

LENGTHS = {0: 3, 2: 2, 10: 4}


def make_minari(folder, change=lambda file: None):
    """Make a dataset of three episodes, with an observation more than actions; return its arrays by
    episode.
    """
    rng, arrays = np.random.default_rng(0), []
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data/main_data.hdf5", "w") as file:
        for number, length in LENGTHS.items():
            rows = {
                "observations/achieved_goal": rng.standard_normal((length + 1, 3)),
                "observations/observation": rng.standard_normal((length + 1, 4)),
                "actions": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
                "rewards": np.zeros(length),
                "terminations": np.zeros(length, bool),
                "truncations": np.arange(length) == length - 1,
                "infos/success": np.arange(length + 1) == length,
                "infos/qpos": rng.standard_normal((length + 1, 2)),
            }
            arrays.append(rows)
            group = file.create_group(f"episode_{number}")
            group.attrs.update({"id": number, "seed": 7, "total_steps": length})
            for name, values in rows.items():
                group[name] = values
        change(file)
    described = {"dataset_id": "x/y-v0", "env_spec": json.dumps({"id": "FetchReach-v3"})}
    (folder / "data/metadata.json").write_text(json.dumps(described))
    return arrays


@pytest.mark.parametrize("place", ["", "data/main_data.hdf5"])
def test_read_minari_puts_each_action_beside_what_it_was_chosen_on(tmp_path, place):
    arrays = make_minari(tmp_path / "reach")
    assert source_format(tmp_path / "reach" / place) == "minari"
    write_store(read_minari(tmp_path / "reach" / place), tmp_path / "a.zarr")
    store = DemonstrationStore.open(tmp_path / "a.zarr")
    assert store.attributes["task"] == "FetchReach-v3"
    assert store.attributes["minari"]["dataset_id"] == "x/y-v0"
    assert store.episode_ends.tolist() == [3, 5, 9]
    sizes = {"observations.achieved_goal": 3, "observations.observation": 4}
    assert store.observation_sizes == sizes
    for i, rows in enumerate(arrays):
        episode = store.episode(i)
        np.testing.assert_array_equal(
            episode.observations["observations.observation"], rows["observations/observation"][:-1]
        )
        np.testing.assert_array_equal(episode.action, rows["actions"])
        np.testing.assert_array_equal(episode.extras["infos.qpos"], rows["infos/qpos"][:-1])
        assert episode.success.tolist() == [*[False] * (len(rows["actions"]) - 1), True]


def test_read_minari_drops_episodes_without_a_step(tmp_path):
    def change(file):
        for name in ("actions", "rewards", "terminations", "truncations"):
            rows = file[f"episode_2/{name}"][:0]
            del file[f"episode_2/{name}"]
            file[f"episode_2/{name}"] = rows

    make_minari(tmp_path / "reach", change)
    found = read_minari(tmp_path / "reach")
    assert found.warnings == ("left out episode_2: without a step",)
    assert [own["id"] for _, own in found.episodes] == [0, 10]


def test_read_minari_says_in_one_line_what_is_wrong(tmp_path):
    make_minari(tmp_path / "a", lambda file: file["episode_2"].pop("rewards"))
    with pytest.raises(ConversionError, match=r"reward \(missing in episode_2\)"):
        read_minari(tmp_path / "a")
    make_minari(tmp_path / "b", lambda file: file["episode_2"].move("actions", "actions_/x"))
    with pytest.raises(ConversionError, match="episode_2: actions are no array"):
        read_minari(tmp_path / "b")
