"""Write diffusion_policy's replay buffers, a zarr v2 directory or the same in a .zarr.zip."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

from reconverge.datasets.formats.diffusion_policy import GROUPS, OUR_RECORD
from reconverge.datasets.formats.episode_attributes import EpisodeAttributes
from reconverge.datasets.formats.exchange import (
    Demonstrations,
    batches,
    check_names,
    original_row,
    rows_by_name,
    without,
)
from reconverge.datasets.formats.pictures.keys import keys_of, known_cameras
from reconverge.datasets.layout import CHUNK_STEPS, ENDS, ZARR_OPTIONS, Column, Episode, columns
from reconverge.datasets.pixels import PICTURES, STEPS
from reconverge.files import creating


def write_diffusion_policy(demonstrations: Demonstrations, path: Path) -> None:
    """Make what diffusion_policy's ReplayBuffer reads, whole or not at all; an archive for a .zip.

    `data/<name>` has one row a step, of its original shape, `meta/<name>` one number an episode;
    the root's attributes are the store's.
    """
    check_names(demonstrations, keys=keys_of(demonstrations.record))
    with creating(path) as temporary:
        if path.suffix != ".zip":
            _write(demonstrations, temporary)
            return
        folder = temporary.with_suffix(".folder")
        _write(demonstrations, folder)
        _archive(folder, temporary)


def _write(demonstrations: Demonstrations, folder: Path) -> None:
    arrays_of = (
        demonstrations.observation_sizes,
        demonstrations.extra_sizes,
        demonstrations.scalar_types,
    )
    order: dict[str, Any] = {
        kind: list(names) for kind, names in zip(GROUPS, arrays_of, strict=True)
    }
    keys = known_cameras(demonstrations.record)
    order |= {PICTURES: keys} if keys else {}
    with (
        zarr.config.set(ZARR_OPTIONS),
        EpisodeAttributes(folder) as attributes,
    ):
        root = zarr.create_group(
            folder, zarr_format=2, attributes={**demonstrations.attributes, OUR_RECORD: order}
        )
        arrays = _make_arrays(root, demonstrations)
        steps = 0
        for batch in batches(demonstrations.episodes):
            ends = steps + np.cumsum([len(episode.action) for episode, _ in batch])
            arrays[ENDS].append(ends)
            for name in demonstrations.scalar_types:
                arrays[f"meta/{name}"].append(
                    np.array([episode.scalars[name] for episode, _ in batch])
                )
            rows = [_rows(episode, demonstrations.attributes, keys) for episode, _ in batch]
            for name in rows[0]:
                arrays[f"data/{name}"].append(np.concatenate([own[name] for own in rows]))
            attributes.write(own for _, own in batch)
            steps = int(ends[-1])


def _rows(
    episode: Episode, attributes: Mapping[str, Any], keys: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Return the arrays of an episode by their names in `data`."""
    seen = {key: episode.pictures[camera] for key, camera in keys.items()}
    return {**rows_by_name(episode, attributes), **seen}


def _columns(demonstrations: Demonstrations) -> dict[str, Column]:
    """Return every array with the type and the original shape of one row."""
    found = columns(without(demonstrations.schema, [PICTURES]))
    pictures = {
        f"data/{key}": (np.dtype(np.uint8), demonstrations.pictures[camera])
        for key, camera in known_cameras(demonstrations.record).items()
    }
    numbers = {
        name: (dtype, original_row(demonstrations.attributes, name.removeprefix("data/"), row))
        for name, (dtype, row) in found.items()
    }
    return {**numbers, **pictures}


def _make_arrays(root: zarr.Group, demonstrations: Demonstrations) -> dict[str, zarr.Array]:
    """Make empty arrays with diffusion_policy's compression."""
    compressor = numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    root.create_group("data")
    root.create_group("meta")
    return {
        name: root.create_array(
            name,
            shape=(0, *row),
            chunks=(STEPS[0] if len(row) == 3 and dtype == np.uint8 else CHUNK_STEPS, *row),
            dtype=dtype,
            compressors=compressor,
            fill_value=0,
        )
        for name, (dtype, row) in _columns(demonstrations).items()
    }


def _archive(folder: Path, path: Path) -> None:
    """Write a .zip of the folder's content, whose chunks are compressed already."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
