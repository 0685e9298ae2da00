"""Pictures in a demonstration store: the arrays of its cameras, and the steps that lie together.

A store that holds pictures says so by the attribute PICTURES: [height, width, 3] by camera.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

PICTURES = "pictures"
SUFFIX = "_image"
SUFFIXES = (SUFFIX, "_rgb")  # in other formats; LIBERO's is the second
HAND = ("robot0_eye_in_hand_image", "eye_in_hand")  # robomimic's name of it, and of the camera
STEPS = (32, 256)  # compressed together, and in a file, which an append to it writes again


def array_of(camera: str) -> str:
    """Name the array of a camera's pictures, uint8 [T, height, width, 3]."""
    return f"data/{picture_name(camera)}"


def picture_name(camera: str) -> str:
    """Name a camera's pictures among the arrays of one row a step."""
    return f"{camera}{SUFFIX}"


def camera_of(name: str) -> str:
    """Return the camera whose pictures have this name in a store, or in other formats."""
    if name == HAND[0]:
        return HAND[1]
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(suffix) or name


def arrays_by_camera(
    record: Mapping[str, Any], columns: Mapping[str, tuple[np.dtype, tuple[int, ...]]]
) -> dict[str, str]:
    """Return the array of each camera's pictures: those that the attributes declare or, in
    diffusion_policy's layout, which declares none, those whose rows are RGB.
    """
    if "observation_sizes" in record:
        return {camera: array_of(camera) for camera in record.get(PICTURES, {})}
    coloured = [
        name for name, (kind, row) in columns.items() if kind == np.uint8 and row[2:] == (3,)
    ]
    found: dict[str, str] = {}
    for array in coloured:
        name = array.removeprefix("data/").removeprefix("obs/")
        camera = camera_of(name)
        found[name if camera in found else camera] = array
    return found


def picture_arrays(record: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of a row of each array of pictures that the attributes declare."""
    return {array_of(camera): tuple(shape) for camera, shape in record.get(PICTURES, {}).items()}
