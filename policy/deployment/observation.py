"""What a client tells and shows of a robot, as the flat observation of the contract."""

from __future__ import annotations

import io
import math
import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from reconverge.envs.render.sight import Sight
from reconverge.errors import ReconvergeError, unknown
from reconverge.policy.deployment.contract import Contract, ObservationEntry, PictureEntry


class RequestError(ReconvergeError):
    """A request that the client must change."""


@dataclass(frozen=True)
class Reader:
    """Reads observations of one task; `sight` is that of a policy whose contract has pictures."""

    contract: Contract
    sight: Sight | None = None

    def read(self, observation: Any) -> Float[np.ndarray, " Do"]:
        """Return the flat observation, clipped to its bounds, with features for the pictures, or
        their pixels.

        RequestError names the key that differs from the contract.
        """
        pictures = self.contract.pictures
        if self.sight is None or not isinstance(observation, dict):
            return flatten(observation, self.contract.observation)
        shown = {picture.key for picture in pictures}
        told = {key: value for key, value in observation.items() if key not in shown}
        flat = flatten(told, self.contract.observation)
        seen = np.stack([_picture(observation.get(each.key), each) for each in pictures])
        return np.concatenate([flat, self.sight.features(seen[None])[0]])


def _picture(value: Any, entry: PictureEntry) -> UInt8[np.ndarray, "H W 3"]:
    """Return the picture that raw bytes, a file's bytes or an array of openpi's clients are."""
    shape = (entry.height, entry.width, 3)
    if isinstance(value, np.ndarray) and value.shape == shape and value.dtype == np.uint8:
        return value
    if isinstance(value, bytes):
        if len(value) == math.prod(shape):
            return np.frombuffer(value, np.uint8).reshape(shape)
        try:
            image = Image.open(io.BytesIO(value), formats=("JPEG", "PNG"))
            if image.size == (entry.width, entry.height):
                return np.asarray(image.convert("RGB"))
            value = f"{image.width} x {image.height} pixels"
        except MemoryError:
            raise
        except Exception:  # damaged bytes can fail anywhere in Pillow
            value = f"{len(value)} bytes"
    elif isinstance(value, np.ndarray):
        value = f"{value.dtype} of shape {value.shape}"
    raise RequestError(
        f"observation {entry.key!r}: give {entry.height} rows of {entry.width} pixels of red, "
        "green and blue, uint8, the top row first, or a JPEG or PNG of that size; "
        f"got {short(value)}"
    )


def flatten(observation: Any, entries: tuple[ObservationEntry, ...]) -> Float[np.ndarray, " Do"]:
    """Return the flat observation [Do], clipped to its bounds.

    RequestError names the key that differs from the contract's `entries`.
    """
    if not isinstance(observation, dict):
        raise RequestError(f"observation={short(observation)}: give a map of key to numbers")
    sizes = {entry.key: entry.size for entry in entries}
    for key in observation:
        if key not in sizes:
            raise unknown("observation key", quotable(key), sizes, RequestError)
    for key, size in sizes.items():
        if key not in observation:
            raise RequestError(f"observation lacks {key!r}; give {', '.join(sizes)}")
        values = observation[key]
        if not isinstance(values, list) or len(values) != size:
            got = f"{len(values)} of them" if isinstance(values, list) else short(values)
            raise RequestError(f"observation {key!r}: give a list of {size} numbers, got {got}")
        for value in values:
            if type(value) not in (int, float) or not math.isfinite(value):
                raise RequestError(f"observation {key!r} holds {short(value)}: give finite numbers")
    flat = np.array([value for key in sizes for value in observation[key]], np.float64)
    low = np.array([bound for entry in entries for bound in entry.low])
    high = np.array([bound for entry in entries for bound in entry.high])
    return flat.clip(low, high).astype(np.float32)


def short(value: Any) -> str:
    """Return at most 60 characters for a value, however large it is and however deep."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def quotable(value: Any) -> Any:
    """Return the value, or a short text for one that is large or deep."""
    text = reprlib.repr(value)
    return short(value) if "..." in text else value
