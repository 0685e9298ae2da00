"""Names and arrays that a conversion accepts."""

import re
from collections.abc import Collection, Iterable

import numpy as np

from reconverge.datasets.layout import FLOAT_TYPES, STEP_TYPES
from reconverge.errors import ReconvergeError, unknown

RESTORE = "restore or download it again"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._\-]*")


class ConversionError(ReconvergeError):
    """Demonstrations cannot be converted: which, where, and what to do."""


def check_name(where: str, name: str) -> str:
    """Return the name of an array or an episode if no file system reads anything else in it."""
    if not NAME.fullmatch(name) or len(name) > 200:
        legal = "letters, digits, '_', '-', '.' and spaces, beginning with a letter or a digit"
        raise ConversionError(f"{where}: the name {name!r} is not allowed; rename it with {legal}")
    return name


def check_left_out(source: str, leave_out: Iterable[str], names: Collection[str]) -> None:
    """Refuse to leave out what is not among the names."""
    for name in leave_out:
        if name not in names:
            raise unknown(f"leave_out= of {source}", name, sorted(names), ConversionError)


def legal_types(name: str, observation: bool = False) -> tuple[str, ...]:
    """Return the types that the array of this name may have in a store."""
    if name == "success":
        return ("bool",)
    return FLOAT_TYPES if observation or name in ("action", "reward") else STEP_TYPES


def check_rows(where: str, values: np.ndarray, length: int, legal: tuple[str, ...]) -> np.ndarray:
    """Return finite `values` of one of the legal types as [length, size]."""
    if not any(values.dtype == name for name in legal):
        raise ConversionError(
            f"{where} is {values.dtype}, expected {' or '.join(legal)}; convert it or leave it out"
        )
    if values.ndim == 0 or len(values) != length:
        raise ConversionError(
            f"{where} has shape {values.shape}, expected {length} rows, as many as actions"
        )
    if values.ndim > 3 or (values.ndim == 3 and values.dtype == np.uint8):
        raise ConversionError(
            f"{where} has rows of shape {values.shape[1:]}: a picture? only low-dimensional arrays "
            "are converted; leave it out with leave_out=[...]"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ConversionError(
            f"{where}{list(index)} is {values[index]}, expected a finite number; repair the file"
        )
    return values.reshape(length, -1)
