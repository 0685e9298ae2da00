"""Pictures of another size, and of more bytes than there is room for."""

import shutil
from collections import namedtuple

import numpy as np
import pytest

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.formats.pictures.sizes import check_space, resize

Usage = namedtuple("Usage", "total used free")


def test_resize_takes_the_mean_of_the_pixels_that_each_covers():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), np.uint8)
    means = pictures.reshape(3, 4, 3, 4, 5, 3).mean(axis=(2, 4))
    assert np.abs(resize(pictures, 4) - means).max() <= 1  # rounded in each direction
    square = resize(pictures, 12)
    assert square.shape == (3, 12, 12, 3)
    assert resize(square, 12) is square
    np.testing.assert_array_equal(resize(square, 24)[:, ::2, ::2], square)


def test_check_space_refuses_what_does_not_fit_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 10**9))
    shapes = {"agentview": (84, 84, 3), "eye_in_hand": (84, 84, 3)}
    given = Demonstrations("here", 30, [], {"x": 1}, 1, pictures=shapes, steps=60_000)
    check_space(given, 0.2, tmp_path / "new" / "a.zarr")
    with pytest.raises(ConversionError, match=r"of 60000 steps take about 2\.54 GB, 1 GB are free"):
        check_space(given, 1.0, tmp_path / "new" / "a.hdf5")
