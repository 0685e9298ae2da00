"""Read Minari's HDF5 datasets (minari.farama.org): `episode_<n>` with one observation more than
actions.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
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
from reconverge.datasets.formats.exchange import Demonstrations, make_episode, row_shapes
from reconverge.datasets.formats.hdf5.contents import (
    arrays_below,
    find_group,
    open_file,
    read_attributes,
)
from reconverge.datasets.formats.hdf5.survey import Kind, Layout, survey, without_steps
from reconverge.datasets.layout import Episode

MAIN_DATA = ("data/main_data.hdf5", "main_data.hdf5")  # the file of a dataset's folder
METADATA = "metadata.json"  # beside it
STORE_NAMES = {
    "actions": "action",
    "rewards": "reward",
    "infos/success": "success",
    "infos/is_success": "success",
}
AFTER_ACTION = ("infos/success", "infos/is_success")  # of rows with one before the first action
ONE_MORE = ("observations", "infos/")  # arrays that have a row after the last action
STEPS = ("actions", "rewards", "observations", "terminations", "truncations")
EPISODE = "episode_"


def read_minari(path: Path, leave_out: Collection[str] = ()) -> Demonstrations:
    """Read all episodes of a dataset's folder, or of its main_data.hdf5.

    Each action is beside the observation that it was chosen on; the last observation is left out.
    Groups become parts of names: `observations/goal` is the observation `observations.goal`.
    Raises ConversionError.
    """
    source = str(path)
    places = [path / place for place in MAIN_DATA if (path / place).is_file()]
    file_path = places[0] if places else path
    with open_file(file_path) as file:
        numbers = [name.removeprefix(EPISODE) for name in file if name.startswith(EPISODE)]
        labels = [f"{EPISODE}{n}" for n in sorted((n for n in numbers if n.isdigit()), key=int)]
        kinds = {label: _kinds(source, file, label) for label in labels}
        names = [label for label in labels if kinds[label]["actions"][1][0]]
        warnings = without_steps(source, labels, names)
        layout = Layout(STORE_NAMES, "observations", STEPS)
        fields, left = survey(source, layout, {name: kinds[name] for name in names}, leave_out)
    record: dict[str, Any] = {
        **schema_of(fields),
        **_described(file_path.with_name(METADATA)),
        "row_shapes": row_shapes(fields),
        "episode_names": names,
    }
    episodes = _episodes(file_path, names, fields)
    return Demonstrations.from_record(
        source, len(names), episodes, record, leave_out, [*warnings, *left]
    )


def _described(path: Path) -> dict[str, Any]:
    """Return what the dataset says of itself, and its environment as the task."""
    try:
        metadata = dict(json.loads(path.read_text("utf-8")))
        spec = metadata.get("env_spec")
        task = (json.loads(spec) if isinstance(spec, str) else spec or {}).get("id")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {"minari": metadata, **({"task": task} if task else {})}


def _kinds(source: str, file: h5py.File, label: str) -> dict[str, Kind]:
    """Return type and shape, without the row after the last action, of every array by its path."""
    where = f"{source}: {check_name(source, label)}"
    arrays = dict(arrays_below(where, find_group(where, file, label).id))
    if "actions" not in arrays or not arrays["actions"].shape:
        raise ConversionError(f"{where}: actions are no array of one row a step; {RESTORE}")
    length = arrays["actions"].shape[0]
    return {
        path: (
            array.dtype,
            (length, *array.shape[1:]) if _surplus(path, array.shape, length) else array.shape,
        )
        for path, array in arrays.items()
    }


def _surplus(path: str, shape: tuple[int, ...], length: int) -> bool:
    return path.startswith(ONE_MORE) and shape[:1] == (length + 1,)


def _episodes(
    path: Path, names: list[str], fields: Mapping[str, Field]
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    keys = [name for name, field in fields.items() if field.observation]
    with open_file(path) as file:
        for name in names:
            where = f"{path}: {name}"
            group = find_group(where, file, name)
            rows = _rows(where, group, fields)
            yield make_episode(rows, keys), read_attributes(where, group)


def _rows(where: str, group: h5py.Group, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
    """Read the arrays of one episode, one row an action."""
    arrays = dict(arrays_below(where, group.id))
    length = arrays["actions"].shape[0]
    rows = {}
    for name, field in fields.items():
        here = f"{where}: {field.path}"
        values = arrays[field.path].read(here)
        if _surplus(field.path, values.shape, length):
            values = values[1:] if field.path in AFTER_ACTION else values[:-1]
        rows[name] = check_rows(here, values, length, field.store_type)
    return rows
