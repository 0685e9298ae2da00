"""Read LeRobot datasets v2 and v3 (huggingface.co/docs/lerobot/lerobot-dataset-v3) with pyarrow."""

import json
import math
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from reconverge.datasets.formats.arrays import (
    RESTORE,
    ConversionError,
    Field,
    check_left_out,
    check_name,
    refuse,
    schema_of,
)
from reconverge.datasets.formats.episode_attributes import read_episode_attributes
from reconverge.datasets.formats.exchange import Demonstrations, dictionary, make_episode
from reconverge.datasets.formats.lerobot.camera_features import (
    IMAGE,
    PIXELS,
    Camera,
    find_cameras,
    picture_features,
)
from reconverge.datasets.formats.lerobot.frames import (
    ARROW_NAMES,
    INFO,
    check_columns,
    parquet_files,
    read_frames,
)
from reconverge.datasets.formats.lerobot.image_columns import read_images
from reconverge.datasets.formats.lerobot.videos import read_video
from reconverge.datasets.layout import RESERVED, Episode
from reconverge.datasets.pixels import PICTURES
from reconverge.datasets.sums import checksum
from reconverge.errors import one_line, unknown

STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODE_LINES = "meta/episodes.jsonl"  # of version 2
VERSIONS = ("v2.0", "v2.1", "v3.")  # beginnings of those that are read
OUR_RECORD = "meta/reconverge.json"  # that we write: the store's attributes and schema
CHECKSUMS = "files_crc32"  # in our record: of every other file
STATE = "observation.state"
OBSERVATION, OUTCOME = "observation.", "next."  # beginnings of the names of features
STORE_NAMES = {"next.reward": "reward", "next.success": "success"}
ACTIONS = ("action", "actions")  # the second is openpi's name
NUMBERS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
TYPES = (*NUMBERS, *ARROW_NAMES.values())  # of features that are numbers
OBSTACLES = {**dict.fromkeys(PIXELS, "pixels"), "string": "text"}
TIME = "timestamp"
STATISTICS = "stats/"  # beginning of the names of columns of meta/episodes
COUNTERS = ("frame_index", "episode_index", "index", "task_index")


def read_lerobot(
    path: Path,
    filter_key: str | None = None,
    leave_out: Collection[str] = (),
    pictures: bool = True,
    picture_size: int | None = None,
) -> Demonstrations:
    """Read the episodes of the only task of a dataset, or of the task that `filter_key` names.

    Features keep their names but `actions`, `next.reward` and `next.success`; where none is called
    `observation.*`, the other real numbers are the observations. A dataset that we wrote gives its
    store back. Videos and images become pictures, of `picture_size` pixels if it is given.
    Raises ConversionError.
    """
    path = path.absolute()  # pyarrow and ffmpeg take a colon in another for that of an address
    info = _json(path, INFO)
    cameras = find_cameras(path, info, leave_out, picture_size) if pictures else []
    unseen = [] if pictures else [n for n in picture_features(info) if n not in leave_out]
    features = _features(path, info, leave_out, [*unseen, *(c.feature for c in cameras)])
    described = _episode_rows(path)
    lengths, scalars, chosen = _episodes_of(path, info, described, filter_key)
    own = (path / OUR_RECORD).exists()
    if not (own or cameras or any(field.observation for field in features.values())):
        raise ConversionError(
            f"{path}: has no observation, only {', '.join(features)}; leave less out, or choose "
            "another dataset"
        )
    record = _own_record(path, info, leave_out) if own else _record(info, features, chosen)
    record |= {PICTURES: {camera.name: camera.made for camera in cameras}}
    schema = Demonstrations.from_record(str(path), len(lengths), [], record, leave_out)
    stated = read_episode_attributes(path / "meta", info["total_episodes"])
    keys = schema.observation_sizes
    if own:  # an extra may have a name as observations of others have
        features = {
            name: replace(field, observation=field.observation and name not in schema.extra_sizes)
            for name, field in features.items()
        }
    kept = {*keys, *schema.extra_sizes, *RESERVED} - set(schema.absent)
    images = [camera.feature for camera in cameras if camera.dtype == IMAGE]

    def episodes() -> Iterator[tuple[Episode, dict[str, Any]]]:
        frames = read_frames(path, features, lengths, info, images)
        for i, ((rows, table), attributes) in enumerate(zip(frames, stated, strict=True)):
            if i in lengths:
                given = {features[feature].name: values for feature, values in rows.items()}
                given |= _split(schema, given) if own else {}
                wanted = {name: values for name, values in given.items() if name in kept}
                own_scalars = {name: scalars[name][i] for name in schema.scalar_types}
                seen = {c.name: _pictures(path, info, described[i], table, c) for c in cameras}
                yield make_episode(wanted, keys, own_scalars, seen), attributes

    lines = [f"left out {', '.join(unseen)}: pictures"] if unseen else []
    return Demonstrations.from_record(
        str(path), len(lengths), episodes(), record, leave_out, lines, sum(lengths.values())
    )


def _pictures(
    path: Path, info: dict[str, Any], row: dict[str, Any], table: pa.Table, camera: Camera
) -> UInt8[np.ndarray, "T H W 3"]:
    """Read the pictures of the episode that `row` of meta/episodes describes."""
    if camera.dtype == IMAGE:
        return read_images(path, row["episode_index"], table[camera.feature], camera)
    return read_video(path, info, row, camera)


def _own_record(path: Path, info: Mapping[str, Any], leave_out: Collection[str]) -> dict[str, Any]:
    """Read the record that we wrote if no byte of the dataset has changed since."""
    record = _json(path, OUR_RECORD)
    if "checksum" in record and record["checksum"] != checksum(record):
        raise ConversionError(f"{path}: {OUR_RECORD} was edited or damaged; {RESTORE}")
    for name, stated in record.pop(CHECKSUMS, {}).items():
        if not (path / name).is_file() or file_checksum(path / name) != stated:
            raise ConversionError(
                f"{path}: {name} was edited or damaged since it was exported; {RESTORE}, or rename "
                f"{OUR_RECORD} to read it as any other dataset"
            )
    able = [*record.get("extra_sizes", {}), *picture_features(info)]
    for name in leave_out:
        if name not in able:
            raise ConversionError(
                f"{path}: leave_out={name} would leave no whole store; choose from "
                f"{', '.join(able) or 'nothing'}"
            )
    return record


def file_checksum(path: Path) -> int:
    """Compute the CRC-32 of a file."""
    return zlib.crc32(path.read_bytes())


def are_joined(observations: Iterable[str]) -> bool:
    """Tell if our writer joins observations of these names: not if all are LeRobot's."""
    return not all(name.startswith(OBSERVATION) for name in observations)


def _split(schema: Demonstrations, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Split the observations that our writer joined to one state."""
    sizes = schema.observation_sizes
    if STATE not in given or not are_joined(sizes):
        return {}
    edges = np.cumsum(list(sizes.values()))[:-1]
    parts = zip(sizes, np.split(given[STATE], edges, axis=1), strict=True)
    return {key: part.astype(schema.type_of(key), copy=False) for key, part in parts}


def _json(path: Path, name: str) -> dict[str, Any]:
    """Read a file that holds a JSON object."""
    if not (path / name).is_file():
        raise ConversionError(
            f"{path}: {name} is missing: no LeRobot dataset, or a broken one; {RESTORE}"
        )
    try:
        value = json.loads((path / name).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(
            f"{path}: {name} is truncated or edited ({error}); {RESTORE}"
        ) from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: {name} holds no object; {RESTORE}")
    return value


def _features(
    path: Path, info: dict[str, Any], leave_out: Collection[str], apart: Collection[str]
) -> dict[str, Field]:
    """Return the features to read, without those that are left out or read apart."""
    version: Any = info.get("codebase_version")
    features: Any = info.get("features")
    if not str(version).startswith(VERSIONS):
        raise ConversionError(
            f"{path}: codebase_version is {version!r}, only v2.0, v2.1 and v3.x are read; bring it "
            "to v2.1 with the scripts of the lerobot package"
        )
    action = _action_of(path, features)
    kinds: dict[str, Any] = {"total_episodes": int, "total_frames": int, "fps": (int, float)}
    for name, kind in kinds.items():
        if not isinstance(info.get(name), kind) or not 0 < info[name] < math.inf:
            raise ConversionError(
                f"{path}: {name} is {info.get(name)!r}, expected a number above 0, a whole "
                f"one of episodes and frames; {RESTORE}"
            )
    check_left_out(str(path), leave_out, [name for name in features if name != action])
    found: dict[str, Field] = {}
    obstacles: dict[str, str] = {}
    for name, feature in features.items():
        if name in COUNTERS or name in leave_out or name in apart:
            continue
        check_name(f"{path}: {INFO}", name)
        dtype = feature.get("dtype") if isinstance(feature, dict) else None
        told = "action" if name == action else name
        if dtype not in TYPES:
            obstacles[told] = OBSTACLES.get(str(dtype), f"of type {dtype!r}")
            continue
        named = STORE_NAMES.get(told, told)
        found[name] = _field(path, name, named, dtype, feature.get("shape"))
        if found[name].obstacle:
            obstacles[told] = found[name].obstacle
    refuse(str(path), obstacles, leave_out)
    return _observing(features, found)


def _action_of(path: Path, features: Any) -> str:
    """Name the feature that is the action."""
    if not isinstance(features, dict) or not features:
        raise ConversionError(f"{path}: {INFO} declares no feature action; {RESTORE}")
    for name in ACTIONS:
        if name in features:
            return name
    raise ConversionError(
        f"{path}: {INFO} declares no feature {' or '.join(ACTIONS)}, only {', '.join(features)}; "
        "rename the one that holds the actions, there and in the tables"
    )


def _observing(features: Mapping[str, Any], found: dict[str, Field]) -> dict[str, Field]:
    """Take the other real numbers as observations, or else all others, if no feature of numbers is
    called `observation.*`.
    """
    kinds = {n: dictionary(features, n).get("dtype") for n in features if n.startswith(OBSERVATION)}
    if any(kind in TYPES for kind in kinds.values()):
        return found
    rest = {
        name: field
        for name, field in found.items()
        if field.name not in RESERVED and name != TIME and not name.startswith(OUTCOME)
    }
    real = {name: field for name, field in rest.items() if field.dtype.kind == "f"}
    return found | {name: replace(f, observation=True) for name, f in (real or rest).items()}


def _field(path: Path, feature: str, name: str, dtype: str, shape: Any) -> Field:
    if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ConversionError(
            f"{path}: {feature} has shape {shape!r}, expected a list of numbers above 0; {RESTORE}"
        )
    return Field(name, np.dtype(dtype), tuple(shape), feature.startswith(OBSERVATION))


def _record(info: dict[str, Any], features: dict[str, Field], task: str) -> dict[str, Any]:
    """Return schema and attributes of the store that a dataset of others becomes."""
    return {
        **schema_of({field.name: field for field in features.values()}),
        "task": task,
        "fps": info["fps"],
        "robot_type": info.get("robot_type"),
    }


def _episode_rows(path: Path) -> list[dict[str, Any]]:
    """Read what meta says of each episode, in parquet files or, before version 3, in lines."""
    place = EPISODE_LINES if (path / EPISODE_LINES).exists() else "meta/episodes"
    try:
        if place == EPISODE_LINES:
            # other ends of lines may be within a task's text
            lines = (path / place).read_text("utf-8").split("\n")
            return [json.loads(line) for line in lines if line.strip()]
        files = parquet_files(path, place)
        return [row for file in files for row in _described(path, file)]
    except ConversionError:
        raise
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise ConversionError(
            f"{path}: {place} is truncated or edited ({one_line(error)}); {RESTORE}"
        ) from error


def _described(path: Path, file: Path) -> list[dict[str, Any]]:
    """Read the rows of a file of meta/episodes, without statistics: most of its columns."""
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        names = opened.schema_arrow.names
        used = [name for name in names if not name.startswith(STATISTICS)]
        check_columns(f"{path}: {file.relative_to(path)}", names, used)
        return opened.read(used).to_pylist()


def _episodes_of(
    path: Path, info: dict[str, Any], rows: list[dict[str, Any]], task: str | None
) -> tuple[dict[int, int], dict[str, list[Any]], str]:
    """Return the lengths of one task's episodes by number, the scalars of all, and the task."""
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
    stated = info["total_episodes"]
    if len(numbers) == stated and numbers != list(range(stated)):
        lacking = sorted({*range(stated)} - {*numbers})
        told = f"lacks episode {lacking[0]}" if lacking else "has its episodes out of order"
        raise ConversionError(
            f"{path}: meta/episodes {told}; {RESTORE}, or number the episodes in a row from 0"
        )
    if len(numbers) != stated:
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
