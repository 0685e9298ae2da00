"""Read robomimic's HDF5 files (robomimic.github.io/docs/datasets/overview.html), LIBERO's too.

Pictures of `obs` are converted: robomimic's are upright, LIBERO's upside down, and turned.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import h5py
import numpy as np

from reconverge.datasets.formats.arrays import (
    RESTORE,
    ConversionError,
    Field,
    check_name,
    check_rows,
    schema_of,
)
from reconverge.datasets.formats.env_args import input_frame, parse_env_args
from reconverge.datasets.formats.exchange import (
    Demonstrations,
    dictionary,
    make_episode,
    row_shapes,
    without,
)
from reconverge.datasets.formats.hdf5.contents import (
    arrays_below,
    find_group,
    open_file,
    read_attributes,
)
from reconverge.datasets.formats.hdf5.survey import Kind, Layout, survey, without_steps
from reconverge.datasets.formats.pictures.keys import (
    are_upside_down,
    find_cameras,
    known_cameras,
    oriented,
    picture_schema,
    turned,
)
from reconverge.datasets.layout import Episode
from reconverge.datasets.pixels import PICTURES
from reconverge.errors import unknown

OUR_RECORD = "reconverge"  # attribute of `data` that we write: the store's attributes and schema
DATA_ATTRIBUTES = ("total", "env_args", OUR_RECORD)
DEMO_ATTRIBUTES = ("num_samples", "scalars")
STORE_NAMES = {"actions": "action", "rewards": "reward"}
STEPS = ("actions", "rewards", "dones", "states", "obs/", "next_obs/")
SUCCESS_RULES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "reward > 0": ("reward", lambda rows: rows > 0),
    "reward >= 1": ("reward", lambda rows: rows >= 1),
    "dones": ("dones", lambda rows: rows != 0),
}
"""What `success_from` may name: the array that tells where a task is solved, and how."""
LAYOUT = Layout(STORE_NAMES, "obs/", STEPS, pictures=("obs/",), above="obs/")


def success_rule(record: Mapping[str, Any]) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the array that tells where a task is solved, and how; "" if none does."""
    return SUCCESS_RULES.get(str(record.get("success_from")), ("", np.asarray))


def read_robomimic(
    path: Path,
    filter_key: str | None = None,
    leave_out: Collection[str] = (),
    pictures: bool = True,
) -> Demonstrations:
    """Read all demonstrations or those of `mask/<filter_key>`, in the order of their numbers.

    Observations keep their names; `next_obs/x` becomes the extra `next_obs.x`, and
    `obs/agentview_image` the pictures of agentview. Where no array says
    when a task is solved, rewards do that are 0 or one positive number. Raises ConversionError.
    """
    source = str(path)
    with open_file(path) as file:
        data = find_group(source, file, "data")
        chosen, masks, warnings = _chosen(source, file, data, filter_key)
        kinds = {name: _kinds(source, data, name) for name in chosen}
        names = [name for name in chosen if kinds[name]["actions"][1][0]]
        warnings += without_steps(source, chosen, names)
        kept_kinds = {name: kinds[name] for name in names}
        fields, left = survey(source, LAYOUT, kept_kinds, leave_out, pictures)
        if not any(field.observation for field in fields.values()):
            raise ConversionError(
                f"{source}: no episode has obs; make it with robomimic's dataset_states_to_obs.py"
            )
        stated = read_attributes(f"{source}: data", data)
        own = OUR_RECORD in stated
        if own:
            record = _own_record(source, stated[OUR_RECORD], leave_out)
        else:
            record = _record(source, fields, stated)
            record |= _success([data[name] for name in names], fields, record)
        cameras = find_cameras(source, fields, known_cameras(record))
        upside_down = not own and are_upside_down(stated, cameras)
        record = {**without(record, [PICTURES]), **picture_schema(cameras)}
        record = turned(record) if upside_down else record
    kept = {key: [name for name in members if name in kept_kinds] for key, members in masks.items()}
    kept = {key: members for key, members in kept.items() if members}
    recorded = {key: members for key, members in dictionary(record, "masks").items() if members}
    told = kept == recorded and record.get("episode_names", names) == names
    if not own or filter_key is not None or not told:
        record |= {"episode_names": names, "masks": kept}
    steps = sum(kinds[name]["actions"][1][0] for name in names)
    episodes = _episodes(path, names, fields, record, cameras, upside_down)
    return Demonstrations.from_record(
        source, len(names), episodes, record, leave_out, [*warnings, *left], steps
    )


def _chosen(
    source: str, file: h5py.File, data: h5py.Group, filter_key: str | None
) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Return the names of the episodes of a filter key, in natural order, those of all filter keys,
    and a line on each key that names others.
    """
    names = sorted((check_name(source, name) for name in data), key=_natural)
    masks = _masks(source, file) if "mask" in file else {}
    if filter_key is not None and not masks:
        raise ConversionError(f"{source}: has no filter keys (no group mask); leave out filter=")
    if filter_key is not None and filter_key not in masks:
        raise unknown(f"filter= of {source}", filter_key, sorted(masks), ConversionError)
    missing = {key: [n for n in members if n not in data] for key, members in masks.items()}
    warnings = [
        f"mask/{key} names {', '.join(m)}, which data lacks" for key, m in missing.items() if m
    ]
    wanted = set(names if filter_key is None else masks[filter_key])
    return [name for name in names if name in wanted], masks, warnings


def _masks(source: str, file: h5py.File) -> dict[str, list[str]]:
    """Read the names of the episodes that each filter key has."""
    group = find_group(source, file, "mask").id
    found = {
        key: np.ravel(array.read(f"{source}: mask/{key}"))
        for key, array in arrays_below(f"{source}: mask", group)
    }
    return {
        key: [name.decode() if isinstance(name, bytes) else str(name) for name in names]
        for key, names in found.items()
    }


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _kinds(source: str, data: h5py.Group, name: str) -> dict[str, Kind]:
    """Return type and shape of every array of a demo by its path."""
    where = f"{source}: {name}"
    demo = find_group(where, data, name)
    kinds = {path: (array.dtype, array.shape) for path, array in arrays_below(where, demo.id)}
    if "actions" not in kinds:
        raise ConversionError(f"{where}: actions are missing; {RESTORE}")
    length = next(iter(kinds["actions"][1]), 0)
    stated = demo.attrs.get("num_samples", length)
    if stated != length or not kinds["actions"][1]:
        raise ConversionError(
            f"{where}: num_samples is {stated}, actions has {length} rows; {RESTORE}"
        )
    return kinds


def _record(source: str, fields: Mapping[str, Field], stated: dict[str, Any]) -> dict[str, Any]:
    """Return schema and attributes of the store that a file of others becomes."""
    schema = schema_of(fields)
    found: dict[str, Any] = {
        **schema,
        "row_shapes": row_shapes(fields),
        "robomimic": {
            "paths": {n: fields[n].path for n in schema["extra_sizes"] if "/" in fields[n].path},
            "attributes": without(stated, DATA_ATTRIBUTES),
        },
    }
    if "env_args" not in stated:
        return found
    env_args = parse_env_args(source, stated["env_args"])
    found["env_args"] = env_args
    if frame := input_frame(source, env_args):
        found["input_frame"] = frame
    if env_args.get("env_version"):
        found["versions"] = {"robosuite": str(env_args["env_version"])}
    return found | _libero(stated, env_args)


def _libero(stated: Mapping[str, Any], env_args: Mapping[str, Any]) -> dict[str, str]:
    """Return LIBERO's task, which its BDDL file is named after, and its instruction, if any."""
    found = {}
    if bddl := stated.get("bddl_file_name") or env_args.get("bddl_file"):
        found["task"] = PurePath(str(bddl)).stem
    try:
        problem = json.loads(stated.get("problem_info", "{}"))
        found["language_instruction"] = "".join(problem["language_instruction"]).strip('" ')
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # not LIBERO's
    return found


def _success(
    demos: list[h5py.Group], fields: Mapping[str, Field], record: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what tells where a task is solved, if no array does: rewards that are 0 or one
    positive number, else `dones` if not all episodes end with one.

    Rewards that are shaped or scaled do not tell it.
    """
    options = dictionary(dictionary(record, "env_args"), "env_kwargs")
    sparse = not options.get("reward_shaping") and options.get("reward_scale", 1) == 1
    rule = None
    if sparse and "reward" in fields:
        rewards = (demo[fields["reward"].path][()] for demo in demos)
        values = set().union(*(np.unique(rows).tolist() for rows in rewards))
        rule = "reward > 0" if len(values) == 2 and min(values) == 0 else None
    if rule is None and "dones" in fields:
        dones = [np.ravel(demo[fields["dones"].path][()]) != 0 for demo in demos]
        always = all(rows[-1] for rows in dones)
        rule = "dones" if not always and any(rows.any() for rows in dones) else None
    if rule is None or "success" in fields:
        return {}
    absent = [name for name in record["absent"] if name != "success"]
    return {"absent": absent, "success_from": rule}


def _own_record(source: str, text: Any, leave_out: Collection[str]) -> dict[str, Any]:
    """Read the record that we wrote."""
    record = _object(source, text)
    if success_rule(record)[0] in leave_out:
        absent = [*record.get("absent", ()), "success"]
        return {**without(record, ["success_from"]), "absent": absent}
    return record


def _object(source: str, text: Any) -> dict[str, Any]:
    """Read a JSON object that we wrote."""
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:  # the first two are dict()'s as well
        raise ConversionError(
            f"{source}: attribute {OUR_RECORD} was edited ({error}); {RESTORE}"
        ) from error


def _episodes(
    path: Path,
    names: list[str],
    fields: Mapping[str, Field],
    record: Mapping[str, Any],
    cameras: Mapping[str, Field],
    upside_down: bool,
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    keys = [key for key in record["observation_sizes"] if key in fields]
    told_by, rule = success_rule(record)
    with open_file(path) as file:
        for name in names:
            where = f"{path}: {name}"
            demo = find_group(where, file["data"], name)
            rows = _rows(where, demo, fields)
            if told_by in rows and "success" not in (*rows, *record.get("absent", ())):
                rows["success"] = rule(rows[told_by])
            own = read_attributes(where, demo)
            scalars = _object(where, own.get("scalars", "{}"))
            seen = _pictures(where, demo, cameras, upside_down)
            yield make_episode(rows, keys, scalars, seen), without(own, DEMO_ATTRIBUTES)


def _rows(where: str, demo: h5py.Group, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
    """Read the arrays of one demo."""
    found = dict(arrays_below(where, demo.id))
    length = found["actions"].shape[0]
    return {
        name: check_rows(
            f"{where}: {field.path}",
            found[field.path].read(f"{where}: {field.path}"),
            length,
            field.store_type,
        )
        for name, field in fields.items()
        if not field.picture
    }


def _pictures(
    where: str, demo: h5py.Group, cameras: Mapping[str, Field], upside_down: bool
) -> dict[str, np.ndarray]:
    """Read the pictures of one demo by camera, upright."""
    found = dict(arrays_below(where, demo.id)) if cameras else {}
    return {
        camera: oriented(found[field.path].read(f"{where}: {field.path}"), upside_down)
        for camera, field in cameras.items()
    }
