"""Checksums of a demonstration store: of its attributes, its rows and its metadata."""

import json
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reconverge.datasets.layout import (
    COLLECT,
    ENDS,
    RESTORE,
    SCHEMA,
    SCHEMA_VERSION,
    SUMS,
    StoreError,
    converting,
)
from reconverge.errors import one_line

METADATA = "zarr.json"
ATTACHED = "episode_attributes.zip"  # what the formats keep beside the arrays
GROUPS = ("", "data", "meta")


def checksum(record: Mapping[str, Any]) -> int:
    """Compute the CRC-32 of the attributes but `checksum`."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def signed(path: Path, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes as JSON reads them back, with their checksum."""
    try:
        record = json.loads(json.dumps(attributes, allow_nan=False))
    except (TypeError, ValueError) as error:
        remedy = "use strings, finite numbers, lists and dicts"
        raise StoreError(f"{path}: the attributes are not JSON ({error}); {remedy}") from error
    return {**record, "checksum": checksum(record)}


def check_record(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse attributes of another schema version and edited ones."""
    version = record.get("schema_version")
    if version is None:
        foreign = (path / ENDS).exists() and not {*SCHEMA, "checksum"} & set(record)
        again = converting(path) if foreign else COLLECT
        raise StoreError(f"{path}: has no schema_version, so it is no demonstration store; {again}")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema_version is {version!r}, only {SCHEMA_VERSION} is read; {COLLECT}"
        )
    if record.get("checksum") != checksum(record):
        raise StoreError(
            f"{path}: {METADATA}: the attributes were edited (their checksum differs); {RESTORE}"
        )


def sum_rows(rows: np.ndarray, before: int = 0) -> int:
    """Compute the CRC-32 of rows that follow others, whose CRC-32 is `before`."""
    return zlib.crc32(np.ascontiguousarray(rows).data, before)


def sum_files(path: Path, arrays: Collection[str]) -> dict[str, int]:
    """Compute the CRC-32 of what is no row, by file: the metadata, and what is attached.

    The root's attributes, which have a checksum, and numbers of rows, which grow, do not count.
    """
    found = {
        f"{name}/{METADATA}".lstrip("/"): _sum_metadata(path, name) for name in (*GROUPS, *arrays)
    }
    if (path / ATTACHED).exists():
        found[ATTACHED] = _sum_archive(path / ATTACHED)
    return found


def _sum_archive(path: Path) -> int:
    """Compute the CRC-32 of the names and sizes in an archive, which has checksums of its own."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = sorted((entry.filename, entry.file_size) for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise StoreError(f"{path}: truncated or edited ({one_line(error)}); {RESTORE}") from error
    return zlib.crc32(json.dumps(entries).encode())


def _sum_metadata(path: Path, name: str) -> int:
    try:
        record = json.loads((path / name / METADATA).read_bytes())
        record.pop("consolidated_metadata", None)
        if not name:
            del record["attributes"]
        if name not in GROUPS:
            del record["shape"][0]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        where = f"{path}: {name}: metadata cannot be read"
        raise StoreError(f"{where} ({one_line(error)}); {RESTORE}") from error
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def check_sums(path: Path, record: Mapping[str, Any], rows: Mapping[str, int]) -> None:
    """Refuse a store whose rows, with these CRC-32, or whose files are not those of its record.

    A store from before these checksums has none in its record.
    """
    if SUMS not in record:
        return
    found = {**sum_files(path, rows), **rows}
    for name, wanted in record[SUMS].items():
        if name not in found:
            raise StoreError(f"{path}: {name} is lost; {RESTORE}")
        if found[name] != wanted:
            what = "was edited" if name not in rows else "has lost, edited or exchanged rows"
            raise StoreError(f"{path}: {name} {what} (its checksum differs); {RESTORE}")


def check_same(path: Path, found: Mapping[str, int], opened: Mapping[str, int]) -> None:
    """Refuse arrays whose rows have another CRC-32 than when the store was opened."""
    for name, now in found.items():
        if now != opened[name]:
            raise StoreError(
                f"{path}: {name} has other rows than when it was opened (was another store put in "
                "its place?); bring the first one back"
            )


def check_members(path: Path, arrays: Collection[str]) -> None:
    """Refuse groups and arrays, at any depth, that the attributes do not declare."""
    for folder, folders, files in os.walk(path):
        name = Path(folder).relative_to(path).as_posix()
        if name in arrays and "c" in folders:
            folders.remove("c")  # chunks
        if METADATA in files and name not in (".", *GROUPS, *arrays):
            raise StoreError(
                f"{path}: {name} is not declared by the attributes, so nothing would read it; "
                "move it away, or make the store with it as an observation or extra"
            )
