"""HDF5 files that others made: nothing is read but what is in the file itself, and errors are one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.exchange import ConversionError, check_name

DEPTH = 4  # groups in groups
ARRAY_BYTES = 2**31  # of one array, at most
RESTORE = "restore or download it again"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file for reading; what HDF5 cannot read in it becomes a ConversionError."""
    if not path.is_file():
        raise ConversionError(f"{path}: no such file; give a robomimic .hdf5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConversionError(f"{path}: no HDF5 file, truncated or edited ({reason}); {RESTORE}") from error


def item_of(where: str, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """What the name holds in this very file; links could show any other file of this machine."""
    check_name(where, name)
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ConversionError(f"{where}: {name} is a link to somewhere else; copy its content into the file")
    item = group[name]
    if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
        raise ConversionError(f"{where}: {name} keeps its data in another file; copy its content into the file")
    return item


def group_of(where: str, group: h5py.Group, name: str) -> h5py.Group:
    if name not in group:
        raise ConversionError(f"{where}: the group {name} is missing: no robomimic file, or a broken one; {RESTORE}")
    item = item_of(where, group, name)
    if not isinstance(item, h5py.Group):
        raise ConversionError(f"{where}: {name} is no group; {RESTORE}")
    return item


def datasets_of(where: str, group: h5py.Group, depth: int = DEPTH) -> Iterator[tuple[str, h5py.Dataset]]:
    """All arrays below a group with their paths in it."""
    for name in group:
        item = item_of(where, group, name)
        if isinstance(item, h5py.Dataset):
            yield name, item
        elif not depth:
            raise ConversionError(f"{where}: more than {DEPTH} groups in one another ({name}); {RESTORE}")
        else:
            yield from ((f"{name}/{path}", dataset) for path, dataset in datasets_of(where, item, depth - 1))


def read_rows(where: str, dataset: h5py.Dataset) -> np.ndarray:
    """All of an array."""
    if dataset.shape is None or dataset.nbytes > ARRAY_BYTES:
        raise ConversionError(f"{where} has shape {dataset.shape}, too large for one episode; {RESTORE}")
    return dataset[()]


def plain(where: str, value: Any) -> Any:
    """The value of an attribute as JSON has it."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, (str, int, float, list)):
        raise ConversionError(f"{where} is {value!r}; use text, numbers or lists of them")
    return value
