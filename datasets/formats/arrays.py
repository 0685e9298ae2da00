"""Names and arrays that a conversion accepts, and the types that they have in a store."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from reconverge.datasets.layout import FLOAT_TYPES, RESERVED
from reconverge.errors import ReconvergeError, unknown

RESTORE = "restore or download it again"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._\-]*")
WORD = re.compile(r"[A-Za-z][A-Za-z0-9._\-]*")  # what the command line takes without quotes
WHOLE_TYPES = ("bool", "uint8", "int32", "int64")  # of STEP_TYPES, narrow ones first
PICTURE_SIDE = 8  # pixels, from which on rows of three axes are taken for pictures


class ConversionError(ReconvergeError):
    """Demonstrations cannot be converted: which, where, and what to do."""


@dataclass(frozen=True)
class Field:
    """Describe an array of one row a step as its source has it, by its name in a store."""

    name: str
    dtype: np.dtype
    row: tuple[int, ...]
    observation: bool = False
    path: str = ""  # in an episode's group, where it is not the name
    picture: bool = False  # of a camera, RGB, which a store keeps apart from the numbers

    @cached_property
    def size(self) -> int:
        return int(np.prod(self.row))

    @cached_property
    def store_type(self) -> str:
        """Return the narrowest type of a store that holds all its numbers."""
        if self.name == "success":
            return "bool"
        return wider_type(self.dtype, self.observation or self.name in ("action", "reward"))

    @property
    def obstacle(self) -> str:
        """Say why a store cannot hold it; "" if it can."""
        if self.picture:
            return ""
        if is_picture(self.dtype, self.row):
            coloured = self.dtype != np.uint8 and 3 in (self.row[0], self.row[-1])
            return f"pixels of type {self.dtype}, not uint8" if coloured else "pixels"
        if self.dtype.kind in "OSUT":
            metadata: Mapping[str, Any] = self.dtype.metadata or {}
            kept = metadata.get("vlen", str)  # h5py's, in arrays of objects
            return "text" if kept in (str, bytes) else "lists of different lengths"
        if self.dtype.kind not in "biuf":
            return f"of type {self.dtype}"
        single = self.name in ("reward", "success")
        return f"{self.size} numbers a step" if not self.size or (single and self.size > 1) else ""


def is_picture(dtype: np.dtype, row: tuple[int, ...]) -> bool:
    """Tell pixels [height, width], bytes or with channels, from small matrices such as poses."""
    if dtype == np.uint8:
        return len(row) > 1
    return len(row) > 2 and sorted(row)[-2] >= PICTURE_SIDE


def is_rgb(dtype: np.dtype, row: tuple[int, ...]) -> bool:
    """Tell pictures that a store holds: uint8, three axes, the colours last or first."""
    return dtype == np.uint8 and len(row) == 3 and 3 in (row[0], row[2]) and min(row) > 0


def wider_type(dtype: np.dtype, real: bool) -> str:
    """Return the narrowest type of a store for numbers of this type, a real one if `real`."""
    legal = FLOAT_TYPES if real or dtype.kind == "f" else WHOLE_TYPES
    return next((kind for kind in legal if np.can_cast(dtype, kind)), legal[-1])


def widen(where: str, values: np.ndarray, kind: str) -> np.ndarray:
    """Return the values as `kind`. Raises ConversionError for the first that would change."""
    limits = {"float64": 2**53, "int64": 2**63 - 1}
    with np.errstate(over="ignore", invalid="ignore"):
        wide = values.astype(kind, copy=False)
    if kind == "bool":
        changed = (values != 0) & (values != 1)
    elif values.dtype.kind in "iu" and values.dtype.itemsize == 8 and kind in limits:
        changed = (values > limits[kind]) | (values < -limits[kind] - (kind == "int64"))
    elif values.dtype.kind == "f" and values.dtype.itemsize > 8:
        changed = np.isfinite(values) & (wide != values)
    else:
        return wide
    if changed.any():
        index = tuple(int(i) for i in np.argwhere(changed)[0])
        raise ConversionError(
            f"{where}{list(index)} is {values[index]}, which no {kind} holds; store it as another "
            "type, or leave the array out with leave_out="
        )
    return wide


def check_name(where: str, name: str) -> str:
    """Return the name of an array or an episode if no file system reads anything else in it."""
    if not NAME.fullmatch(name) or len(name) > 200:
        legal = "letters, digits, '_', '-', '.' and spaces, beginning with a letter or a digit"
        raise ConversionError(f"{where}: the name {name!r} is not allowed; rename it with {legal}")
    return name


def check_left_out(source: str, leave_out: Iterable[str], names: Collection[str]) -> None:
    """Refuse to leave out what is not among the names."""
    lacking = ", ".join(name for name in leave_out if name not in names)
    if lacking:
        raise unknown(f"leave_out= of {source}", lacking, sorted(names), ConversionError)


def leaving_out(names: Iterable[str]) -> str:
    """Write the option that leaves out these arrays, as the command line takes it."""
    words = [name if WORD.fullmatch(name) else f"'{name}'" for name in dict.fromkeys(names)]
    return f"leave_out=[{','.join(words)}]"


def refuse(source: str, obstacles: Mapping[str, str], left_out: Collection[str] = ()) -> None:
    """Refuse arrays that a store cannot hold: all by name, with why, and how to leave them out.

    `left_out` are left out already.
    """
    if not obstacles:
        return
    names: dict[str, list[str]] = {}
    for name, why in obstacles.items():
        names.setdefault(why, []).append(name)
    listed = "; ".join(f"{', '.join(some)} ({why})" for why, some in names.items())
    remedy = f"add {leaving_out([*left_out, *obstacles])}"
    if "action" in obstacles:
        remedy = "actions must be numbers, one row a step; repair the file or choose another"
    raise ConversionError(f"{source}: cannot convert {listed}; {remedy}")


def check_rows(where: str, values: np.ndarray, length: int, kind: str) -> np.ndarray:
    """Return `values` as [length, size] of the type `kind`."""
    if values.ndim == 0 or len(values) != length:
        raise ConversionError(
            f"{where} has shape {values.shape}, expected {length} rows, as many as actions"
        )
    return widen(where, values, kind).reshape(length, -1)


def schema_of(fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return what a store declares of its arrays of one row a step but pictures."""
    fields = {name: field for name, field in fields.items() if not field.picture}
    kinds = {name: field.store_type for name, field in fields.items() if name != "success"}
    return {
        "observation_sizes": {name: f.size for name, f in fields.items() if f.observation},
        "action_size": fields["action"].size,
        "extra_sizes": {
            name: field.size
            for name, field in fields.items()
            if not field.observation and name not in RESERVED
        },
        "scalar_types": {},
        "types": {name: kind for name, kind in kinds.items() if kind != "float32"},
        "absent": [name for name in ("reward", "success") if name not in fields],
    }
