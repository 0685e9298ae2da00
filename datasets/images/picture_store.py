"""Picture stores: labelled pictures of one size in a zarr directory, written whole."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from reconverge.datasets.images.labelled import PARTS, LabelledPictures, PictureSet
from reconverge.errors import ReconvergeError
from reconverge.files import creating

SCHEMA = "pictures/1"
ROWS = 10_000  # of a chunk
REMEDY = "delete it, and it is made again"


@dataclass(frozen=True)
class PictureStore:
    """The pictures at `path`, the data set that they are of, and a checksum of all of them."""

    path: Path
    source: str
    pictures: PictureSet
    identity: str


def write_store(path: Path, source: str, found: PictureSet) -> PictureStore:
    """Write a store; ReconvergeError if anything exists at `path`.

    `train/pictures` [N, C, H, W] and `train/labels` [N], the same of `test`; the attributes hold
    the classes in the order of their labels, the source, and the checksum of everything.
    """
    identity = _identity(source, found)
    attributes = {"schema": SCHEMA, "classes": found.classes, "source": source}
    with creating(path) as temporary:
        group = zarr.create_group(temporary, attributes={**attributes, "identity": identity})
        for part in PARTS:
            values: LabelledPictures = getattr(found, part)
            for name, array in (("pictures", values.pictures), ("labels", values.labels)):
                chunks = (min(ROWS, len(array)), *array.shape[1:])
                group.create_array(f"{part}/{name}", data=array, chunks=chunks)
    return PictureStore(path, source, found, identity)


def open_store(path: Path) -> PictureStore:
    """Read a store; ReconvergeError for one that is damaged, and for what is none."""
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        if attributes.get("schema") != SCHEMA:
            raise ReconvergeError(f"{path}: is no store of pictures; move it away")
        classes: Any = attributes["classes"]
        parts = {
            part: LabelledPictures(_read(group, part, "pictures"), _read(group, part, "labels"))
            for part in PARTS
        }
        found = PictureSet(list(classes), **parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ReconvergeError(f"{path}: unreadable store of pictures ({reason}); {REMEDY}") from (
            error
        )
    source = str(attributes.get("source"))
    identity = _identity(source, found)
    if identity != attributes.get("identity"):
        raise ReconvergeError(f"{path}: has changed (its checksum differs); {REMEDY}")
    return PictureStore(path, source, found, identity)


def _read(group: zarr.Group, part: str, name: str) -> np.ndarray:
    array = group[f"{part}/{name}"]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{part}/{name} is no array")
    return np.asarray(array[:])


def _identity(source: str, found: PictureSet) -> str:
    """Return the CRC-32 of source, classes, pictures and labels."""
    value = zlib.crc32(repr((source, found.classes)).encode())
    for part in PARTS:
        values: LabelledPictures = getattr(found, part)
        for array in (values.pictures, values.labels):
            value = zlib.crc32(np.ascontiguousarray(array).data, value)
    return f"{value:08x}"
