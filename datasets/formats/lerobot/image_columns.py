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
LEGAL = {
    "bytes": (pa.binary(), pa.large_binary(), pa.null()),
    "path": (pa.string(), pa.large_string(), pa.null()),
}
FORMATS = ("PNG", "JPEG")


def read_images(
    path: Path, number: int, column: pa.ChunkedArray, camera: Camera
) -> UInt8[np.ndarray, "T H W 3"]:
    """Decode the pictures of an episode; paths are those in the dataset's folder.

    Raises ConversionError for a picture that is missing, damaged or of another size than stated.
    """
    where = f"{path}: episode {number}: {camera.feature}"
    if not _holds_entries(column.type):
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


def _holds_entries(kind: pa.DataType) -> bool:
    """Tell the type of entries; their paths may be left out."""
    found = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
    return "bytes" in found and all(found.get(n, pa.null()) in legal for n, legal in LEGAL.items())


def _decode(path: Path, where: str, entry: Mapping[str, Any]) -> UInt8[np.ndarray, "H W 3"]:
    """Return the picture of an entry, upright and in colours."""
    try:
        content = entry.get("bytes")
        content = _read(path, where, entry.get("path") or "") if content is None else content
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.mode.startswith("I"):  # 16 or 32 bits, which RGB would clip
            raise ConversionError(
                f"{where} is grey of more than 8 bits ({picture.mode}), as depth is; {OTHERWISE}"
            )
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (ConversionError, MemoryError):
        raise
    except Exception as error:  # damaged bytes can fail anywhere in Pillow
        raise ConversionError(
            f"{where} is no readable PNG or JPEG, truncated or edited; {OTHERWISE}"
        ) from error


def _read(path: Path, where: str, name: str) -> bytes:
    """Read a file of the dataset's folder, also one that is a link elsewhere, as in caches."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConversionError(f"{where}: {name!r} is outside the dataset; {OTHERWISE}")
    if not (path / name).is_file():
        what = repr(name) if name else "its picture"
        raise ConversionError(f"{where}: {what} is missing; {OTHERWISE}")
    return (path / name).read_bytes()


def _png(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG")
    return file.getvalue()
