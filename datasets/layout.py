"""A demonstration store on disk: its arrays and attributes (their rules: `rules.py`)."""

import itertools
import math
import os
import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from zarr.codecs import Crc32cCodec, ZstdCodec

from reconverge.datasets import pixels
from reconverge.errors import ReconvergeError, one_line

SCHEMA_VERSION = 1
CHUNK_STEPS = SHARD_STEPS = 8_000  # zarr takes as long for a small chunk as for a large one
SLAB_BYTES = 2**26  # that are read at a time of an array without shards
MAX_BYTES = 2**31  # of a row, and of a chunk outside a shard: each is read whole
MAX_LOST = 100_000  # chunks without a file of an array in zarr v2
SCHEMA = (
    "schema_version",
    "episodes",
    "observation_sizes",
    "action_size",
    "extra_sizes",
    "scalar_types",
    "types",
    "absent",
    pixels.PICTURES,
    "sums",
)
SUMS = SCHEMA[-1]
APPENDING = "appending"  # file that says that arrays may have rows beyond the episodes
RESERVED = ("action", "reward", "success")
SCALAR_TYPES = ("int64", "float64", "bool")
FLOAT_TYPES = ("float32", "float64")
STEP_TYPES = (*FLOAT_TYPES, "int32", "int64", "uint8", "bool")
ENDS = "meta/episode_ends"
COLLECT = "make it again with python -m tools.collect"
RESTORE = f"restore a copy, or {COLLECT}"
# Chunks that hold one value only are written too, so that a missing shard is known to be lost.
ZARR_OPTIONS = {"array.write_empty_chunks": True, "codec_pipeline.batch_size": 64}

CONVERT = "make a store of it with python -m tools.convert {} target=..."

Column = tuple[np.dtype[Any], tuple[int, ...]]  # the type and the shape of one row


class StoreError(ReconvergeError):
    """A store, or an episode for it, breaks a rule: which, where, and what to do."""


class StoreWarning(UserWarning):
    """A store may not hold what it was meant to."""


@dataclass(frozen=True)
class Episode:
    """Hold one episode of T steps; `extras` are more arrays of T rows, `scalars` single numbers,
    `pictures` those of each camera: RGB, upright.
    """

    observations: Mapping[str, Shaped[np.ndarray, "T ..."]]
    action: Float[np.ndarray, "T Da"]
    reward: Float[np.ndarray, " T"] | None = None
    success: Bool[np.ndarray, " T"] | None = None
    extras: Mapping[str, Shaped[np.ndarray, "T ..."]] = field(default_factory=dict)
    scalars: Mapping[str, int | float] = field(default_factory=dict)
    pictures: Mapping[str, UInt8[np.ndarray, "T H W 3"]] = field(default_factory=dict)


def columns(record: Mapping[str, Any]) -> dict[str, Column]:
    """Return the arrays that the attributes declare, float32 unless `types` names another type."""
    sizes = {
        **record["observation_sizes"],
        "action": record["action_size"],
        **record["extra_sizes"],
    }
    rows: dict[str, tuple[int, ...]] = {name: (size,) for name, size in sizes.items()}
    rows |= {name: () for name in ("reward", "success") if name not in record.get("absent", ())}
    types = {"success": "bool", **record.get("types", {})}
    return {
        **{
            f"data/{name}": (np.dtype(types.get(name, "float32")), row)
            for name, row in rows.items()
        },
        **{name: (np.dtype(np.uint8), row) for name, row in pixels.picture_arrays(record).items()},
        ENDS: (np.dtype(np.int64), ()),
        **{f"meta/{name}": (np.dtype(kind), ()) for name, kind in record["scalar_types"].items()},
    }


def version_2_columns(path: Path, group: zarr.Group) -> dict[str, Column]:
    """Return the arrays of diffusion_policy's zarr v2 directory.

    Nested ones too: `data/obs/x`. Warns of arrays of other groups, and of lost chunks.
    """
    check_links(path, StoreError)
    ends = find_array(path, group, ENDS, (np.dtype(np.int64), ()))
    found: dict[str, Column] = {}
    files = path.rglob(".zarray")
    for name in sorted(file.parent.relative_to(path).as_posix() for file in files):
        array = find_array(path, group, name, None)
        scalar = array.shape == ends.shape and array.dtype.name in SCALAR_TYPES
        if name.startswith("data/") or (name.startswith("meta/") and scalar):
            found[name] = (array.dtype, array.shape[1:])
            _check_chunks(path, array)
        elif name != ENDS:
            warnings.warn(f"{path}: {name} is left out: no row a step or episode", StoreWarning, 2)
    if "data/action" not in found:
        raise StoreError(f"{path}: data/action is missing; {RESTORE}")
    return found


def remedy(path: Path) -> str:
    """Say what to do about a store that breaks a rule, or about diffusion_policy's directory."""
    return converting(path) if (path / ENDS / ".zarray").exists() else RESTORE


def converting(path: Path) -> str:
    """Say how to make a store of another layout."""
    return CONVERT.format(shlex.quote(f"source={path}"))


def check_links(path: Path, error: type[ReconvergeError]) -> None:
    """Refuse links to folders or to nothing below a folder: no search for arrays follows them."""
    if found := sorted(_links(path)):
        names = ", ".join(os.path.relpath(link, path) for link in found)
        raise error(
            f"{path}: linked folders are not followed, nor links to nothing: {names}; put what "
            "they stand for in their place, as in a copy by cp -rL, or take them out"
        )


def _links(folder: Path | str) -> Iterator[str]:
    """Yield the links to anything but files below a folder, hidden ones apart."""
    for entry in os.scandir(folder):  # asks the system about links and folders alone
        if entry.is_symlink():
            yield from [] if entry.name.startswith(".") or entry.is_file() else [entry.path]
        elif entry.is_dir():
            yield from _links(entry.path)


def _check_chunks(path: Path, array: zarr.Array) -> None:
    """Refuse folders in place of chunks, and shapes with far more chunks than there are files; warn
    of missing chunks, which zarr v2 allows.
    """
    grid = [-(-n // max(k, 1)) for n, k in zip(array.shape, array.chunks, strict=True)]
    there = sum(len(files) for _, _, files in os.walk(path / array.path))
    if math.prod(grid) - there > MAX_LOST:
        raise StoreError(
            f"{path}: {array.path} has {math.prod(grid)} chunks by its shape {array.shape}, and "
            f"{there} files; {RESTORE}"
        )
    places = itertools.product(*map(range, grid)) if math.prod(grid) else ()
    files = [path / array.path / array.metadata.encode_chunk_key(place) for place in places]
    for file in files:
        if file.is_dir():
            raise StoreError(f"{path}: {file.relative_to(path)} is no file; {RESTORE}")
    lost = sum(not file.exists() for file in files)
    if lost:
        warnings.warn(
            f"{path}: {array.path} lacks {lost} of {len(files)} chunks, which read as "
            f"{array.fill_value}; restore a copy if other values were there",
            StoreWarning,
            2,
        )


def make_arrays(path: Path, record: Mapping[str, Any]) -> zarr.Group:
    """Make the zarr v3 directory of an empty store, without attributes."""
    root = zarr.create_group(path, zarr_format=3)
    root.create_group("data")
    root.create_group("meta")
    pictures = pixels.picture_arrays(record)
    for name, (dtype, row) in columns(record).items():
        chunk, shard = pixels.STEPS if name in pictures else (CHUNK_STEPS, SHARD_STEPS)
        root.create_array(
            name,
            shape=(0, *row),
            chunks=(chunk, *row),
            shards=(shard, *row),
            dtype=dtype,
            compressors=[ZstdCodec(level=3), Crc32cCodec()],
        )
    return root


def open_group(path: Path, zarr_format: Literal[2, 3], mode: str) -> zarr.Group:
    """Open the directory of a store, for reading only if the mode is "r"."""
    if not path.is_dir():
        raise StoreError(
            f"{path}: is {'no directory' if path.exists() else 'not there'}; {COLLECT}"
        )
    file = "zarr.json" if zarr_format == 3 else ".zgroup"
    if not (path / file).exists():
        again = f"delete it and {COLLECT}" if remedy(path) == RESTORE else remedy(path)
        raise StoreError(f"{path}: has no {file}: no store, or a half-written one; {again}")
    zarr_mode: Literal["r", "r+"] = "r" if mode == "r" else "r+"
    try:
        return zarr.open_group(
            path, mode=zarr_mode, zarr_format=zarr_format, use_consolidated=False
        )
    except Exception as error:  # edited JSON can fail anywhere in zarr
        raise StoreError(f"{path}: {file} cannot be read ({one_line(error)}); {RESTORE}") from error


def find_array(path: Path, group: zarr.Group, name: str, column: Column | None) -> zarr.Array:
    """Open an array of the group; its type and row shape must be those of `column`."""
    try:
        with zarr.config.set(ZARR_OPTIONS):
            array = group[name]
    except KeyError as error:
        raise StoreError(f"{path}: {name} is missing; {RESTORE}") from error
    except Exception as error:  # edited JSON can fail anywhere in zarr
        raise StoreError(
            f"{path}: {name}: metadata cannot be read ({one_line(error)}); {RESTORE}"
        ) from error
    if not isinstance(array, zarr.Array) or array.ndim == 0:
        raise StoreError(f"{path}: {name} is no array of rows; {RESTORE}")
    found = (array.dtype, array.shape[1:])
    if column is not None and found != column:
        expected = f"{column[0]} rows of shape {column[1]}"
        raise StoreError(
            f"{path}: {name} has {found[0]} rows of shape {found[1]}, not {expected}; "
            f"{remedy(path)}"
        )
    _check_size(path, array)
    return array


def _check_size(path: Path, array: zarr.Array) -> None:
    """Refuse what would take all memory: rows, and chunks outside shards, above MAX_BYTES."""
    sizes = {"rows": array.shape[1:], "chunks": () if array.shards else array.chunks}
    for what, shape in sizes.items():
        if math.prod(shape) * array.dtype.itemsize > MAX_BYTES:
            raise StoreError(
                f"{path}: {array.path} has {what} of shape {shape}, more than {MAX_BYTES >> 30} "
                f"GiB each; {RESTORE}"
            )


def _slab_steps(array: zarr.Array) -> int:
    """Return how many rows to read at a time of an array without shards."""
    row_bytes = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
    return max(1, min(SHARD_STEPS, SLAB_BYTES // row_bytes))


def slabs(path: Path, array: zarr.Array, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield rows of an array shard by shard, with the number of the first row of each."""
    step = array.shards[0] if array.shards else _slab_steps(array)
    while start < stop:
        rows = slice(start, min(start - start % step + step, stop))
        where = f"{path}: {array.path} rows {rows.start} to {rows.stop - 1}"
        file = (
            path
            / array.path
            / array.metadata.encode_chunk_key((start // step, *[0] * (array.ndim - 1)))
        )
        if array.shards and not (file.is_file() and file.stat().st_size):
            raise StoreError(
                f"{where}: the file {file.relative_to(path)} is lost or empty; {RESTORE}"
            )
        try:
            with zarr.config.set(ZARR_OPTIONS):
                values = np.asarray(array[rows])
        except Exception as error:  # damaged bytes can fail in any codec
            raise StoreError(
                f"{where}: truncated or edited ({one_line(error)}); {RESTORE}"
            ) from error
        yield start, values
        start = rows.stop


def read(path: Path, array: zarr.Array, start: int, stop: int) -> np.ndarray:
    """Read rows `start` to `stop` of an array. Raises StoreError for lost or damaged ones."""
    rows = np.empty((max(stop - start, 0), *array.shape[1:]), array.dtype)
    for first, values in slabs(path, array, start, stop):
        rows[first - start : first - start + len(values)] = values
    return rows


def drop_uncommitted(
    path: Path, arrays: Mapping[str, zarr.Array], lengths: Mapping[str, int]
) -> None:
    """Drop what an interrupted append left: files half written, and rows beyond these lengths."""
    for leftover in path.rglob("*.partial"):
        leftover.unlink()
    for name, array in arrays.items():
        if array.shape[0] > lengths[name]:
            array.resize((lengths[name], *array.shape[1:]))
    (path / APPENDING).unlink(missing_ok=True)


def blocks(ends: Int[np.ndarray, " E"]) -> Iterator[tuple[int, int]]:
    """Yield the first episode, and the one after the last, of groups of SHARD_STEPS or one."""
    start = 0
    while start < len(ends):
        begin = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, begin + SHARD_STEPS, side="right")), start + 1)
        yield start, stop
        start = stop


def split_episodes(
    data: Mapping[str, np.ndarray],
    meta: Mapping[str, np.ndarray],
    ends: Int[np.ndarray, " E"],
    keys: Iterable[str],
) -> list[Episode]:
    """Cut arrays (`data` a row a step, `meta` a row an episode) into episodes.

    `keys` are the observations.
    """
    parts = {name: np.split(rows, ends[:-1]) for name, rows in data.items()}
    keys = list(keys)
    extras = [name for name in parts if name not in keys and name not in RESERVED]
    return [
        Episode(
            observations={key: parts[key][i] for key in keys},
            action=parts["action"][i],
            reward=parts["reward"][i] if "reward" in parts else None,
            success=parts["success"][i] if "success" in parts else None,
            extras={name: parts[name][i] for name in extras},
            scalars={name: rows[i].item() for name, rows in meta.items()},
        )
        for i in range(len(ends))
    ]
