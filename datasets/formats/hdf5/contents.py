"""HDF5 files that others made: nothing outside the file is read, and errors are one line.

This uses h5py's low level; the high one takes several times as long for many small arrays.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from reconverge.datasets.formats.arrays import RESTORE, ConversionError, check_name
from reconverge.datasets.sums import sum_rows
from reconverge.errors import one_line

MAX_DEPTH = 4  # groups in groups
MAX_ARRAY_BYTES = 2**31
CHUNK_BYTES = 2**26
VERSIONS = ("v110", "v110")  # of the file's layout: from 1.10 on its metadata have checksums
CHECKSUM = "reconverge_crc32"  # attribute that we write: of an array's rows, of other attributes
LOCKED = ("unable to lock file", "file is already open for write")


class Array(NamedTuple):
    """Name an array in a file before it is read."""

    dataset: h5py.h5d.DatasetID
    dtype: np.dtype
    shape: tuple[int, ...]

    def read(self, where: str) -> np.ndarray:
        """Read all of it. Raises ConversionError if the checksum that we wrote differs."""
        if self.dtype.itemsize * math.prod(self.shape) > MAX_ARRAY_BYTES:
            raise ConversionError(
                f"{where} has shape {self.shape}, too large for one episode; {RESTORE}"
            )
        values = np.empty(self.shape, self.dtype)
        if values.size:
            numeric = self.dtype.kind in "fiu" and self.dtype.metadata is None
            kind = _memory_type(self.dtype) if numeric else None
            self.dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values, kind)
        stated = self._stated_sum()
        if stated is not None and stated != sum_rows(values):
            raise ConversionError(
                f"{where}: its rows were edited or damaged; {RESTORE}, or delete its attribute "
                f"{CHECKSUM} if they were meant to be edited"
            )
        return values

    def _stated_sum(self) -> int | None:
        """Return the checksum of an array of ours; HDF5's own takes zeros for that of zeros."""
        if not h5py.h5a.exists(self.dataset, CHECKSUM.encode()):
            return None
        stated = np.empty((), np.uint32)
        h5py.h5a.open(self.dataset, CHECKSUM.encode()).read(stated)
        return int(stated)


@cache
def _memory_type(dtype: np.dtype) -> h5py.h5t.TypeID:
    return h5py.h5t.py_create(dtype)  # takes as long as reading an episode's array


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading. Raises ConversionError for all that HDF5 cannot read in it."""
    if not path.is_file():
        raise ConversionError(f"{path}: no such file; give a .hdf5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeDecodeError) as error:
        reason = one_line(error)
        if any(said in reason for said in LOCKED):
            raise ConversionError(
                f"{path}: is open for writing, or its writer was killed ({reason}); let the other "
                "process close it, or repair it with h5clear -s"
            ) from error
        raise ConversionError(
            f"{path}: no HDF5 file, truncated or edited ({reason}); {RESTORE}"
        ) from error


def top_level(path: Path) -> set[str]:
    """Name what is at the top of a file; nothing if it cannot be read."""
    try:
        with h5py.File(path, "r") as file:
            return set(file)
    except (OSError, RuntimeError):
        return set()


def find_group(where: str, group: h5py.Group, name: str) -> h5py.Group:
    """Open a group in a group."""
    if name not in group:
        raise ConversionError(
            f"{where}: the group {name} is missing: not of robomimic, D4RL or Minari, or broken; "
            f"{RESTORE}"
        )
    item = _open(where, group.id, name)
    if not isinstance(item, h5py.h5g.GroupID):
        raise ConversionError(f"{where}: {name} is no group; {RESTORE}")
    return h5py.Group(item)


def arrays_below(
    where: str, group: h5py.h5g.GroupID, depth: int = MAX_DEPTH
) -> Iterator[tuple[str, Array]]:
    """Yield all arrays below a group with their paths in it."""
    for key in group:
        name = key.decode()
        item = _open(where, group, name)
        if isinstance(item, h5py.h5d.DatasetID):
            yield name, Array(item, item.dtype, item.shape or ())
        elif not isinstance(item, h5py.h5g.GroupID) or not depth:
            raise ConversionError(
                f"{where}: {name} is no array in {MAX_DEPTH} groups in one another; {RESTORE}"
            )
        else:
            yield from (
                (f"{name}/{path}", array) for path, array in arrays_below(where, item, depth - 1)
            )


def _open(where: str, group: h5py.h5g.GroupID, name: str) -> Any:
    """Open an item of this file; links could lead to any other file of this machine."""
    key = check_name(where, name).encode()
    if group.links.get_info(key).type != h5py.h5l.TYPE_HARD:
        raise ConversionError(
            f"{where}: {name} is a link to somewhere else; copy its content into the file"
        )
    item = h5py.h5o.open(group, key)
    if (
        isinstance(item, h5py.h5d.DatasetID) and item.get_offset() is None
    ):  # not at one place in this file
        properties = item.get_create_plist()
        if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
            raise ConversionError(
                f"{where}: {name} keeps its data in another file; copy its content into the file"
            )
    return item


def create(path: Path) -> h5py.File:
    """Make a file whose metadata have checksums."""
    return h5py.File(path, "w", libver=VERSIONS)


def write_array(
    group: h5py.Group, path: str, rows: np.ndarray, chunk_bytes: int = CHUNK_BYTES
) -> None:
    """Write a new array with checksums at a path in the group."""
    folder, _, name = path.rpartition("/")
    group = group.require_group(folder) if folder else group
    values = np.ascontiguousarray(rows)
    chunks = max(1, -(-values.nbytes // chunk_bytes))  # of one length, since the last is filled up
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((max(1, -(-len(values) // chunks)), *values.shape[1:]))
    properties.set_fletcher32()
    kind = h5py.h5t.py_create(values.dtype, logical=True)
    space = h5py.h5s.create_simple(values.shape)
    dataset = h5py.h5d.create(group.id, name.encode(), kind, space, properties)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    h5py.Dataset(dataset).attrs[CHECKSUM] = np.uint32(sum_rows(values))


def write_attributes(group: h5py.Group, values: Mapping[str, Any]) -> None:
    """Write attributes, and their checksum."""
    for name, value in values.items():
        group.attrs[name] = value
    group.attrs[CHECKSUM] = _checksum(read_attributes(str(group.name), group))


def read_attributes(where: str, group: h5py.Group) -> dict[str, Any]:
    """Read attributes as JSON has them. Raises ConversionError if their checksum differs."""
    found = {name: plain(value) for name, value in group.attrs.items()}
    stated = found.pop(CHECKSUM, None)
    if stated is not None and stated != _checksum(found):
        raise ConversionError(f"{where}: its attributes were edited or damaged; {RESTORE}")
    return found


def _checksum(attributes: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(attributes, sort_keys=True).encode())


def plain(value: Any) -> Any:
    """Convert the value of an attribute to one that JSON has; what it has no value for to text."""
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, list):
        return [plain(item) for item in value]
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if isinstance(value, (str, int, float)) and finite else str(value)
