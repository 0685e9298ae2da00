"""Pictures in other formats: under which key those of a camera are, and which way up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from reconverge.datasets.formats.arrays import ConversionError, Field, leaving_out
from reconverge.datasets.formats.exchange import dictionary, without
from reconverge.datasets.pixels import HAND, PICTURES, camera_of, picture_name

CONVENTION = "macros_image_convention"  # attribute that LIBERO leaves: "opengl" or "opencv"
LIBERO_SUFFIX = "_rgb"
KEYS = "picture_keys"  # attribute: the source's key of each camera that `key_of` would not give


def key_of(camera: str, attributes: Mapping[str, Any]) -> str:
    """Return the key of a camera's pictures in other formats: as it came, else robomimic's."""
    usual = HAND[0] if camera == HAND[1] else picture_name(camera)
    return str(dictionary(attributes, KEYS).get(camera, usual))


def keys_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of the pictures that a record declares, by camera."""
    return {camera: key_of(camera, record) for camera in dictionary(record, PICTURES)}


def known_cameras(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the cameras of a record that we wrote by the keys of their pictures."""
    return {key: camera for camera, key in keys_of(record).items()}


def find_cameras(
    source: str, fields: Mapping[str, Field], known: Mapping[str, str]
) -> dict[str, Field]:
    """Return the pictures among the fields by their cameras, `known` ones (by their keys) first.

    Raises ConversionError if two arrays are pictures of one camera.
    """
    found: dict[str, Field] = {}
    for key, field in fields.items():
        if not field.picture:
            continue
        camera = known.get(key, camera_of(key))
        if other := found.get(camera):
            raise ConversionError(
                f"{source}: {other.name} and {key} would both be pictures of {camera}; "
                f"add {leaving_out([key])}"
            )
        found[camera] = field
    return {camera: found[camera] for camera in [*known.values(), *found] if camera in found}


def picture_schema(cameras: Mapping[str, Field]) -> dict[str, Any]:
    """Return the attributes that say which pictures a store holds, none without any."""
    shapes = {camera: list(colours_last_shape(field.row)) for camera, field in cameras.items()}
    keys = {camera: field.name for camera, field in cameras.items()}
    unusual = {camera: key for camera, key in keys.items() if key != key_of(camera, {})}
    return {**({PICTURES: shapes} if shapes else {}), **({KEYS: unusual} if unusual else {})}


def colours_last_shape(row: tuple[int, ...]) -> tuple[int, ...]:
    """Return height, width and 3 of a picture whose colours are last or first."""
    return row if row[-1] == 3 else (*row[1:], row[0])


def oriented(rows: np.ndarray, upside_down: bool = False) -> UInt8[np.ndarray, "T H W 3"]:
    """Return pictures [T, H, W, 3] or [T, 3, H, W] with the colours last and the top row first."""
    last = rows if rows.shape[-1] == 3 else np.moveaxis(rows, 1, -1)
    return last[:, ::-1] if upside_down else last


def are_upside_down(stated: Mapping[str, Any], cameras: Mapping[str, Field]) -> bool:
    """Tell pictures whose first row is the lowest, as OpenGL renders them and LIBERO stores them.

    LIBERO's attribute decides (its create_dataset.py); without it the keys do: `agentview_rgb`.
    robomimic turns them as it renders (its env_robosuite.py).
    """
    convention = stated.get(CONVENTION)
    named = any(field.name.endswith(LIBERO_SUFFIX) for field in cameras.values())
    return bool(cameras) and (convention == "opengl" or (convention is None and named))


def turned(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of pictures that were upside down: they go out as robomimic's do, upright,
    under robomimic's keys.
    """
    robomimic = dictionary(record, "robomimic")
    attributes = without(dictionary(robomimic, "attributes"), [CONVENTION])
    return {**without(record, [KEYS]), "robomimic": {**robomimic, "attributes": attributes}}
