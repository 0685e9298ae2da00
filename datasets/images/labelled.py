"""Labelled pictures in memory, in one size and with one number of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch.nn import functional

from reconverge.errors import ReconvergeError

PARTS = ("train", "test")


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures with values 0 to 255, and the number of each one's class."""

    pictures: UInt8[np.ndarray, "N C H W"]
    labels: Int[np.ndarray, " N"]

    def of(self, classes: Sequence[int]) -> LabelledPictures:
        """Return the pictures of some classes, in their order here."""
        chosen = np.isin(self.labels, classes)
        return LabelledPictures(self.pictures[chosen], self.labels[chosen])

    def sized(self, size: int) -> LabelledPictures:
        """Return square pictures of `size` pixels: larger ones shrunk, smaller ones framed black.

        A frame is what makes 32 pixels of Fashion-MNIST's 28 (arXiv 2509.23593).
        """
        height, width = self.pictures.shape[2:]
        if max(height, width) > size:
            parts = 1 + len(self.labels) // 10_000  # as many at once as float32 has room for
            shrunk = [_shrunk(part, size) for part in np.array_split(self.pictures, parts)]
            return LabelledPictures(np.concatenate(shrunk), self.labels)
        above, left = (size - height) // 2, (size - width) // 2
        below, right = size - height - above, size - width - left
        framed = np.pad(self.pictures, ((0, 0), (0, 0), (above, below), (left, right)))
        return LabelledPictures(framed, self.labels)


@dataclass(frozen=True)
class PictureSet:
    """Pictures to learn from and pictures to test with, of the same classes."""

    classes: list[str]
    train: LabelledPictures
    test: LabelledPictures

    def sized(self, size: int) -> PictureSet:
        """Return all pictures in one size."""
        return PictureSet(self.classes, self.train.sized(size), self.test.sized(size))


def check_classes(found: PictureSet, source: str) -> None:
    """Raise ReconvergeError unless every class has pictures in both parts."""
    for part in PARTS:
        counts = np.bincount(getattr(found, part).labels, minlength=len(found.classes))
        for name, count in zip(found.classes, counts, strict=True):
            if not count:
                raise ReconvergeError(
                    f"data={source}: {part} has no picture of class {name!r}; add some, or leave "
                    "the class out of both parts"
                )


def _shrunk(
    pictures: UInt8[np.ndarray, "N C H W"], size: int
) -> UInt8[np.ndarray, "N C {size} {size}"]:
    """Shrink with a filter as wide as the step between pixels, so that no pattern is aliased."""
    values = torch.from_numpy(pictures).float()
    small = functional.interpolate(values, (size, size), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).numpy()
