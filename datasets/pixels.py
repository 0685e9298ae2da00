"""Pictures in a demonstration store: the arrays of its cameras, and the steps that lie together.

A store that holds pictures says so by the attribute PICTURES: [height, width, 3] by camera.
"""

from collections.abc import Mapping
from typing import Any

PICTURES = "pictures"
SUFFIX = "_image"
STEPS = (32, 256)  # compressed together, and in a file, which an append to it writes again


def array_of(camera: str) -> str:
    """Name the array of a camera's pictures, uint8 [T, height, width, 3]."""
    return f"data/{picture_name(camera)}"


def picture_name(camera: str) -> str:
    """Name a camera's pictures among the arrays of one row a step."""
    return f"{camera}{SUFFIX}"


def picture_arrays(record: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of a row of each array of pictures that the attributes declare."""
    return {array_of(camera): tuple(shape) for camera, shape in record.get(PICTURES, {}).items()}
