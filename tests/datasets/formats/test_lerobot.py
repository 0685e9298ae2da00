"""Datasets of LeRobot; its own class reads them in the python that RECONVERGE_LEROBOT names."""

import json
import os
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reconverge.datasets.formats import exchange
from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import read_store, write_store
from reconverge.datasets.formats.lerobot import frames as lerobot_frames
from reconverge.datasets.formats.lerobot.reading import read_lerobot
from reconverge.datasets.formats.lerobot.writing import write_lerobot
from reconverge.datasets.formats.robomimic import read_robomimic
from reconverge.datasets.store import DemonstrationStore, Episode
from support.foreign import assert_same_stores, contents, make_robomimic
from support.lerobot import as_version_2, make_foreign

LEROBOT = os.environ.get("RECONVERGE_LEROBOT")
READ = """
import json, sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
deltas = {"action": [0.0, 0.05]}
dataset = LeRobotDataset("local/dataset", root=sys.argv[1], delta_timestamps=deltas)
frames = [dataset[i] for i in range(len(dataset))]
stats = dataset.meta.stats["action"]
print(json.dumps({
    "episodes": dataset.num_episodes,
    "fps": dataset.fps,
    "tasks": [frame["task"] for frame in frames],
    "state": [frame["observation.state"].tolist() for frame in frames],
    "action": [frame["action"].tolist() for frame in frames],
    "done": [frame["next.done"].item() for frame in frames],
    "mean": stats["mean"].tolist(),
    "std": stats["std"].tolist(),
}))
"""


@pytest.fixture
def store(tmp_path):
    write_store(read_robomimic(make_robomimic(tmp_path / "a.hdf5")), tmp_path / "a.zarr")
    return DemonstrationStore.open(tmp_path / "a.zarr")


def test_read_lerobot_of_a_recorded_dataset_comes_back(tmp_path):
    arrays = make_foreign(tmp_path / "so101")
    write_store(read_lerobot(tmp_path / "so101"), tmp_path / "so101.zarr")
    store = DemonstrationStore.open(tmp_path / "so101.zarr")
    assert store.attributes["task"] == "lift the cube"
    assert (store.attributes["fps"], store.attributes["robot_type"]) == (30, "so101")
    for i, rows in enumerate(arrays):
        episode = store.episode(i)
        np.testing.assert_array_equal(
            episode.observations["observation.state"], rows["observation.state"]
        )
        np.testing.assert_array_equal(episode.action, rows["action"])
        assert episode.extras["timestamp"].dtype == np.float32
    write_lerobot(read_store(tmp_path / "so101.zarr"), tmp_path / "back")
    columns = pq.read_table(tmp_path / "back/data/chunk-000/file-000.parquet")
    wanted = pa.concat_tables(
        [pq.read_table(file) for file in sorted((tmp_path / "so101/data").rglob("*.parquet"))]
    )
    for name in wanted.column_names:
        assert columns[name].to_pylist() == wanted[name].to_pylist(), name


def test_read_lerobot_of_an_export_gives_observations_of_any_name_back(tmp_path):
    """`observation.state` beside others is one of those that are joined to a state of that name."""
    rows = np.arange(10, dtype=np.float32).reshape(2, 5)
    flag = np.array([[2**40 + 1], [3]])
    given = {"observation.state": rows[:, :3], "object": rows[:, 3:]}
    store = DemonstrationStore.create(
        tmp_path / "a.zarr",
        {"observation.state": 3, "object": 2},
        1,
        {"task": "x", "fps": 10},
        extra_sizes={"observation.flag": 1},
        types={"observation.flag": "int64"},
        absent=("reward", "success"),
    )
    store.append(Episode(given, rows[:, :1], extras={"observation.flag": flag}))
    write_lerobot(read_store(store.path), tmp_path / "a")
    write_store(read_lerobot(tmp_path / "a"), tmp_path / "back.zarr")
    back = DemonstrationStore.open(tmp_path / "back.zarr")
    assert back.columns == store.columns
    for name, values in given.items():
        np.testing.assert_array_equal(back.episode(0).observations[name], values)
    np.testing.assert_array_equal(back.episode(0).extras["observation.flag"], flag)


def test_read_lerobot_wants_one_of_several_tasks(tmp_path):
    arrays = make_foreign(tmp_path / "two", tasks=("lift", "push"), lengths=(3, 2, 4))
    with pytest.raises(ConversionError, match="has 2 tasks"):
        read_lerobot(tmp_path / "two")
    with pytest.raises(ConversionError, match=r"filter= of .*two 'pull': choose one of lift, push"):
        read_lerobot(tmp_path / "two", "pull")
    found = read_lerobot(tmp_path / "two", "lift")
    episodes = [episode for episode, _ in found.episodes]
    assert (found.count, found.attributes["task"]) == (2, "lift")
    for episode, rows in zip(episodes, (arrays[0], arrays[2]), strict=True):
        np.testing.assert_array_equal(episode.action, rows["action"])


def test_write_lerobot_describes_its_files_and_statistics(store, tmp_path, monkeypatch):
    """Several data files, frames numbered through, statistics of all frames."""
    monkeypatch.setattr(exchange, "BATCH_STEPS", 4)
    monkeypatch.setattr(lerobot_frames, "FILE_BYTES", 1)
    write_lerobot(read_store(store.path), tmp_path / "out")
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["fps"], info["splits"]) == (
        3,
        12,
        20,
        {"train": "0:3"},
    )
    files = sorted((tmp_path / "out/data").rglob("*.parquet"))
    assert len(files) == 2
    frames = pa.concat_tables([pq.read_table(file) for file in files])
    assert frames["index"].to_pylist() == list(range(12))
    np.testing.assert_array_equal(np.array(frames["action"].to_pylist()), store.read()["action"])
    seen = np.concatenate(list(store.read(list(store.observation_sizes)).values()), axis=1)
    np.testing.assert_array_equal(np.array(frames["observation.state"].to_pylist()), seen)
    assert info["features"]["observation.state"]["names"][:11] == [
        f"object_{i}" for i in range(10)
    ] + ["robot0_eef_pos_0"]
    episodes = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"]) for e in episodes] == [
        (0, 4),
        (4, 5),
        (5, 12),
    ]
    for episode in episodes:
        file = info["data_path"].format(
            chunk_index=episode["data/chunk_index"], file_index=episode["data/file_index"]
        )
        assert (
            episode["episode_index"]
            in pq.read_table(tmp_path / "out" / file)["episode_index"].to_pylist()
        )
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())["observation.state"]
    for name, wanted in {
        "min": seen.min(0),
        "max": seen.max(0),
        "mean": seen.mean(0),
        "std": seen.std(0),
    }.items():
        np.testing.assert_allclose(stats[name], wanted, rtol=1e-9, atol=1e-12)
    assert stats["count"] == [12]


def test_read_lerobot_of_version_2(tmp_path):
    tasks = ("lift", "push")
    arrays = make_foreign(tmp_path / "old", tasks, lengths=(3, 2, 4))
    wanted = contents(read_lerobot(tmp_path / "old", "lift"))
    as_version_2(tmp_path / "old", tasks)
    assert contents(read_lerobot(tmp_path / "old", "lift")) == wanted
    episode, _ = next(iter(read_lerobot(tmp_path / "old", "push").episodes))
    np.testing.assert_array_equal(episode.action, arrays[1]["action"])
    lines = tmp_path / "old/meta/episodes.jsonl"
    lines.write_text(lines.read_text()[:-10])
    with pytest.raises(ConversionError, match=r"episodes\.jsonl is truncated"):
        read_lerobot(tmp_path / "old", "lift")


def test_read_lerobot_skips_hidden_files(tmp_path):
    make_foreign(tmp_path / "so101")
    wanted = contents(read_lerobot(tmp_path / "so101"))
    for place in ("data/chunk-000/._file-000", "data/._x/file-000", "meta/episodes/chunk-000/._f"):
        (tmp_path / "so101" / place).parent.mkdir(exist_ok=True)
        (tmp_path / "so101" / f"{place}.parquet").write_bytes(b"\0\5\x16\7")
    assert contents(read_lerobot(tmp_path / "so101")) == wanted


def test_read_lerobot_reads_no_statistics_of_episodes(tmp_path):
    """Which are most of the columns: damage to one is not met."""
    make_foreign(tmp_path / "so101")
    wanted = contents(read_lerobot(tmp_path / "so101"))
    file = tmp_path / "so101/meta/episodes/chunk-000/file-000.parquet"
    means = pa.array([[0.25, 0.5], [0.75, 1.0]])
    table = pq.read_table(file).append_column("stats/action/mean", means)
    pq.write_table(table, file, write_page_checksum=True, use_dictionary=False)
    column = pq.ParquetFile(file).metadata.row_group(0).column(table.num_columns - 1)
    content = bytearray(file.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(file, page_checksum_verification=True)
    assert contents(read_lerobot(tmp_path / "so101")) == wanted


@pytest.mark.parametrize(
    ("numbers", "lacking"), [([0, 2], 1), ([1, 2], 0), ([0, 0], 1), ([1, 0], None)]
)
def test_read_lerobot_names_the_episode_that_is_missing(tmp_path, numbers, lacking):
    make_foreign(tmp_path / "old")
    as_version_2(tmp_path / "old")
    lines = tmp_path / "old/meta/episodes.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    for row, number in zip(rows, numbers, strict=True):
        row["episode_index"] = number
    lines.write_text("\n".join(map(json.dumps, rows)))
    wrong = "has its episodes out of order" if lacking is None else f"lacks episode {lacking}"
    said = f"episodes {wrong}; restore"
    with pytest.raises(ConversionError, match=said):
        read_lerobot(tmp_path / "old")


@pytest.mark.parametrize(
    ("place", "column"),
    [("data/chunk-000/file-001", "action"), ("meta/episodes/chunk-000/file-000", "length")],
)
def test_read_lerobot_of_a_repeated_column_says_one_line(tmp_path, place, column):
    make_foreign(tmp_path / "a")
    file = tmp_path / "a" / f"{place}.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column(column, table[column]), file)
    said = f"{place}.parquet has the column {column} 2 times; remove all but one, or restore"
    with pytest.raises(ConversionError, match=said) as raised:
        contents(read_lerobot(tmp_path / "a"))
    assert "\n" not in str(raised.value)


def declare(path, **features):
    """Declare further features, with a column of ones for those of numbers."""
    info = json.loads((path / "meta/info.json").read_text())
    for name, (dtype, shape) in features.items():
        info["features"][name] = {"dtype": dtype, "shape": shape, "names": None}
        for file in path.glob("data/*/*.parquet") if dtype not in ("image", "string") else ():
            table = pq.read_table(file)
            column = pa.array(np.ones(len(table), dtype))
            pq.write_table(table.append_column(name, column), file)
    (path / "meta/info.json").write_text(json.dumps(info))


def rename(path, **names):
    """Rename features, and their columns."""
    info = json.loads((path / "meta/info.json").read_text())
    info["features"] = {names.get(n.split(".")[-1], n): f for n, f in info["features"].items()}
    (path / "meta/info.json").write_text(json.dumps(info))
    for file in path.glob("data/*/*.parquet"):
        table = pq.read_table(file)
        new = [names.get(n.split(".")[-1], n) for n in table.column_names]
        pq.write_table(table.rename_columns(new), file)


def test_read_lerobot_without_the_usual_names(tmp_path):
    """Real numbers are the observations, but times and what comes after a step."""
    (arrays, *_) = make_foreign(tmp_path / "a")
    rename(tmp_path / "a", state="state", action="actions")
    more = {"next.reward": "float32", "next.value": "float32", "count": "int64"}
    declare(tmp_path / "a", **{name: (dtype, [1]) for name, dtype in more.items()})
    write_store(read_lerobot(tmp_path / "a"), tmp_path / "a.zarr")
    store = DemonstrationStore.open(tmp_path / "a.zarr")
    assert store.observation_sizes == {"state": 2}
    np.testing.assert_array_equal(store.observations()[:3], arrays["observation.state"])
    np.testing.assert_array_equal(store.episode(0).action, arrays["action"])
    assert set(store.episode(0).extras) == {"timestamp", "next.value", "count"}
    write_lerobot(read_store(store.path), tmp_path / "out")
    write_store(read_lerobot(tmp_path / "out"), tmp_path / "back.zarr")
    assert_same_stores(tmp_path / "back.zarr", store.path)


def test_read_lerobot_prefers_the_usual_names(tmp_path):
    make_foreign(tmp_path / "a")
    declare(tmp_path / "a", actions=("float32", [1]), force=("float32", [1]))
    found = read_lerobot(tmp_path / "a")
    assert (set(found.observation_sizes), found.action_size) == ({"observation.state"}, 2)
    assert set(found.extra_sizes) == {"actions", "force", "timestamp"}


def test_read_lerobot_lists_the_features_where_the_needed_ones_lack(tmp_path):
    make_foreign(tmp_path / "a")
    rename(tmp_path / "a", action="torque")
    counters = "timestamp, frame_index, episode_index, index, task_index"
    said = f"no feature action or actions, only observation.state, torque, {counters}; rename"
    with pytest.raises(ConversionError, match=said):
        read_lerobot(tmp_path / "a")
    rename(tmp_path / "a", torque="action")
    said = r"has no observation, only action, timestamp; leave less out, or choose another dataset"
    with pytest.raises(ConversionError, match=said):
        read_lerobot(tmp_path / "a", leave_out=["observation.state"])


def test_read_lerobot_names_all_that_is_no_number_at_once(tmp_path):
    make_foreign(tmp_path / "a")
    films = {f"observation.images.{name}": ("image", [480, 640, 1]) for name in ("top", "wrist")}
    declare(tmp_path / "a", **films, language=("string", [1]))
    with pytest.raises(ConversionError) as raised:
        read_lerobot(tmp_path / "a", leave_out=["timestamp"])
    named = "observation.images.top,observation.images.wrist,language"
    assert f"add leave_out=[timestamp,{named}]" in str(raised.value)
    assert read_lerobot(tmp_path / "a", leave_out=named.split(",")).count == 2


@pytest.mark.parametrize(
    ("dtype", "observed", "extra"),
    [
        ("bool", "float32", "bool"),
        ("uint8", "float32", "uint8"),
        ("int16", "float32", "int32"),
        ("uint32", "float64", "int64"),
        ("int64", "float64", "int64"),
        ("float16", "float32", "float32"),
    ],
)
def test_read_lerobot_widens_numbers(tmp_path, dtype, observed, extra):
    make_foreign(tmp_path / "a")
    declare(tmp_path / "a", **{"observation.seen": (dtype, [1]), "count": (dtype, [1])})
    write_store(read_lerobot(tmp_path / "a"), tmp_path / "a.zarr")
    found = DemonstrationStore.open(tmp_path / "a.zarr").read()
    assert (found["observation.seen"].dtype, found["count"].dtype) == (observed, extra)
    assert (found["observation.seen"] == 1).all()
    assert (found["count"] == 1).all()


def test_read_lerobot_finds_every_flipped_byte_of_an_export(store, tmp_path):
    write_lerobot(read_store(store.path), tmp_path / "out")
    wanted = contents(read_lerobot(tmp_path / "out"))
    for file in [path for path in (tmp_path / "out").rglob("*") if path.is_file()]:
        content = file.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 25)):
            flipped = bytearray(content)
            flipped[place] ^= 0xFF
            file.write_bytes(flipped)
            with pytest.raises(ConversionError):
                contents(read_lerobot(tmp_path / "out"))
        file.write_bytes(content)
    assert contents(read_lerobot(tmp_path / "out")) == wanted


def test_read_lerobot_of_an_export_without_our_record(store, tmp_path):
    """It is read as any other dataset, as the line about an edited file advises."""
    grown = DemonstrationStore.create(
        tmp_path / "b.zarr", {"x": 1}, 1, {"fps": 20}, scalar_types={"seed": "int64"}
    )
    row = np.ones((2, 1), np.float32)
    grown.append(Episode({"x": row}, row, row[:, 0], row[:, 0] > 0, scalars={"seed": 3}))
    write_lerobot(read_store(grown.path), tmp_path / "out")
    (tmp_path / "out/meta/reconverge.json").rename(tmp_path / "out/meta/aside.json")
    write_store(read_lerobot(tmp_path / "out"), tmp_path / "back.zarr")
    np.testing.assert_array_equal(
        DemonstrationStore.open(tmp_path / "back.zarr").read()["action"], row
    )


def test_write_lerobot_guards_every_page(store, tmp_path):
    """A flipped byte is found by readers that know no record of ours, too."""
    write_lerobot(read_store(store.path), tmp_path / "out")
    (tmp_path / "out/meta/reconverge.json").unlink()
    file = tmp_path / "out/data/chunk-000/file-000.parquet"
    content = bytearray(file.read_bytes())
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(ConversionError, match="is truncated or edited"):
        contents(read_lerobot(tmp_path / "out"))


@pytest.mark.skipif(not LEROBOT, reason="RECONVERGE_LEROBOT names no python that has lerobot")
def test_write_lerobot_is_read_by_lerobot(store, tmp_path):
    store_ = DemonstrationStore.open(store.path, "a")
    store_.update_attributes({"task": "lift"})
    write_lerobot(read_store(store.path), tmp_path / "out")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    environment.pop("PYTHONPATH", None)  # datasets there is Hugging Face's
    command = [LEROBOT, "-c", READ, str(tmp_path / "out")]
    process = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr[-2000:]
    found = json.loads(process.stdout.splitlines()[-1])
    rows = {
        name: values.astype(np.float32) for name, values in store.read().items()
    }  # as it makes its tensors
    assert (found["episodes"], found["fps"], set(found["tasks"])) == (3, 20, {"lift"})
    seen = np.concatenate([rows[key] for key in store.observation_sizes], axis=1)
    np.testing.assert_array_equal(np.array(found["state"], np.float32), seen)
    np.testing.assert_array_equal(np.array(found["action"], np.float32)[:, 0], rows["action"])
    assert np.flatnonzero(found["done"]).tolist() == [3, 4, 11]
    last = np.minimum(
        np.arange(12) + 1, np.repeat([3, 4, 11], [4, 1, 7])
    )  # the last action of an episode repeats
    np.testing.assert_array_equal(np.array(found["action"], np.float32)[:, 1], rows["action"][last])
    np.testing.assert_allclose(found["mean"], store.read()["action"].mean(0))
    np.testing.assert_allclose(found["std"], store.read()["action"].std(0))
