"""Pictures of another size, and demonstrations without pictures."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.layout import Episode


def resized(demonstrations: Demonstrations, size: int) -> Demonstrations:
    """Return the demonstrations with pictures of size x size pixels, made as they are read."""
    shapes = dict.fromkeys(demonstrations.pictures, (size, size, 3))

    def episodes() -> Iterator[tuple[Episode, dict[str, Any]]]:
        for episode, own in demonstrations.episodes:
            seen = {camera: resize(rows, size) for camera, rows in episode.pictures.items()}
            yield replace(episode, pictures=seen), own

    return replace(demonstrations, episodes=episodes(), pictures=shapes)


def resize(pictures: UInt8[np.ndarray, "T H W 3"], size: int) -> UInt8[np.ndarray, "T size size 3"]:
    """Return square pictures: each pixel is the mean of those that it covers (box filter)."""
    if pictures.shape[1:3] == (size, size):
        return pictures
    found = np.empty((len(pictures), size, size, 3), np.uint8)
    for row, picture in zip(found, pictures, strict=True):
        whole = Image.fromarray(np.ascontiguousarray(picture))
        row[:] = np.asarray(whole.resize((size, size), Image.Resampling.BOX))
    return found


def check_space(demonstrations: Demonstrations, share: float, target: Path) -> None:
    """Refuse pictures of which this share of their bytes would not fit the disk of the target.

    Raises ConversionError. Sources that do not tell their steps are not refused.
    """
    pixels = sum(math.prod(shape) for shape in demonstrations.pictures.values())
    needed = share * pixels * demonstrations.steps
    place = next(folder for folder in target.absolute().parents if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ConversionError(
            f"{target}: the pictures of {demonstrations.steps} steps take about "
            f"{needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; free disk space, or add "
            "picture_size= or pictures=false"
        )


def without_pictures(demonstrations: Demonstrations, why: str) -> Demonstrations:
    """Return the demonstrations without pictures, and with a warning that says why."""
    if not demonstrations.pictures:
        return demonstrations
    episodes = ((replace(episode, pictures={}), own) for episode, own in demonstrations.episodes)
    line = f"left out the pictures of {', '.join(demonstrations.pictures)}: {why}"
    warnings = (*demonstrations.warnings, line)
    return replace(demonstrations, episodes=episodes, pictures={}, warnings=warnings)
