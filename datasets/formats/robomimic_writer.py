"""Write robomimic's HDF5 files; every array, attribute and name in them has a checksum."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reconverge.datasets.formats.env_args import make_env_args
from reconverge.datasets.formats.exchange import (
    Demonstrations,
    check_names,
    dictionary,
    recorded_names,
    rows_by_name,
)
from reconverge.datasets.formats.hdf5.contents import create, write_array, write_attributes
from reconverge.datasets.formats.pictures.keys import keys_of
from reconverge.datasets.formats.robomimic import OUR_RECORD, success_rule
from reconverge.datasets.layout import Episode
from reconverge.files import creating

OWN_PLACES = ("actions", "rewards", "obs")  # in the group of a demonstration
PICTURE_BYTES = 2**20  # in a chunk: robomimic's loader reads some steps at a time


def write_robomimic(demonstrations: Demonstrations, path: Path) -> None:
    """Make a file that robomimic's SequenceDataset reads, whole or not at all."""
    attributes = demonstrations.attributes
    keys = keys_of(demonstrations.record)
    check_names(demonstrations, taken_of_extras=OWN_PLACES, keys=keys)
    names = episode_names(attributes, demonstrations.count)
    steps = 0
    with creating(path) as temporary, create(temporary) as file:
        data = file.create_group("data")
        for name, (episode, own) in zip(names, demonstrations.episodes, strict=True):
            demo = data.create_group(name)
            for place, rows in _places(episode, attributes):
                write_array(demo, place, rows)
            for camera, rows in episode.pictures.items():
                write_array(demo, f"obs/{keys[camera]}", rows, PICTURE_BYTES)
            stated = {"num_samples": len(episode.action), "scalars": json.dumps(episode.scalars)}
            write_attributes(demo, {**stated, **own})
            steps += len(episode.action)
        stated = {
            "total": steps,
            "env_args": json.dumps(make_env_args(attributes), indent=4),
            **dictionary(dictionary(attributes, "robomimic"), "attributes"),
            OUR_RECORD: json.dumps(demonstrations.record),
        }
        write_attributes(data, stated)
        for key, members in dictionary(attributes, "masks").items():
            members = members if isinstance(members, list) else []
            kept = np.array([member for member in members if member in names], dtype="S")
            write_array(file, f"mask/{key}", kept)


def episode_names(attributes: Mapping[str, Any], count: int) -> list[str]:
    """Return the recorded names, and of episodes that have been added since the next demo_<n>."""
    names = recorded_names(attributes)[:count]
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"demo_(\d+)", name))]
    start = max(numbers, default=-1) + 1
    return [*names, *(f"demo_{start + i}" for i in range(count - len(names)))]


def _places(episode: Episode, attributes: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the path in the demo's group and the rows of each array, in its original shape."""
    paths = dictionary(dictionary(attributes, "robomimic"), "paths").items()
    places = {"action": "actions", "reward": "rewards"}
    places |= {name: path for name, path in paths if isinstance(path, str) and path}
    found = rows_by_name(episode, attributes)
    told_by, _ = success_rule(attributes)
    for name, rows in found.items():
        if name in episode.observations:
            yield f"obs/{name}", rows
        elif name != "success" or told_by not in found:
            yield places.get(name, name), rows
