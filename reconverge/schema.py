"""Records that leave the process: dataclasses as JSON, checked field by field when read."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from reconverge.errors import ReconvergeError

Record = TypeVar("Record")
KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    tuple: "a list",
    dict: "a map",
}

DEEPEST = 50  # levels of lists and maps in a file of ours
LARGEST = 2**63  # of numbers in one


def read_text(path: Path, remedy: str = "restore it") -> str:
    """Read a text file (UTF-8); ReconvergeError where there is none or it is no text."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReconvergeError(f"{path}: cannot be read ({error}); {remedy}") from error


def parse_json(text: str, where: str) -> Any:
    """Parse JSON of at most DEEPEST levels; `where` names the file in the error."""
    try:
        value = json.loads(text)
        if _depth(value) > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    except (ValueError, RecursionError) as error:
        raise ReconvergeError(f"{where}: is no JSON of ours ({error}); restore it") from error
    return value


def _depth(value: Any) -> int:
    """Return how deep lists and maps are nested, without recursion."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, (list, dict))]:
        depth += 1
        level = [i for each in level for i in (each.values() if isinstance(each, dict) else each)]
    return depth


def read_record(
    kind: type[Record],
    value: Any,
    where: str,
    error: type[ReconvergeError] = ReconvergeError,
    *,
    extra: bool = False,
) -> Record:
    """Build the dataclass `kind` from JSON (what `dataclasses.asdict` gives).

    The error names `where` (a file, say) and the first field that is missing, unknown (unless
    `extra`) or of another type. Types may be text, numbers, booleans, Any, further dataclasses,
    lists, tuples and dictionaries of these, or None beside one of them.
    """
    if not isinstance(value, Mapping):
        raise error(f"{where}: must be a map, got {reprlib.repr(value)}; restore it")
    types = _types(kind)  # type: ignore[arg-type]
    names = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    for entry in fields(kind):  # type: ignore[arg-type]
        optional = entry.default is not MISSING or entry.default_factory is not MISSING
        if entry.name not in value and not optional:
            raise error(f"{where}: lacks {entry.name!r}; restore it")
    for name in value:
        if name not in names and not extra:
            raise error(f"{where}: unknown {name!r}: it has {', '.join(names)}; restore it")
    known = [name for name in names if name in value]
    return kind(
        **{
            name: _read(types[name], value[name], f"{where}: {name}", error, extra)
            for name in known
        }
    )


@cache  # of thousands of records, most of the time otherwise
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, where: str, error: type[ReconvergeError], extra: bool) -> Any:
    """Return `value` as `kind`; lists become tuples where `kind` is one."""
    if kind is Any:
        return value
    if is_dataclass(kind):
        return read_record(kind, value, where, error, extra=extra)  # type: ignore[arg-type]
    plain, parts = get_origin(kind) or kind, get_args(kind)
    if plain is UnionType:
        known = next(part for part in parts if part is not NoneType)
        return None if value is None else _read(known, value, where, error, extra)
    if plain is tuple and isinstance(value, list):
        value = tuple(value)
    if isinstance(value, (int, float)) and abs(value) > LARGEST:
        raise error(f"{where}: must be a number up to {LARGEST}, got {reprlib.repr(value)}")
    if plain is float and type(value) is int:
        return float(value)
    if type(value) is not plain:
        raise error(f"{where}: must be {KINDS[plain]}, got {reprlib.repr(value)}; restore it")
    if plain in (list, tuple) and parts:
        items = (_read(parts[0], v, f"{where}[{i}]", error, extra) for i, v in enumerate(value))
        return plain(items)
    if plain is dict and parts:
        return {key: _read(parts[1], v, f"{where}.{key}", error, extra) for key, v in value.items()}
    return value
