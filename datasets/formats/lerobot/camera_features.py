"""Cameras of LeRobot datasets: which features are pictures, in videos or in tables."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from reconverge.datasets.formats.arrays import RESTORE, ConversionError, check_name, leaving_out
from reconverge.datasets.formats.exchange import dictionary
from reconverge.datasets.formats.pictures.sizes import resize

PREFIXES = ("observation.images.", "observation.")  # of the features of cameras
VIDEO, IMAGE = PIXELS = ("video", "image")  # types of features: in videos, in tables
LARGEST = 2**28  # bytes of a picture
OTHERWISE = f"{RESTORE}, or add pictures=false"


@dataclass(frozen=True)
class Camera:
    """Describe the pictures of a camera: the feature that has them and its type, their shape as it
    is stated, and the size in pixels to make of them, if any.
    """

    feature: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int | None = None

    @property
    def made(self) -> tuple[int, ...]:
        """Return the shape of the pictures that `fitted` gives."""
        return (self.size, self.size, 3) if self.size else self.shape

    def fitted(self, where: str, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Return a picture in the size to make. ConversionError for another shape than stated."""
        if picture.shape != self.shape:
            raise ConversionError(
                f"{where} has pictures of {picture.shape}, meta/info.json says {self.shape}; "
                f"{OTHERWISE}"
            )
        return resize(picture[None], self.size)[0] if self.size else picture


def feature_of(camera: str) -> str:
    """Name the feature of a camera as LeRobot does."""
    return f"{PREFIXES[0]}{camera}"


def find_cameras(
    path: Path, info: Mapping[str, Any], leave_out: Collection[str], size: int | None
) -> list[Camera]:
    """Return the cameras to read. Raises ConversionError for two of one name."""
    found: dict[str, Camera] = {}
    for name in picture_features(info):
        camera = _camera_of(name, info["features"][name], size)
        if camera is None or name in leave_out:
            continue
        check_name(f"{path}: meta/info.json", name)
        if math.prod(camera.shape) > LARGEST:
            raise ConversionError(
                f"{path}: meta/info.json says that {name} has pictures of {camera.shape}, too "
                f"large; {OTHERWISE}"
            )
        if other := found.get(camera.name):
            raise ConversionError(
                f"{path}: {other.feature} and {name} would both be pictures of {camera.name}; "
                f"add {leaving_out([name])}"
            )
        found[camera.name] = camera
    return list(found.values())


def picture_features(info: Mapping[str, Any]) -> list[str]:
    """Return the features that are pictures, also those that are not read, such as depth."""
    features = dictionary(info, "features").items()
    return [name for name, f in features if isinstance(f, dict) and f.get("dtype") in PIXELS]


def _camera_of(name: str, feature: Mapping[str, Any], size: int | None) -> Camera | None:
    """Return the camera of a feature that is in colours, with the colours last."""
    shape: Any = feature.get("shape")
    about = {**feature, **dictionary(feature, "video_info"), **dictionary(feature, "info")}
    depth = about.get("video.is_depth_map") or about.get("is_depth_map")
    whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    if depth or not whole or len(shape) != 3 or 3 not in (shape[0], shape[2]):
        return None
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    last = tuple(shape) if shape[2] == 3 else (*shape[1:], 3)
    return Camera(name, name.removeprefix(prefix), feature["dtype"], last, size)
