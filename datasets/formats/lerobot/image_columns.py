"""Pictures in the tables of LeRobot datasets: each a PNG or JPEG file's bytes, or its path."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8
from PIL import Image, ImageOps

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.lerobot.camera_features import OTHERWISE, Camera

ENTRY = pa.struct({"bytes": pa.binary(), "path": pa.string()})  # of Hugging Face's `Image`
FORMATS = ("PNG", "JPEG")


def read_images(
    path: Path, number: int, column: pa.ChunkedArray, camera: Camera
) -> UInt8[np.ndarray, "T H W 3"]:
    """Decode the pictures of an episode; paths are those in the dataset's folder.

    Raises ConversionError for a picture that is missing, damaged or of another size than stated.
    """
    where = f"{path}: episode {number}: {camera.feature}"
    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise ConversionError(
            f"{where} is of type {column.type}, expected {ENTRY}, as meta/info.json says; "
            f"{OTHERWISE}"
        )
    pictures = np.empty((len(column), *camera.made), np.uint8)
    for step, entry in enumerate(column):
        here = f"{where} of step {step}"
        pictures[step] = camera.fitted(here, _decode(path, here, entry.as_py() or {}))
    return pictures


def image_column(episodes: Iterable[UInt8[np.ndarray, "T H W 3"]]) -> pa.Array:
    """Encode the pictures of some episodes as PNG, which loses nothing."""
    entries = [
        {"bytes": _png(picture), "path": f"frame-{step:06d}.png"}
        for pictures in episodes
        for step, picture in enumerate(pictures)
    ]
    return pa.array(entries, ENTRY)


def _decode(path: Path, where: str, entry: Mapping[str, Any]) -> UInt8[np.ndarray, "H W 3"]:
    """Return the picture of an entry, upright and in colours."""
    content, name = entry.get("bytes"), entry.get("path") or ""
    if content is None and not (path / name).is_file():
        raise ConversionError(f"{where}: {name or 'its picture'} is missing; {OTHERWISE}")
    try:
        content = (path / name).read_bytes() if content is None else content
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConversionError(
            f"{where} is no readable PNG or JPEG, truncated or edited; {OTHERWISE}"
        ) from error


def _png(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG")
    return file.getvalue()
