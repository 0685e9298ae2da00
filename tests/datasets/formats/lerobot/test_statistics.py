"""Statistics of LeRobot's features: as numpy has them of all values at once."""

import numpy as np

from reconverge.datasets.formats.lerobot.statistics import (
    overall,
    picture_statistics_of,
    statistics_of,
)


def assert_are(found, values, axes, shape, count):
    for name in ("min", "max", "mean", "std"):
        wanted = getattr(values, name)(axes).reshape(shape)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-12, atol=1e-15)
    assert np.array(found["count"]).tolist() == [count]


def test_statistics_of_pictures_are_of_each_colour_between_0_and_1():
    rng = np.random.default_rng(0)
    pictures = rng.integers((0, 40, 250), (30, 256, 252), (7, 5, 4, 3)).astype(np.uint8)
    parts = [picture_statistics_of(part) for part in (pictures[:2], pictures[2:])]
    assert_are(parts[0], pictures[:2] / 255, (0, 1, 2), (3, 1, 1), 2)
    assert_are(
        overall([{"x": part} for part in parts])["x"], pictures / 255, (0, 1, 2), (3, 1, 1), 7
    )
    assert (
        picture_statistics_of(np.full((1, 2, 2, 3), 255, np.uint8))["min"].tolist() == [[[1]]] * 3
    )


def test_statistics_of_numbers():
    rows = np.random.default_rng(0).standard_normal((9, 2))
    parts = [{"x": statistics_of(part)} for part in (rows[:2], rows[2:])]
    assert_are(overall(parts)["x"], rows, 0, (2,), 9)
