"""Picture stores: labelled pictures of one size in a zarr directory, written whole."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from reconverge.datasets.images.labelled import PARTS, LabelledPictures, PictureSet
from reconverge.errors import ReconvergeError, one_line
from reconverge.files import creating

SCHEMA, MADE_FROM = "pictures/2", "made_from"
ROWS = 10_000  # of a chunk
REMEDY = "delete it, and it is made again"


@dataclass(frozen=True)
class PictureStore:
    """The pictures at `path`, the data set that they are of, and a checksum of all of them.

    `made_from` is the fingerprint of the source's files, if it has any.
    """

    path: Path
    source: str
    pictures: PictureSet
    identity: str
    made_from: str


def write_store(path: Path, source: str, found: PictureSet, made_from: str = "") -> PictureStore:
    """Write a store; ReconvergeError if anything exists at `path`.

    `train/pictures` [N, C, H, W] and `train/labels` [N], the same of `test`; the attributes hold
    the classes in the order of their labels, the source, and the checksum of everything.
    """
    identity = _identity(found)
    attributes = {
        "schema": SCHEMA,
        "classes": found.classes,
        "source": source,
        MADE_FROM: made_from,
        "checksum": _checksum(identity, source, made_from),
    }
    with creating(path) as temporary:
        group = zarr.create_group(temporary, attributes=attributes)
        for part in PARTS:
            values: LabelledPictures = getattr(found, part)
            for name, array in (("pictures", values.pictures), ("labels", values.labels)):
                chunks = (min(ROWS, len(array)), *array.shape[1:])
                group.create_array(f"{part}/{name}", data=array, chunks=chunks)
    return PictureStore(path, source, found, identity, made_from)


def open_store(path: Path) -> PictureStore:
    """Read a store; ReconvergeError for one that is damaged, and for what is none."""
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        if attributes.get("schema") != SCHEMA:
            raise ReconvergeError(f"{path}: is no store of pictures of this version; move it away")
        classes: Any = attributes["classes"]
        parts = {
            part: LabelledPictures(_read(group, part, "pictures"), _read(group, part, "labels"))
            for part in PARTS
        }
        found = PictureSet(list(classes), **parts)
    except ReconvergeError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ReconvergeError(
            f"{path}: unreadable store of pictures ({one_line(error)}); {REMEDY}"
        ) from error
    source, made_from = (str(attributes.get(name, "")) for name in ("source", MADE_FROM))
    identity = _identity(found)
    if attributes.get("checksum") != _checksum(identity, source, made_from):
        raise ReconvergeError(f"{path}: has changed (its checksum differs); {REMEDY}")
    return PictureStore(path, source, found, identity, made_from)


def _read(group: zarr.Group, part: str, name: str) -> np.ndarray:
    array = group[f"{part}/{name}"]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{part}/{name} is no array")
    return np.asarray(array[:])


def _identity(found: PictureSet) -> str:
    """Return the CRC-32 of classes, pictures and labels."""
    value = zlib.crc32(repr(found.classes).encode())
    for part in PARTS:
        values: LabelledPictures = getattr(found, part)
        for array in (values.pictures, values.labels):
            value = zlib.crc32(np.ascontiguousarray(array).data, value)
    return f"{value:08x}"


def _checksum(identity: str, source: str, made_from: str) -> str:
    return f"{zlib.crc32(repr((identity, source, made_from)).encode()):08x}"
