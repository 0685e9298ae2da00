"""LeRobot dataset v3 (huggingface.co/docs/lerobot/lerobot-dataset-v3), low-dimensional: read with pyarrow alone."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.exchange import (
    BATCH_STEPS,
    EPISODE_ATTRIBUTES,
    ConversionError,
    Demonstrations,
    check_left_out,
    check_name,
    check_rows,
    described,
    legal_types,
    make_episode,
    read_episode_attributes,
)
from datasets.layout import STEP_TYPES, Episode

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
OWN = "meta/reconverge.json"  # in datasets that were written here: the store's attributes and schema
STATE = "observation.state"
STORE_NAMES = {"next.reward": "reward", "next.success": "success"}
COUNTERS = ("frame_index", "episode_index", "index", "task_index")
ARROW_NAMES = {"float": "float32", "double": "float64"}
RESTORE = "restore or download it again"


def read_lerobot(path: Path, task: str | None = None, leave_out: Collection[str] = ()) -> Demonstrations:
    """The episodes of a dataset, which must be of one task, or those of the named one. Raises ConversionError.

    Features keep their names but `next.reward` and `next.success`; a dataset written here gives its store back.
    """
    info = _json(path, INFO)
    features = _features(path, info, leave_out)
    lengths, scalars, chosen = _episodes_of(path, info, task)
    names = {feature: STORE_NAMES.get(feature, feature) for feature in features}
    own = (path / OWN).exists()
    record = _json(path, OWN) if own else _record(info, features, names, chosen)
    demonstrations = described(str(path), len(lengths), [], record, leave_out)
    for name in leave_out if own else ():
        if name not in record["extra_sizes"]:
            legal = ", ".join(record["extra_sizes"]) or "nothing"
            raise ConversionError(f"{path}: leave_out={name} would leave no whole store; choose from {legal}")
    stated = read_episode_attributes(path / "meta" / EPISODE_ATTRIBUTES, info["total_episodes"])
    keys = demonstrations.observation_sizes
    kept = {*keys, *demonstrations.extra_sizes, "action", "reward", "success"}

    def episodes() -> Iterator[tuple[Episode, dict[str, Any]]]:
        for i, (rows, attributes) in enumerate(zip(_rows(path, features, lengths, info), stated, strict=True)):
            if i in lengths:
                given = {names[feature]: values for feature, values in rows.items()}
                given |= _split(demonstrations, given) if own else {}
                wanted = {name: values for name, values in given.items() if name in kept}
                yield make_episode(wanted, keys, {name: column[i] for name, column in scalars.items()}), attributes

    return replace(demonstrations, episodes=episodes())


def _split(demonstrations: Demonstrations, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The observations that were joined to one state when the dataset was written."""
    sizes = demonstrations.observation_sizes
    if STATE not in given or STATE in sizes:
        return {}
    edges = np.cumsum(list(sizes.values()))[:-1]
    parts = zip(sizes, np.split(given[STATE], edges, axis=1), strict=True)
    return {key: part.astype(demonstrations.type_of(key), copy=False) for key, part in parts}


def _json(path: Path, name: str) -> dict[str, Any]:
    if not (path / name).is_file():
        raise ConversionError(f"{path}: {name} is missing: no LeRobot dataset v3, or a broken one; {RESTORE}")
    try:
        value = json.loads((path / name).read_text())
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path}: {name} is truncated or edited ({error}); {RESTORE}") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: {name} holds no object; {RESTORE}")
    return value


def _features(path: Path, info: dict[str, Any], leave_out: Collection[str]) -> dict[str, tuple[str, int]]:
    """Type and size of each feature to read."""
    version, features = info.get("codebase_version"), info.get("features")
    if not str(version).startswith("v3."):
        remedy = "bring it to version 3 with LeRobot's convert_dataset_v21_to_v30"
        raise ConversionError(f"{path}: codebase_version is {version!r}, only v3.x is read; {remedy}")
    if not isinstance(features, dict) or "action" not in features:
        raise ConversionError(f"{path}: {INFO} declares no feature action; {RESTORE}")
    for name in ("total_episodes", "total_frames", "fps"):
        if not isinstance(info.get(name), (int, float)) or info[name] <= 0:
            raise ConversionError(f"{path}: {name} is {info.get(name)!r}, expected more than 0; {RESTORE}")
    check_left_out(str(path), leave_out, [name for name in features if name != "action"])
    found = {}
    for name, feature in features.items():
        if name in COUNTERS or name in leave_out:
            continue
        check_name(f"{path}: {INFO}", name)
        dtype, shape = (feature.get("dtype"), feature.get("shape")) if isinstance(feature, dict) else (None, None)
        if dtype not in STEP_TYPES:
            what = "a picture" if dtype in ("video", "image") else f"of type {dtype!r}"
            raise ConversionError(f"{path}: {name} is {what}; only numbers are converted; add leave_out=[{name}]")
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ConversionError(f"{path}: {name} has shape {shape!r}, expected a list of numbers above 0; {RESTORE}")
        found[name] = (dtype, math.prod(shape))
    return found


def _record(
    info: dict[str, Any], features: dict[str, tuple[str, int]], names: dict[str, str], task: str
) -> dict[str, Any]:
    """Schema and attributes of the store that a dataset of others becomes."""
    observations = [name for name in features if name.startswith("observation.")]
    reserved = ("action", *STORE_NAMES)
    extras = [name for name in features if name not in (*observations, *reserved)]
    return {
        "observation_sizes": {name: features[name][1] for name in observations},
        "action_size": features["action"][1],
        "extra_sizes": {name: features[name][1] for name in extras},
        "scalar_types": {},
        "types": {
            names[name]: dtype
            for name, (dtype, _) in features.items()
            if name != "next.success" and dtype != "float32"
        },
        "absent": [name for feature, name in STORE_NAMES.items() if feature not in features],
        "task": task,
        "fps": info["fps"],
        "robot_type": info.get("robot_type"),
    }


def _tables(path: Path, pattern: str) -> list[pa.Table]:
    try:
        return [pq.read_table(file) for file in sorted(path.glob(pattern))]
    except (pa.ArrowException, OSError) as error:
        raise ConversionError(f"{path}: {pattern} is truncated or edited ({_line(error)}); {RESTORE}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _episodes_of(
    path: Path, info: dict[str, Any], task: str | None
) -> tuple[dict[int, int], dict[str, list[Any]], str]:
    """Lengths of the chosen task's episodes by their numbers, what else is recorded of all episodes, and the task."""
    rows = [row for table in _tables(path, "meta/episodes/*/*.parquet") for row in table.to_pylist()]
    try:
        numbers = [row["episode_index"] for row in rows]
        lengths = {row["episode_index"]: row["length"] for row in rows}
        tasks = {row["episode_index"]: ", ".join(row["tasks"]) for row in rows}
        prefix = "scalars/"
        scalars = {key[len(prefix) :]: [row[key] for row in rows] for key in rows[0] if key.startswith(prefix)}
    except (KeyError, TypeError, IndexError) as error:
        raise ConversionError(f"{path}: meta/episodes lacks {error}; {RESTORE}") from error
    if numbers != list(range(info["total_episodes"])):
        stated = info["total_episodes"]
        raise ConversionError(f"{path}: meta/episodes has {len(rows)} episodes, {INFO} says {stated}; {RESTORE}")
    bad = [i for i in numbers if not isinstance(lengths[i], int) or lengths[i] <= 0]
    if bad or sum(lengths.values()) != info["total_frames"]:
        found = f"episode {bad[0]} has length {lengths[bad[0]]}" if bad else f"{sum(lengths.values())} steps together"
        raise ConversionError(f"{path}: {found}, {INFO} says {info['total_frames']} steps in all; {RESTORE}")
    legal = sorted(set(tasks.values()))
    if task is None and len(legal) > 1:
        raise ConversionError(f"{path}: has {len(legal)} tasks, a store holds one; add filter= one of {legal}")
    if task is not None and task not in legal:
        raise ConversionError(f"{path}: filter={task!r} is no task of it; choose from {legal}")
    chosen = legal[0] if task is None else task
    return {i: length for i, length in lengths.items() if tasks[i] == chosen}, scalars, chosen


def _rows(
    path: Path, features: dict[str, tuple[str, int]], lengths: dict[int, int], info: dict[str, Any]
) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of every episode, one after another; those in `lengths` have that length."""
    waiting: list[pa.Table] = []
    number = 0
    for table in _batches(path, [*features, "episode_index", "frame_index"]):
        indices = table["episode_index"].to_numpy()
        edges = np.flatnonzero(np.diff(indices, prepend=indices[0] - 1))
        for start, stop in zip(edges, [*edges[1:], len(indices)], strict=True):
            if indices[start] != number:
                yield _checked(path, number, waiting, features, lengths)
                number, waiting = number + 1, []
            if indices[start] != number or number >= info["total_episodes"]:
                raise ConversionError(f"{path}: data has episode {indices[start]} where {number} should be; {RESTORE}")
            waiting.append(table.slice(start, stop - start))
    yield _checked(path, number, waiting, features, lengths)
    if number + 1 != info["total_episodes"]:
        raise ConversionError(f"{path}: data ends with episode {number} of {info['total_episodes']}; {RESTORE}")


def _batches(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    files = sorted(path.glob("data/*/*.parquet"))
    if not files:
        raise ConversionError(f"{path}: data has no parquet file; {RESTORE}")
    for file in files:
        name = file.relative_to(path)
        try:
            parquet = pq.ParquetFile(file)
            lacking = [column for column in columns if column not in parquet.schema_arrow.names]
            if lacking:
                raise ConversionError(f"{path}: {name} lacks {lacking[0]}; {RESTORE}")
            for batch in parquet.iter_batches(BATCH_STEPS, columns=columns):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise ConversionError(f"{path}: {name} is truncated or edited ({_line(error)}); {RESTORE}") from error


def _checked(
    path: Path, number: int, tables: list[pa.Table], features: dict[str, tuple[str, int]], lengths: dict[int, int]
) -> dict[str, np.ndarray]:
    """The arrays of one episode."""
    where = f"{path}: episode {number}"
    if not tables:
        raise ConversionError(f"{where}: is missing in data; {RESTORE}")
    table = pa.concat_tables(tables)
    length = lengths.get(number, len(table))
    if len(table) != length or (table["frame_index"].to_numpy() != np.arange(length)).any():
        raise ConversionError(f"{where}: frames are missing or twice there, expected {length} in a row; {RESTORE}")
    rows = {}
    for name, (dtype, size) in features.items():
        legal = legal_types(STORE_NAMES.get(name, name), name.startswith("observation."))
        values = _numbers(f"{where}: {name}", table[name], dtype, length * size)
        rows[name] = check_rows(f"{where}: {name}", values.reshape(length, size), length, legal)
    return rows


def _numbers(where: str, column: pa.ChunkedArray, dtype: str, count: int) -> np.ndarray:
    """All numbers of a column of numbers, or of lists of them, one after another."""
    values = column.combine_chunks()
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    empty = values.null_count
    while pa.types.is_nested(values.type) and hasattr(values, "flatten") and not pa.types.is_struct(values.type):
        values = values.flatten()
        empty += values.null_count
    found = ARROW_NAMES.get(str(values.type), str(values.type))
    if empty or found != dtype or len(values) != count:
        what = f"{len(values)} numbers of type {found}, {empty} empty"
        raise ConversionError(f"{where} has {what}; {INFO} says {count} of {dtype}; {RESTORE}")
    return values.to_numpy(zero_copy_only=False)
