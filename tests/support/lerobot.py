"""Make a dataset as LeRobot's recorder does."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def make_foreign(path, tasks=("lift the cube",), lengths=(3, 2)):
    """Make a dataset of one file an episode, without rewards; return its arrays by episode."""
    rng, ends = np.random.default_rng(0), np.cumsum(lengths)
    number = {"dtype": "int64", "shape": [1], "names": None}
    vector = {"dtype": "float32", "shape": [2], "names": ["x", "y"]}
    counters = ("frame_index", "episode_index", "index", "task_index")
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so101",
        "fps": 30,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": len(tasks),
        "features": {
            "observation.state": vector,
            "action": vector,
            "timestamp": {**number, "dtype": "float32"},
        }
        | dict.fromkeys(counters, number),
    }
    arrays = []
    for i, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        rows = {
            name: rng.standard_normal((length, 2), np.float32)
            for name in ("observation.state", "action")
        }
        columns = {
            name: pa.array(values.tolist(), pa.list_(pa.float32())) for name, values in rows.items()
        }
        steps = np.arange(length)
        columns |= {
            "timestamp": (steps / 30).astype(np.float32),
            "frame_index": steps,
            "index": steps + end - length,
        }
        columns |= {
            "episode_index": np.full(length, i),
            "task_index": np.full(length, i % len(tasks)),
        }
        file = path / f"data/chunk-000/file-{i:03d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file)
        arrays.append(rows)
    episodes = {
        "episode_index": list(range(len(lengths))),
        "length": list(lengths),
        "tasks": [[tasks[i % len(tasks)]] for i in range(len(lengths))],
    }
    (path / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.table(episodes), path / "meta/episodes/chunk-000/file-000.parquet")
    (path / "meta/info.json").write_text(json.dumps(info))
    return arrays


def as_version_2(path, tasks=("lift the cube",)):
    """Turn the dataset of `make_foreign` into the layout of v2.1: a file and a line an episode."""
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    episodes = path / "meta/episodes/chunk-000/file-000.parquet"
    lines = [json.dumps(row) for row in pq.read_table(episodes).to_pylist()]
    (path / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    named = [json.dumps({"task_index": i, "task": task}) for i, task in enumerate(tasks)]
    (path / "meta/tasks.jsonl").write_text("\n".join(named) + "\n")
    shutil.rmtree(path / "meta/episodes")
    for file in (path / "data/chunk-000").iterdir():
        file.rename(file.with_name(file.name.replace("file-", "episode_000")))
