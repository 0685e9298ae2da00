"""Sealed folders: one JSON file in them holds the digests of all files, its own included.

A JSON file alone can hold its own.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconverge.errors import ReconvergeError
from reconverge.files import write_json

ALGORITHM = "sha256"


class SealError(ReconvergeError):
    """A sealed folder is not as it was written: says what is wrong; its reader adds what to do."""


class OtherSchemaError(SealError):
    """A sealed folder that another version of this package wrote."""


def seal(folder: Path, name: str, schema: int, value: Mapping[str, Any]) -> None:
    """Write `value` to `folder/name` as JSON, with digests of it and of all other files there."""
    files = {path.name: _file_digest(path) for path in _shown(folder) if path.name != name}
    content = json.loads(json.dumps({"schema": schema, **value, "files": files}))
    write_json(folder / name, {**content, ALGORITHM: digest_of(content)})


def read_sealed(folder: Path, name: str, schema: int) -> dict[str, Any]:
    """Return the content of `folder/name`, once all files are known to be as they were written.

    SealError for the first file that is missing, changed or added; OtherSchemaError for what has
    another schema. Hidden files, which some systems add, and Python's cache do not count.
    """
    try:
        content = _read_map(folder / name)
        digest, whole = content.pop(ALGORITHM, None), digest_of(content)
        if content.get("schema") != schema and digest in (None, whole):
            found = reprlib.repr(content.get("schema"))
            raise OtherSchemaError(f"{name} has schema {found}, this version reads {schema}")
        if digest != whole:
            raise SealError(f"{name} is not as it was written")
        _check_files(folder, name, content["files"])
    except OSError as error:
        raise SealError(f"cannot be read: {error}") from error
    return content


def signed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON with its own digest, which `check_signed` compares."""
    content = json.loads(json.dumps(value))
    return {**content, ALGORITHM: digest_of(content)}


def check_signed(value: Any, where: str) -> None:
    """Raise ReconvergeError where JSON that holds its own digest has changed since."""
    if isinstance(value, dict) and ALGORITHM in value:
        content = {name: part for name, part in value.items() if name != ALGORITHM}
        if digest_of(content) != value[ALGORITHM]:
            raise ReconvergeError(f"{where}: is not as it was written; restore it")


def _read_map(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SealError(f"{path.name} is missing")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SealError(f"{path.name} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise SealError(f"{path.name} is no map: {reprlib.repr(content)}")
    return content


def _check_files(folder: Path, name: str, digests: Mapping[str, str]) -> None:
    for file, digest in digests.items():
        if not (folder / file).is_file():
            raise SealError(f"{file} is missing")
        if _file_digest(folder / file) != digest:
            raise SealError(f"{file} is not as it was written")
    for path in _shown(folder):
        if path.name not in {name, *digests}:
            raise SealError(f"{path.name} does not belong to it")


def _shown(folder: Path) -> list[Path]:
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in shown if path.name != "__pycache__")


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, ALGORITHM).hexdigest()


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the digest of the values, however a file spells them."""
    return hashlib.new(ALGORITHM, json.dumps(content, sort_keys=True).encode()).hexdigest()
