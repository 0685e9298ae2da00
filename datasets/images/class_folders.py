"""Any folder of class folders of PNG or JPEG files as labelled pictures."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from reconverge.datasets.images.labelled import PARTS, LabelledPictures, PictureSet
from reconverge.errors import ReconvergeError, one_line

SUFFIXES = (".png", ".jpg", ".jpeg")
EVERY = 6  # without a folder of test pictures every sixth one is for testing
DEEP = ("I", "I;16", "I;16B")  # modes of PIL, 16 bits a pixel
GREY = ("1", "L", "LA", *DEEP)

Files = dict[str, list[Path]]
"""The files of every class, both in the order of their names"""


def read_class_folders(folder: Path) -> PictureSet:
    """Read `<folder>/train/<class>/*` and `<folder>/test/<class>/*`, or `<folder>/<class>/*`.

    Of the latter every sixth picture of a class is for testing. Hidden files and folders are passed
    over. The first picture decides the size and whether all are grey. ReconvergeError for another
    size, colours where the first is grey, an unreadable file, no class.
    """
    parts = _find_files(folder)
    classes = sorted({name for files in parts.values() for name in files})
    if not classes:
        raise ReconvergeError(
            f"data={folder}: no class folders of {', '.join(SUFFIXES)} files; give a folder of "
            "them, or one with train/ and test/ of them"
        )
    if not parts["train"]:
        raise ReconvergeError(f"data={folder}: train has no pictures; put class folders there")
    first = next(path for name in classes for path in parts["train"].get(name, ()))
    picture = _upright(first)
    mode, size = "L" if picture.mode in GREY else "RGB", picture.size
    read = {part: _read_part(files, classes, mode, size, first) for part, files in parts.items()}
    return PictureSet(classes, **read)


def fingerprint(folder: Path) -> str:
    """Return a digest of the names, sizes and times of change of all pictures; "" without any."""
    parts = _find_files(folder)
    found = [
        (part, path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for part, files in parts.items()
        for paths in files.values()
        for path in paths
    ]
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else ""


def _find_files(folder: Path) -> dict[str, Files]:
    """Return the files of both parts."""
    if all((folder / part).is_dir() for part in PARTS):
        return {part: _files(folder / part) for part in PARTS}
    files = _files(folder)
    return {
        "train": {
            name: [path for i, path in enumerate(paths) if (i + 1) % EVERY]
            for name, paths in files.items()
        },
        "test": {name: paths[EVERY - 1 :: EVERY] for name, paths in files.items()},
    }


def _files(folder: Path) -> Files:
    found = {}
    for place in (path for path in _visible(folder) if path.is_dir()):
        files = [path for path in _visible(place) if path.suffix.lower() in SUFFIXES]
        if files:
            found[place.name] = files
    return found


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _read_part(
    files: Files, classes: list[str], mode: str, size: tuple[int, int], first: Path
) -> LabelledPictures:
    channels = 1 if mode == "L" else 3
    pictures = [np.zeros((0, channels, size[1], size[0]), np.uint8)]
    labels = []
    for label, name in enumerate(classes):
        for path in files.get(name, ()):
            pictures.append(_read_picture(path, mode, size, first))
            labels.append(label)
    return LabelledPictures(np.concatenate(pictures), np.array(labels, np.int64))


def _read_picture(path: Path, mode: str, size: tuple[int, int], first: Path) -> np.ndarray:
    """Return the picture as [1, C, H, W]."""
    picture = _upright(path)
    if picture.size != size:
        wide, high = picture.size
        raise ReconvergeError(
            f"{path}: {wide} x {high} pixels, where {first} has {size[0]} x {size[1]}; "
            "bring all pictures to one size"
        )
    if mode == "L" and _is_coloured(picture):
        raise ReconvergeError(
            f"{path}: has colours, where {first} is grey, as all would become; make all pictures "
            "grey, or save that one as RGB"
        )
    if picture.mode in DEEP:  # of which `convert` would cut all above 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    values = np.asarray(picture.convert(mode))
    return values[None, None] if mode == "L" else values.transpose(2, 0, 1)[None]


def _is_coloured(picture: Image.Image) -> bool:
    if picture.mode in GREY:
        return False
    values = np.asarray(picture.convert("RGB"))
    return bool((values != values[..., :1]).any())


def _upright(path: Path) -> Image.Image:
    """Read a picture, turned as the camera that took it says."""
    try:
        with Image.open(path) as picture:
            picture.load()
            with suppress(Exception):  # of its metadata, which say nothing then
                return ImageOps.exif_transpose(picture)
            return picture.copy()
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes can fail anywhere in Pillow
        raise ReconvergeError(
            f"{path}: no readable picture ({one_line(error)}); restore it, or delete it"
        ) from error
