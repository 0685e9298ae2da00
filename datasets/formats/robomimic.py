"""Read and write robomimic's HDF5 files (robomimic.github.io/docs/datasets/overview.html).

Only low-dimensional arrays are converted.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from reconverge.datasets.formats.arrays import (
    RESTORE,
    ConversionError,
    check_left_out,
    check_name,
    check_rows,
    legal_types,
)
from reconverge.datasets.formats.env_args import input_frame, make_env_args, parse_env_args
from reconverge.datasets.formats.exchange import (
    Demonstrations,
    make_episode,
    row_shapes,
    rows_by_name,
)
from reconverge.datasets.formats.hdf5 import (
    arrays_below,
    find_group,
    open_file,
    plain,
    write_array,
)
from reconverge.datasets.layout import RESERVED, Episode
from reconverge.errors import unknown
from reconverge.files import creating

OUR_RECORD = "reconverge"  # attribute of `data` that we write: the store's attributes and schema
DATA_ATTRIBUTES = ("total", "env_args", OUR_RECORD)
DEMO_ATTRIBUTES = ("num_samples", "scalars")
STORE_NAMES = {"actions": "action", "rewards": "reward"}
SUCCESS_RULE = "reward >= 1"  # robosuite's reward, sparse or dense, is 1 where the task is solved


@dataclass(frozen=True)
class Field:
    """Describe an array that every episode has by its path in a demo's group and its rows."""

    path: str
    dtype: np.dtype
    row: tuple[int, ...]
    name: str

    @cached_property
    def size(self) -> int:
        return int(np.prod(self.row))

    @cached_property
    def store_type(self) -> str:
        """Return its type in a store, where rewards are real numbers."""
        return "float64" if self.name == "reward" and self.dtype.kind in "iub" else self.dtype.name


def read_robomimic(
    path: Path, filter_key: str | None = None, leave_out: Collection[str] = ()
) -> Demonstrations:
    """Read all demonstrations or those of `mask/<filter_key>`, in the order of their numbers.

    Observations keep their names; `next_obs/x` becomes the extra `next_obs.x`. A step succeeds if
    its reward reaches 1, unless the file has successes of its own. Raises ConversionError.
    """
    with open_file(path) as file:
        data = find_group(str(path), file, "data")
        names, masks = _chosen(path, file, data, filter_key)
        where = f"{path}: {names[0]}"
        found = _fields(where, find_group(where, data, names[0]))
        check_left_out(str(path), leave_out, found.keys() - {"action"})
        fields = {name: field for name, field in found.items() if name not in leave_out}
        stated = {name: plain(f"{path}: data", value) for name, value in data.attrs.items()}
    own = OUR_RECORD in stated
    record = (
        _own_record(str(path), stated[OUR_RECORD]) if own else _record(str(path), fields, stated)
    )
    if not own or filter_key is not None:
        record = {**record, "episode_names": names, "masks": masks}
    episodes = _episodes(path, names, fields, record)
    return Demonstrations.from_record(str(path), len(names), episodes, record, leave_out)


def write_robomimic(demonstrations: Demonstrations, path: Path) -> None:
    """Make a file that robomimic's SequenceDataset reads, whole or not at all."""
    attributes = demonstrations.attributes
    names = episode_names(attributes, demonstrations.count)
    steps = 0
    with creating(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        for name, (episode, own) in zip(names, demonstrations.episodes, strict=True):
            demo = data.create_group(name)
            demo.attrs["num_samples"] = len(episode.action)
            demo.attrs["scalars"] = json.dumps(dict(episode.scalars))
            for key, value in own.items():
                demo.attrs[key] = value
            for place, rows in _places(episode, attributes):
                folder, _, last = place.rpartition("/")
                write_array(demo.require_group(folder) if folder else demo, last, rows)
            steps += len(episode.action)
        data.attrs["total"] = steps
        data.attrs["env_args"] = json.dumps(make_env_args(attributes), indent=4)
        for key, value in attributes.get("robomimic", {}).get("attributes", {}).items():
            data.attrs[key] = value
        data.attrs[OUR_RECORD] = json.dumps({**demonstrations.schema, **attributes})
        for key, members in attributes.get("masks", {}).items():
            file[f"mask/{key}"] = np.array(
                [member for member in members if member in names], dtype="S"
            )


def episode_names(attributes: Mapping[str, Any], count: int) -> list[str]:
    """Return the recorded names; demo_0, demo_1, ... if episodes have been added since."""
    names = attributes.get("episode_names", [])
    return names if len(names) == count else [f"demo_{i}" for i in range(count)]


def _places(episode: Episode, attributes: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the path in the demo's group and the rows of each array, in its original shape."""
    places = {
        "action": "actions",
        "reward": "rewards",
        **attributes.get("robomimic", {}).get("paths", {}),
    }
    derived = attributes.get("success_from") == SUCCESS_RULE
    for name, rows in rows_by_name(episode, attributes).items():
        if name in episode.observations:
            yield f"obs/{name}", rows
        elif name != "success" or not derived:
            yield places.get(name, name), rows


def _chosen(
    path: Path, file: h5py.File, data: h5py.Group, filter_key: str | None
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the episodes to read, in natural order, and those of each filter key."""
    names = sorted((check_name(str(path), name) for name in data), key=_natural)
    masks = _masks(path, file, names) if "mask" in file else {}
    if filter_key is not None:
        if filter_key not in masks:
            legal = sorted(masks) or ["none (the file has no mask)"]
            raise unknown(f"filter= of {path}", filter_key, legal, ConversionError)
        names = [name for name in names if name in masks[filter_key]]
        masks = {key: [name for name in members if name in names] for key, members in masks.items()}
    if not names:
        raise ConversionError(f"{path}: holds no episode to convert; choose another file or filter")
    return names, {key: members for key, members in masks.items() if members}


def _masks(path: Path, file: h5py.File, names: list[str]) -> dict[str, list[str]]:
    """Read the names of the episodes that each filter key has."""
    masks: dict[str, list[str]] = {}
    group = find_group(str(path), file, "mask").id
    for key, array in arrays_below(f"{path}: mask", group):
        values = np.ravel(array.read(f"{path}: mask/{key}"))
        masks[key] = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
        surplus = sorted(set(masks[key]) - set(names))
        if surplus:
            raise ConversionError(
                f"{path}: mask/{key} names {surplus[0]!r}, which data lacks; {RESTORE}"
            )
    return masks


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _store_name(path: str) -> str:
    return STORE_NAMES.get(path, path.removeprefix("obs/").replace("/", "."))


def _fields(where: str, demo: h5py.Group) -> dict[str, Field]:
    """Describe the arrays of a demo by their names in a store."""
    fields: dict[str, Field] = {}
    for path, array in arrays_below(where, demo.id):
        name = _store_name(path)
        if name in fields:
            raise ConversionError(
                f"{where}: {path} and {fields[name].path} would both be {name}; rename one"
            )
        fields[name] = Field(path, array.dtype, array.shape[1:], name)
    if "action" not in fields:
        raise ConversionError(f"{where}: actions are missing; {RESTORE}")
    if not any(field.path.startswith("obs/") for field in fields.values()):
        raise ConversionError(
            f"{where}: obs is missing; make it with robomimic's dataset_states_to_obs.py"
        )
    return fields


def _record(source: str, fields: Mapping[str, Field], stated: dict[str, Any]) -> dict[str, Any]:
    """Return schema and attributes of the store that a file of others becomes."""
    observations = [name for name, field in fields.items() if field.path.startswith("obs/")]
    special = (*observations, *RESERVED)
    extras = [name for name in fields if name not in special]
    found: dict[str, Any] = {
        "observation_sizes": {name: fields[name].size for name in observations},
        "action_size": fields["action"].size,
        "extra_sizes": {name: fields[name].size for name in extras},
        "scalar_types": {},
        "types": {
            name: field.store_type
            for name, field in fields.items()
            if name != "success" and field.store_type != "float32"
        },
        "absent": [name for name in ("reward", "success") if name not in fields],
        "row_shapes": row_shapes({name: field.row for name, field in fields.items()}),
        "robomimic": {
            "paths": {name: fields[name].path for name in extras if "/" in fields[name].path},
            "attributes": {
                name: value for name, value in stated.items() if name not in DATA_ATTRIBUTES
            },
        },
    }
    if found["absent"] == ["success"]:
        found |= {"absent": [], "success_from": SUCCESS_RULE}
    if "env_args" in stated:
        env_args = parse_env_args(source, stated["env_args"])
        frame = input_frame(source, env_args)
        found["env_args"] = env_args
        if frame:
            found["input_frame"] = frame
        if env_args.get("env_version"):
            found["versions"] = {"robosuite": str(env_args["env_version"])}
    return found


def _own_record(source: str, text: Any) -> dict[str, Any]:
    """Read the record that we wrote."""
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:  # dict() raises both for JSON that is no object
        raise ConversionError(
            f"{source}: attribute {OUR_RECORD} was edited ({error}); {RESTORE}"
        ) from error


def _episodes(
    path: Path, names: list[str], fields: Mapping[str, Field], record: Mapping[str, Any]
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    with open_file(path) as file:
        for name in names:
            where = f"{path}: {name}"
            demo = find_group(where, file["data"], name)
            rows = _rows(where, demo, fields)
            if record.get("success_from") == SUCCESS_RULE and "reward" in rows:
                rows["success"] = rows["reward"] >= 1
            own = {key: plain(f"{where}: {key}", value) for key, value in demo.attrs.items()}
            scalars = _own_record(where, own.get("scalars", "{}"))
            own = {key: value for key, value in own.items() if key not in DEMO_ATTRIBUTES}
            kept = [key for key in record["observation_sizes"] if key in rows]
            yield make_episode(rows, kept, scalars), own


def _rows(where: str, demo: h5py.Group, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
    """Read the arrays of one demo and compare each with the first demo's."""
    found = dict(arrays_below(where, demo.id))
    lacking = sorted(field.path for field in fields.values() if field.path not in found)
    if lacking:
        raise ConversionError(
            f"{where}: {lacking[0]} is missing, which the first episode has; {RESTORE}"
        )
    length = next(iter(found["actions"].shape), 0)
    stated = demo.attrs.get("num_samples", length)
    if stated != length or not length:
        raise ConversionError(
            f"{where}: num_samples is {stated}, actions has {length} rows; {RESTORE}"
        )
    rows = {}
    for name, field in fields.items():
        array, here = found[field.path], f"{where}: {field.path}"
        if (array.dtype, array.shape[1:]) != (field.dtype, field.row):
            was = f"{field.dtype} rows of shape {field.row}"
            raise ConversionError(
                f"{here} has {array.dtype} rows of shape {array.shape[1:]}, the first has {was}"
            )
        values = array.read(here).astype(field.store_type, copy=False)
        rows[name] = check_rows(
            here, values, length, legal_types(name, field.path.startswith("obs/"))
        )
    return rows
