"""Class folders of small pictures: bars and dots, which a classifier tells apart at once."""

import numpy as np
from PIL import Image

CLASSES = ("bars", "dots", "frames", "rays")


def draw(name, generator, size=8):
    """A grey picture [H, W] of a class, with noise."""
    values = generator.integers(0, 60, (size, size))
    rows, columns = np.indices((size, size))
    shapes = {
        "bars": columns % 4 < 2,
        "dots": (rows % 4 < 2) & (columns % 4 < 2),
        "frames": (np.minimum(rows, size - 1 - rows) < 2),
        "rays": abs(rows - columns) < 2,
    }
    return np.where(shapes[name], 200, 0).astype(np.uint8) + values.astype(np.uint8) // 2


def make_folders(folder, classes=CLASSES, count=24, parts=("",), size=8, suffix=".png"):
    """`count` pictures of every class, in `folder/<part>/<class>/`."""
    generator = np.random.default_rng(0)
    for part in parts:
        for name in classes:
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draw(name, generator, size)).save(place / f"{i:03}{suffix}")
    return folder
