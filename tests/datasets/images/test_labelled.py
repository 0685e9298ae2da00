"""Pictures of some classes, and in another size."""

import numpy as np
import pytest

from reconverge.datasets.images.labelled import LabelledPictures, PictureSet, check_classes
from reconverge.errors import ReconvergeError


def pictures(n=4, size=4, channels=1):
    generator = np.random.default_rng(0)
    values = generator.integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    return LabelledPictures(values, np.arange(n) % 2)


def test_of_takes_the_pictures_of_the_classes():
    found = pictures()
    assert (found.of([1]).pictures == found.pictures[1::2]).all()
    assert found.of([1, 0]).labels.tolist() == [0, 1, 0, 1]


def test_sized_frames_smaller_pictures_black():
    found = pictures(size=4)
    framed = found.sized(8).pictures
    assert (framed[:, :, 2:6, 2:6] == found.pictures).all()
    assert framed.astype(int).sum() == found.pictures.astype(int).sum()


def test_sized_keeps_a_picture_of_that_size():
    found = pictures(size=4)
    assert (found.sized(4).pictures == found.pictures).all()


def test_sized_shrinks_without_aliasing():
    """Alternate lines of 0 and 200 are an even grey at half the size, and a mean stays."""
    lines = np.zeros((1, 1, 16, 16), np.uint8)
    lines[:, :, ::2] = 200
    small = LabelledPictures(lines, np.zeros(1, int)).sized(8).pictures.astype(int)
    assert abs(small[0, 0, 1:-1] - 100).max() <= 1
    assert small.mean() == pytest.approx(100, abs=2)


def test_check_classes_names_the_part_that_lacks_a_class():
    found = PictureSet(["a", "b"], pictures(), pictures().of([0]))
    with pytest.raises(ReconvergeError, match="test has no picture of class 'b'"):
        check_classes(found, "here")
