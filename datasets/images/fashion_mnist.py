"""Fashion-MNIST as Debian packages it: 60,000 and 10,000 grey pictures of 28 x 28 in IDX files.

Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from reconverge.datasets.images.labelled import LabelledPictures, PictureSet
from reconverge.errors import ReconvergeError

PACKAGE = "dataset-fashion-mnist"
FOLDER = Path("/usr/share/datasets/fashion-mnist")
PREFIXES = {"train": "train", "test": "t10k"}
CLASSES = [
    "tshirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
]


def read_fashion_mnist() -> PictureSet:
    """Read the pictures; ReconvergeError where the package is not installed."""
    if not (FOLDER / "train-images-idx3-ubyte.gz").exists():
        raise ReconvergeError(
            f"data=fashion_mnist: no pictures in {FOLDER}; install Debian's {PACKAGE} "
            f"(apt-get install {PACKAGE}), or give a folder of class folders"
        )
    parts = {part: _read_part(prefix) for part, prefix in PREFIXES.items()}
    return PictureSet(list(CLASSES), **parts)


def _read_part(prefix: str) -> LabelledPictures:
    pictures = read_idx(FOLDER / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(FOLDER / f"{prefix}-labels-idx1-ubyte.gz")
    return LabelledPictures(pictures[:, None], labels.astype(np.int64))


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of bytes; ReconvergeError for anything else.

    Four bytes of kind (0, 0, 8 for bytes, number of axes), the sizes as big-endian 32-bit numbers,
    then the values (LeCun, Cortes, Burges, the MNIST database).
    """
    try:
        content = gzip.decompress(path.read_bytes())
        kind, axes = content[:3], content[3]
        sizes = np.frombuffer(content, ">u4", axes, offset=4).astype(int)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
        if kind != b"\0\0\x08":
            raise ValueError("it holds no bytes")
        return values.reshape(sizes).copy()
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise ReconvergeError(
            f"{path}: unreadable IDX file ({error}); install Debian's {PACKAGE} anew"
        ) from error
