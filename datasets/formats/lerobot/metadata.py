"""The files of `meta` of a LeRobot dataset of version 3: what its data files and videos hold."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reconverge.datasets.formats.exchange import Demonstrations, dictionary
from reconverge.datasets.formats.lerobot.camera_features import IMAGE, VIDEO, feature_of
from reconverge.datasets.formats.lerobot.frames import CHUNK_FILES, DATA, FILE_BYTES, INFO
from reconverge.datasets.formats.lerobot.reading import EPISODES, STATE, STATS, TASKS
from reconverge.datasets.formats.lerobot.statistics import Arrays, overall
from reconverge.datasets.formats.lerobot.video_files import VIDEO_BYTES, video_info
from reconverge.datasets.formats.lerobot.videos import VIDEO_PATH
from reconverge.files import write_json


@dataclass
class Written:
    """Collect what the files of `meta` say of the frames."""

    episodes: list[dict[str, Any]] = field(default_factory=list)  # rows of meta/episodes
    statistics: list[dict[str, Arrays]] = field(default_factory=list)  # of each episode by feature
    features: dict[str, dict[str, Any]] = field(default_factory=dict)


def write_metadata(
    folder: Path, demonstrations: Demonstrations, fps: int | float, written: Written
) -> None:
    """Write episodes, statistics, the description of the features, and the only task."""
    stated = [demonstrations.attributes.get(name) for name in ("language_instruction", "task")]
    task = str(stated[0] or stated[1] or "unnamed task")
    _write_episodes(folder, written, task)
    write_json(folder / STATS, overall(written.statistics))
    write_json(folder / INFO, _info(demonstrations, fps, written))
    _write_tasks(folder / TASKS, task)


def described_cameras(
    demonstrations: Demonstrations, fps: int | float, videos: bool
) -> dict[str, dict[str, Any]]:
    """Describe the features of cameras."""
    return {
        feature_of(camera): {
            "dtype": VIDEO if videos else IMAGE,
            "shape": list(shape),
            "names": ["height", "width", "channels"],
            **({"info": video_info(shape, fps)} if videos else {}),
        }
        for camera, shape in demonstrations.pictures.items()
    }


def _write_episodes(folder: Path, written: Written, task: str) -> None:
    """Write meta/episodes: one row an episode, its statistics in flat columns."""
    rows, statistics = written.episodes, written.statistics
    columns: dict[str, list] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["tasks"] = [[task]] * len(rows)
    for name, kinds in statistics[0].items():
        for kind in kinds:
            columns[f"stats/{name}/{kind}"] = [
                episode[name][kind].tolist() for episode in statistics
            ]
    path = folder / EPISODES.format(chunk_index=0, file_index=0)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path, write_page_checksum=True)


def _write_tasks(path: Path, task: str) -> None:
    """Write the table of tasks as pandas does, with their texts as the index."""
    index = "__index_level_0__"
    kinds = {"task_index": ("int64", "int64"), index: ("unicode", "object")}
    columns = [
        {
            "name": None if name == index else name,
            "field_name": name,
            "pandas_type": pandas,
            "numpy_type": kind,
            "metadata": None,
        }
        for name, (pandas, kind) in kinds.items()
    ]
    described = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": columns,
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": [0], index: [task]})
    table = table.replace_schema_metadata({"pandas": json.dumps(described)})
    pq.write_table(table, path, write_page_checksum=True)


def _info(demonstrations: Demonstrations, fps: int | float, written: Written) -> dict[str, Any]:
    attributes, count = demonstrations.attributes, len(written.episodes)
    filmed = any(feature["dtype"] == VIDEO for feature in written.features.values())
    features = {
        name: {"names": _names(demonstrations, name, feature["shape"][0])} | feature
        for name, feature in written.features.items()
    }
    return {
        "codebase_version": "v3.0",
        "robot_type": attributes.get("robot_type")
        or dictionary(attributes, "simulator").get("robot"),
        "total_episodes": count,
        "total_frames": sum(row["length"] for row in written.episodes),
        "total_tasks": 1,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": FILE_BYTES >> 20,
        "video_files_size_in_mb": VIDEO_BYTES >> 20,
        "fps": fps,
        "splits": {"train": f"0:{count}"},
        "data_path": DATA,
        "video_path": VIDEO_PATH if filmed else None,
        "features": features,
    }


def _names(demonstrations: Demonstrations, feature: str, size: int) -> list[str] | None:
    """Name each number of a feature; None for a counter."""
    sizes = demonstrations.observation_sizes
    if feature == STATE and STATE not in sizes:
        return [f"{key}_{i}" for key, n in sizes.items() for i in range(n)]
    return [f"{feature}_{i}" for i in range(size)] if size > 1 else None
