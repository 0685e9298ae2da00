"""robomimic HDF5 (robomimic.github.io/docs/datasets/overview.html), low-dimensional: read and written."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.exchange import (
    ConversionError,
    Demonstrations,
    check_left_out,
    check_name,
    check_rows,
    described,
    legal_types,
    made_whole,
    make_episode,
    row_shapes,
    rows_by_name,
)
from datasets.hdf5 import RESTORE, arrays_below, find_group, opened, plain, write_array
from datasets.layout import RESERVED, Episode
from datasets.robomimic_env import input_frame, make_env_args, parse_env_args

OWN = "reconverge"  # attribute of `data` in files that were written here: the store's attributes and schema
OF_DATA = ("total", "env_args", OWN)
OF_DEMO = ("num_samples", "scalars")
STORE_NAMES = {"actions": "action", "rewards": "reward"}
SOLVED = "reward >= 1"  # robosuite's reward, sparse or dense, is 1 where the task is solved


@dataclass(frozen=True)
class Field:
    """An array that every episode has: where it is in a demo's group, and its rows."""

    path: str
    dtype: np.dtype
    row: tuple[int, ...]
    name: str

    @cached_property
    def size(self) -> int:
        return int(np.prod(self.row))

    @cached_property
    def kept_type(self) -> str:
        """Its type in a store; rewards are real numbers there."""
        return "float64" if self.name == "reward" and self.dtype.kind in "iub" else self.dtype.name


def read_robomimic(path: Path, filter_key: str | None = None, leave_out: Collection[str] = ()) -> Demonstrations:
    """The demonstrations of a file, or those of its `mask/<filter_key>`, in the order of their numbers.

    Observations keep their names; `next_obs/x` becomes the extra `next_obs.x`. Success is where the reward reaches 1,
    unless the file says it. Raises ConversionError.
    """
    with opened(path) as file:
        data = find_group(str(path), file, "data")
        names, masks = _chosen(path, file, data, filter_key)
        where = f"{path}: {names[0]}"
        found = _fields(where, find_group(where, data, names[0]))
        check_left_out(str(path), leave_out, found.keys() - {"action"})
        fields = {name: field for name, field in found.items() if name not in leave_out}
        stated = {name: plain(f"{path}: data", value) for name, value in data.attrs.items()}
    own = OWN in stated
    record = _own_record(str(path), stated[OWN]) if own else _record(str(path), fields, stated)
    if not own or filter_key is not None:
        record = {**record, "episode_names": names, "masks": masks}
    demonstrations = described(str(path), len(names), [], record, leave_out)
    return replace(demonstrations, episodes=_episodes(path, names, fields, record))


def write_robomimic(demonstrations: Demonstrations, path: Path) -> None:
    """Make a file that robomimic's SequenceDataset reads, whole or not at all. Raises ConversionError."""
    attributes = demonstrations.attributes
    names = episode_names(attributes, demonstrations.count)
    steps = 0
    with made_whole(path) as temporary, h5py.File(temporary, "w") as file:
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
        data.attrs[OWN] = json.dumps({**demonstrations.schema, **attributes})
        for key, members in attributes.get("masks", {}).items():
            file[f"mask/{key}"] = np.array([member for member in members if member in names], dtype="S")


def episode_names(attributes: Mapping[str, Any], count: int) -> list[str]:
    """Those that the episodes came with, or demo_0, demo_1, ... where episodes have been added since."""
    names = attributes.get("episode_names", [])
    return names if len(names) == count else [f"demo_{i}" for i in range(count)]


def _places(episode: Episode, attributes: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Where each array of an episode goes in its group, in the shape that it came in."""
    places = {"action": "actions", "reward": "rewards", **attributes.get("robomimic", {}).get("paths", {})}
    derived = attributes.get("success_from") == SOLVED
    for name, rows in rows_by_name(episode, attributes).items():
        if name in episode.observations:
            yield f"obs/{name}", rows
        elif name != "success" or not derived:
            yield places.get(name, name), rows


def _chosen(
    path: Path, file: h5py.File, data: h5py.Group, filter_key: str | None
) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the episodes to read in their natural order, and which of them each filter key has."""
    names = sorted((check_name(str(path), name) for name in data), key=_natural)
    masks: dict[str, list[str]] = {}
    listed = arrays_below(f"{path}: mask", find_group(str(path), file, "mask").id) if "mask" in file else ()
    for key, array in listed:
        values = array.read(f"{path}: mask/{key}")
        masks[key] = [value.decode() if isinstance(value, bytes) else str(value) for value in np.ravel(values)]
        unknown = sorted(set(masks[key]) - set(names))
        if unknown:
            raise ConversionError(f"{path}: mask/{key} names {unknown[0]!r}, which data lacks; {RESTORE}")
    if filter_key is not None:
        if filter_key not in masks:
            legal = ", ".join(sorted(masks)) or "none, the file has no mask"
            raise ConversionError(f"{path}: filter={filter_key} is no filter key; choose from {legal}")
        names = [name for name in names if name in masks[filter_key]]
        masks = {key: [name for name in members if name in names] for key, members in masks.items()}
    if not names:
        raise ConversionError(f"{path}: there is no episode to convert; choose another file or filter")
    return names, {key: members for key, members in masks.items() if members}


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _store_name(path: str) -> str:
    return STORE_NAMES.get(path, path.removeprefix("obs/").replace("/", "."))


def _fields(where: str, demo: h5py.Group) -> dict[str, Field]:
    """The arrays of a demo by their names in a store."""
    fields: dict[str, Field] = {}
    for path, array in arrays_below(where, demo.id):
        name = _store_name(path)
        if name in fields:
            raise ConversionError(f"{where}: {path} and {fields[name].path} would both be {name}; rename one")
        fields[name] = Field(path, array.dtype, array.shape[1:], name)
    if "action" not in fields:
        raise ConversionError(f"{where}: actions are missing; {RESTORE}")
    if not any(field.path.startswith("obs/") for field in fields.values()):
        raise ConversionError(f"{where}: obs is missing; make it with robomimic's dataset_states_to_obs.py")
    return fields


def _record(source: str, fields: Mapping[str, Field], stated: dict[str, Any]) -> dict[str, Any]:
    """Schema and attributes of the store that a file of others becomes."""
    observations = [name for name, field in fields.items() if field.path.startswith("obs/")]
    special = (*observations, *RESERVED)
    extras = [name for name in fields if name not in special]
    found: dict[str, Any] = {
        "observation_sizes": {name: fields[name].size for name in observations},
        "action_size": fields["action"].size,
        "extra_sizes": {name: fields[name].size for name in extras},
        "scalar_types": {},
        "types": {
            name: field.kept_type
            for name, field in fields.items()
            if name != "success" and field.kept_type != "float32"
        },
        "absent": [name for name in ("reward", "success") if name not in fields],
        "row_shapes": row_shapes({name: field.row for name, field in fields.items()}),
        "robomimic": {
            "paths": {name: fields[name].path for name in extras if "/" in fields[name].path},
            "attributes": {name: value for name, value in stated.items() if name not in OF_DATA},
        },
    }
    if found["absent"] == ["success"]:
        found |= {"absent": [], "success_from": SOLVED}
    if "env_args" in stated:
        env_args = parse_env_args(source, stated["env_args"])
        frame = input_frame(source, env_args)
        found["env_args"] = env_args
        found |= {"input_frame": frame} if frame else {}
        found |= {"versions": {"robosuite": str(env_args["env_version"])}} if env_args.get("env_version") else {}
    return found


def _own_record(source: str, text: Any) -> dict[str, Any]:
    """Those that were written here."""
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{source}: attribute {OWN} was edited ({error}); {RESTORE}") from error


def _episodes(
    path: Path, names: list[str], fields: Mapping[str, Field], record: Mapping[str, Any]
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    with opened(path) as file:
        for name in names:
            where = f"{path}: {name}"
            demo = find_group(where, file["data"], name)
            rows = _rows(where, demo, fields)
            if record.get("success_from") == SOLVED and "reward" in rows:
                rows["success"] = rows["reward"] >= 1
            own = {key: plain(f"{where}: {key}", value) for key, value in demo.attrs.items()}
            scalars = _own_record(where, own.get("scalars", "{}"))
            own = {key: value for key, value in own.items() if key not in OF_DEMO}
            kept = [key for key in record["observation_sizes"] if key in rows]
            yield make_episode(rows, kept, scalars), own


def _rows(where: str, demo: h5py.Group, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
    """The arrays of one demo, each checked against what the first demo has."""
    found = dict(arrays_below(where, demo.id))
    lacking = sorted(field.path for field in fields.values() if field.path not in found)
    if lacking:
        raise ConversionError(f"{where}: {lacking[0]} is missing, which the first episode has; {RESTORE}")
    length = next(iter(found["actions"].shape), 0)
    stated = demo.attrs.get("num_samples", length)
    if stated != length or not length:
        raise ConversionError(f"{where}: num_samples is {stated}, actions has {length} rows; {RESTORE}")
    rows = {}
    for name, field in fields.items():
        array, here = found[field.path], f"{where}: {field.path}"
        if (array.dtype, array.shape[1:]) != (field.dtype, field.row):
            was = f"{field.dtype} rows of shape {field.row}"
            raise ConversionError(f"{here} has {array.dtype} rows of shape {array.shape[1:]}, the first has {was}")
        values = array.read(here).astype(field.kept_type, copy=False)
        rows[name] = check_rows(here, values, length, legal_types(name, field.path.startswith("obs/")))
    return rows
