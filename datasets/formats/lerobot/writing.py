"""Write LeRobot datasets of version 3, which the `lerobot` package's LeRobotDataset reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reconverge.datasets.formats.arrays import ConversionError, check_name
from reconverge.datasets.formats.episode_attributes import EPISODE_ATTRIBUTES, EpisodeAttributes
from reconverge.datasets.formats.exchange import Demonstrations, batches, dictionary
from reconverge.datasets.formats.lerobot.frames import (
    CHUNK_FILES,
    DATA,
    FILE_BYTES,
    INFO,
    DataFiles,
)
from reconverge.datasets.formats.lerobot.reading import (
    CHECKSUMS,
    COUNTERS,
    EPISODES,
    OUR_RECORD,
    STATE,
    STATS,
    TASKS,
    file_checksum,
)
from reconverge.datasets.formats.pictures.sizes import without_pictures
from reconverge.datasets.layout import Episode
from reconverge.datasets.sums import signed
from reconverge.files import creating

RESERVED_FEATURES = (STATE, "next.reward", "next.success")
Arrays = dict[str, np.ndarray]


@dataclass
class Written:
    """Collect what the files of `meta` say of the frames."""

    episodes: list[dict[str, Any]] = field(default_factory=list)  # rows of meta/episodes
    statistics: list[dict[str, Arrays]] = field(default_factory=list)  # of each episode by feature
    features: dict[str, dict[str, Any]] = field(default_factory=dict)


def write_lerobot(
    demonstrations: Demonstrations, path: Path, fps: int | float | None = None
) -> None:
    """Make a dataset of one task, whole or not at all. Raises ConversionError.

    All observations side by side are `observation.state`, unless they came from LeRobot. `fps` are
    control steps a second, by default from the attributes. Pictures are left out.
    """
    demonstrations = without_pictures(demonstrations)
    rate = fps or frames_per_second(demonstrations.attributes)
    if not rate:
        raise ConversionError(
            f"{demonstrations.source}: does not say how many steps a second has; add fps=20"
        )
    for name in (*demonstrations.observation_sizes, *demonstrations.extra_sizes):
        check_name(demonstrations.source, name)
        if name in COUNTERS or (name in RESERVED_FEATURES and name in demonstrations.extra_sizes):
            raise ConversionError(
                f"{demonstrations.source}: {name} is a name that LeRobot needs; leave it out"
            )
    stated = [demonstrations.attributes.get(name) for name in ("language_instruction", "task")]
    task = str(stated[0] or stated[1] or "unnamed task")
    with creating(path) as folder:
        (folder / "meta").mkdir(parents=True)
        with (
            DataFiles(folder) as files,
            EpisodeAttributes(folder / "meta" / EPISODE_ATTRIBUTES) as attributes,
        ):
            written = _write_data(demonstrations, rate, files, attributes)
        _write_episodes(folder, written, task)
        _write_json(folder / STATS, _overall(written.statistics))
        _write_json(folder / INFO, _info(demonstrations, rate, written))
        _write_tasks(folder / TASKS, task)
        _write_record(folder, demonstrations)


def frames_per_second(attributes: Mapping[str, Any]) -> int | float | None:
    """Return the control steps a second in a store's attributes, if any."""
    simulator = dictionary(attributes, "simulator")
    env_kwargs = dictionary(dictionary(attributes, "env_args"), "env_kwargs")
    found = (attributes.get("fps"), simulator.get("control_frequency"))
    return next(filter(None, (*found, env_kwargs.get("control_freq"))), None)


def _write_data(
    demonstrations: Demonstrations,
    fps: int | float,
    files: DataFiles,
    attributes: EpisodeAttributes,
) -> Written:
    """Write all frames."""
    written, index = Written(), 0
    for batch in batches(demonstrations.episodes):
        frames: list[Arrays] = []
        for episode, _ in batch:
            frames.append(
                _frames(demonstrations, episode, len(written.episodes) + len(frames), index, fps)
            )
            index += len(episode.action)
        joined = {name: np.concatenate([arrays[name] for arrays in frames]) for name in frames[0]}
        place = files.write(pa.table({name: _column(rows) for name, rows in joined.items()}))
        for (episode, _), arrays in zip(batch, frames, strict=True):
            written.episodes.append(_row(episode, arrays, place))
            written.statistics.append({name: _statistics(rows) for name, rows in arrays.items()})
        written.features = {
            n: {"dtype": rows.dtype.name, "shape": [rows.shape[1]]} for n, rows in joined.items()
        }
        attributes.write(own for _, own in batch)
    return written


def _frames(
    demonstrations: Demonstrations, episode: Episode, number: int, index: int, fps: int | float
) -> Arrays:
    """Return one episode's features and counters, [T, size] each."""
    length = len(episode.action)
    steps = np.arange(length)
    state = _state(episode.observations)
    generated = {
        "next.done": steps == length - 1,
        "timestamp": (steps / fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, number),
        "index": index + steps,
        "task_index": np.zeros(length, np.int64),
    }
    optional = {"next.reward": episode.reward, "next.success": episode.success}
    arrays = {
        **state,
        "action": episode.action,
        **{name: rows for name, rows in optional.items() if rows is not None},
    }
    arrays |= {name: rows for name, rows in generated.items() if name not in episode.extras}
    return {name: rows.reshape(length, -1) for name, rows in {**arrays, **episode.extras}.items()}


def _state(observations: Mapping[str, np.ndarray]) -> Arrays:
    """Join observations side by side, unless LeRobot gave them."""
    if all(key.startswith("observation.") for key in observations):
        return dict(observations)
    return {STATE: np.concatenate(list(observations.values()), axis=1)}  # in float64 if any is


def _column(rows: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(rows).ravel())
    return flat if rows.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _row(episode: Episode, arrays: Arrays, place: dict[str, int]) -> dict[str, Any]:
    """Make a row of meta/episodes."""
    length, start = len(episode.action), int(arrays["index"][0, 0])
    return {
        "episode_index": int(arrays["episode_index"][0, 0]),
        "length": length,
        "dataset_from_index": start,
        "dataset_to_index": start + length,
        **{f"data/{name}": number for name, number in place.items()},
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        **{f"scalars/{name}": value for name, value in episode.scalars.items()},
    }


def _statistics(rows: np.ndarray) -> Arrays:
    values = rows.astype(np.float64)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
    }


def _overall(statistics: list[dict[str, Arrays]]) -> dict[str, dict[str, list]]:
    """Combine the statistics of episodes to those of all steps."""
    overall = {}
    for name in statistics[0]:
        parts = [episode[name] for episode in statistics]
        count = np.array([part["count"] for part in parts])
        mean = np.stack([part["mean"] for part in parts])
        variance = np.stack([part["std"] for part in parts]) ** 2
        center = (count * mean).sum(0) / count.sum()
        overall[name] = {
            "min": np.min([part["min"] for part in parts], axis=0).tolist(),
            "max": np.max([part["max"] for part in parts], axis=0).tolist(),
            "mean": center.tolist(),
            "std": np.sqrt(
                (count * (variance + (mean - center) ** 2)).sum(0) / count.sum()
            ).tolist(),
            "count": [int(count.sum())],
        }
    return overall


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
    features = {
        name: {**feature, "names": _names(demonstrations, name, feature["shape"][0])}
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
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{count}"},
        "data_path": DATA,
        "video_path": None,
        "features": features,
    }


def _names(demonstrations: Demonstrations, feature: str, size: int) -> list[str] | None:
    """Name each number of a feature; None for a counter."""
    sizes = demonstrations.observation_sizes
    if feature == STATE and STATE not in sizes:
        return [f"{key}_{i}" for key, n in sizes.items() for i in range(n)]
    return [f"{feature}_{i}" for i in range(size)] if size > 1 else None


def _write_record(folder: Path, demonstrations: Demonstrations) -> None:
    """Write the store's schema and attributes, with checksums of all other files and of itself."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    checksums = {file.relative_to(folder).as_posix(): file_checksum(file) for file in files}
    record = {**demonstrations.record, CHECKSUMS: checksums}
    _write_json(folder / OUR_RECORD, signed(folder, record))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=4))
