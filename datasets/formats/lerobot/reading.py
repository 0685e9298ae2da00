"""Read LeRobot datasets v3 (huggingface.co/docs/lerobot/lerobot-dataset-v3) with pyarrow alone."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reconverge.datasets.formats.arrays import (
    RESTORE,
    ConversionError,
    check_left_out,
    check_name,
)
from reconverge.datasets.formats.episode_attributes import (
    EPISODE_ATTRIBUTES,
    read_episode_attributes,
)
from reconverge.datasets.formats.exchange import Demonstrations, make_episode
from reconverge.datasets.formats.lerobot.frames import (
    INFO,
    STORE_NAMES,
    one_line,
    read_frames,
)
from reconverge.datasets.layout import STEP_TYPES, Episode
from reconverge.errors import unknown

STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
OUR_RECORD = "meta/reconverge.json"  # that we write: the store's attributes and schema
STATE = "observation.state"
COUNTERS = ("frame_index", "episode_index", "index", "task_index")


def read_lerobot(
    path: Path, filter_key: str | None = None, leave_out: Collection[str] = ()
) -> Demonstrations:
    """Read the episodes of the only task of a dataset, or of the task that `filter_key` names.

    Features keep their names but `next.reward` and `next.success`; a dataset that we wrote gives
    its store back. Raises ConversionError.
    """
    info = _json(path, INFO)
    features = _features(path, info, leave_out)
    lengths, scalars, chosen = _episodes_of(path, info, filter_key)
    names = {feature: STORE_NAMES.get(feature, feature) for feature in features}
    own = (path / OUR_RECORD).exists()
    record = _json(path, OUR_RECORD) if own else _record(info, features, names, chosen)
    demonstrations = Demonstrations.from_record(str(path), len(lengths), [], record, leave_out)
    for name in leave_out if own else ():
        if name not in record["extra_sizes"]:
            legal = ", ".join(record["extra_sizes"]) or "nothing"
            raise ConversionError(
                f"{path}: leave_out={name} would leave no whole store; choose from {legal}"
            )
    stated = read_episode_attributes(path / "meta" / EPISODE_ATTRIBUTES, info["total_episodes"])
    keys = demonstrations.observation_sizes
    kept = {*keys, *demonstrations.extra_sizes, "action", "reward", "success"}

    def episodes() -> Iterator[tuple[Episode, dict[str, Any]]]:
        for i, (rows, attributes) in enumerate(
            zip(read_frames(path, features, lengths, info), stated, strict=True)
        ):
            if i in lengths:
                given = {names[feature]: values for feature, values in rows.items()}
                given |= _split(demonstrations, given) if own else {}
                wanted = {name: values for name, values in given.items() if name in kept}
                yield (
                    make_episode(
                        wanted, keys, {name: column[i] for name, column in scalars.items()}
                    ),
                    attributes,
                )

    return replace(demonstrations, episodes=episodes())


def _split(
    demonstrations: Demonstrations, given: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Split the observations that our writer joined to one state."""
    sizes = demonstrations.observation_sizes
    if STATE not in given or STATE in sizes:
        return {}
    edges = np.cumsum(list(sizes.values()))[:-1]
    parts = zip(sizes, np.split(given[STATE], edges, axis=1), strict=True)
    return {key: part.astype(demonstrations.type_of(key), copy=False) for key, part in parts}


def _json(path: Path, name: str) -> dict[str, Any]:
    """Read a file that holds a JSON object."""
    if not (path / name).is_file():
        raise ConversionError(
            f"{path}: {name} is missing: no LeRobot dataset v3, or a broken one; {RESTORE}"
        )
    try:
        value = json.loads((path / name).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConversionError(
            f"{path}: {name} is truncated or edited ({error}); {RESTORE}"
        ) from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: {name} holds no object; {RESTORE}")
    return value


def _features(
    path: Path, info: dict[str, Any], leave_out: Collection[str]
) -> dict[str, tuple[str, int]]:
    """Return the type and the size of each feature to read."""
    version, features = info.get("codebase_version"), info.get("features")
    if not str(version).startswith("v3."):
        remedy = "bring it to version 3 with LeRobot's convert_dataset_v21_to_v30"
        raise ConversionError(
            f"{path}: codebase_version is {version!r}, only v3.x is read; {remedy}"
        )
    if not isinstance(features, dict) or "action" not in features:
        raise ConversionError(f"{path}: {INFO} declares no feature action; {RESTORE}")
    for name in ("total_episodes", "total_frames", "fps"):
        if not isinstance(info.get(name), (int, float)) or info[name] <= 0:
            raise ConversionError(
                f"{path}: {name} is {info.get(name)!r}, expected more than 0; {RESTORE}"
            )
    check_left_out(str(path), leave_out, [name for name in features if name != "action"])
    found = {}
    for name, feature in features.items():
        if name in COUNTERS or name in leave_out:
            continue
        check_name(f"{path}: {INFO}", name)
        feature = feature if isinstance(feature, dict) else {}
        dtype, shape = feature.get("dtype"), feature.get("shape")
        if dtype not in STEP_TYPES:
            what = "a picture" if dtype in ("video", "image") else f"of type {dtype!r}"
            raise ConversionError(
                f"{path}: {name} is {what}; only numbers are converted; add leave_out=[{name}]"
            )
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ConversionError(
                f"{path}: {name} has shape {shape!r}, expected a list of numbers above 0; {RESTORE}"
            )
        found[name] = (dtype, math.prod(shape))
    return found


def _record(
    info: dict[str, Any], features: dict[str, tuple[str, int]], names: dict[str, str], task: str
) -> dict[str, Any]:
    """Return schema and attributes of the store that a dataset of others becomes."""
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
    """Read whole parquet files."""
    try:
        return [pq.read_table(file) for file in sorted(path.glob(pattern))]
    except (pa.ArrowException, OSError) as error:
        raise ConversionError(
            f"{path}: {pattern} is truncated or edited ({one_line(error)}); {RESTORE}"
        ) from error


def _episodes_of(
    path: Path, info: dict[str, Any], task: str | None
) -> tuple[dict[int, int], dict[str, list[Any]], str]:
    """Return the lengths of one task's episodes by number, the scalars of all, and the task."""
    rows = [
        row for table in _tables(path, "meta/episodes/*/*.parquet") for row in table.to_pylist()
    ]
    try:
        numbers = [row["episode_index"] for row in rows]
        lengths = {row["episode_index"]: row["length"] for row in rows}
        tasks = {row["episode_index"]: ", ".join(row["tasks"]) for row in rows}
        prefix = "scalars/"
        scalars = {
            key[len(prefix) :]: [row[key] for row in rows]
            for key in rows[0]
            if key.startswith(prefix)
        }
    except (KeyError, TypeError, IndexError) as error:
        raise ConversionError(f"{path}: meta/episodes lacks {error}; {RESTORE}") from error
    if numbers != list(range(info["total_episodes"])):
        stated = info["total_episodes"]
        raise ConversionError(
            f"{path}: meta/episodes has {len(rows)} episodes, {INFO} says {stated}; {RESTORE}"
        )
    bad = [i for i in numbers if not isinstance(lengths[i], int) or lengths[i] <= 0]
    if bad or sum(lengths.values()) != info["total_frames"]:
        found = (
            f"episode {bad[0]} has length {lengths[bad[0]]}"
            if bad
            else f"{sum(lengths.values())} steps together"
        )
        raise ConversionError(
            f"{path}: {found}, {INFO} says {info['total_frames']} steps in all; {RESTORE}"
        )
    legal = sorted(set(tasks.values()))
    if task is None and len(legal) > 1:
        raise ConversionError(
            f"{path}: has {len(legal)} tasks, a store holds one; add filter= one of {legal}"
        )
    if task is not None and task not in legal:
        raise unknown(f"filter= of {path}", task, legal, ConversionError)
    chosen = legal[0] if task is None else task
    return {i: length for i, length in lengths.items() if tasks[i] == chosen}, scalars, chosen
