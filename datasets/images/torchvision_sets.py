"""torchvision's data sets, which it downloads where there is a network."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from reconverge.datasets.images.labelled import LabelledPictures, PictureSet
from reconverge.errors import ReconvergeError, one_line

DIGITS = [str(digit) for digit in range(10)]
KUZUSHIJI = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NAMES = {
    "mnist": ("MNIST", DIGITS),
    "kmnist": ("KMNIST", KUZUSHIJI),
    "cifar10": ("CIFAR10", CIFAR10),
}
"""The class in torchvision.datasets, and its classes in the order of their labels"""


def read_torchvision(name: str, folder: Path) -> PictureSet:
    """Read a row of NAMES, downloaded into `folder` where it is not there yet.

    ReconvergeError without torchvision, and where the download fails.
    """
    kind, classes = NAMES[name]
    try:
        make = getattr(import_module("torchvision.datasets"), kind)
        parts = {
            part: _as_pictures(make(str(folder), train=part == "train", download=True))
            for part in ("train", "test")
        }
    except ImportError as error:
        raise ReconvergeError(
            f"data={name}: needs torchvision; pip install 'reconverge[images]'"
        ) from error
    except (OSError, RuntimeError) as error:
        raise ReconvergeError(
            f"data={name}: torchvision cannot download it ({one_line(error)}); connect to a "
            f"network, or put its files into {folder}"
        ) from error
    return PictureSet(list(classes), **parts)


def _as_pictures(found: Any) -> LabelledPictures:
    """Return [N, C, H, W] of torchvision's [N, H, W] tensors or [N, H, W, 3] arrays."""
    pictures = np.asarray(found.data)
    pictures = pictures[:, None] if pictures.ndim == 3 else pictures.transpose(0, 3, 1, 2)
    return LabelledPictures(np.ascontiguousarray(pictures), np.asarray(found.targets, np.int64))
