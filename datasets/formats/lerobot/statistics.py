"""Statistics of the features of LeRobot datasets: of an episode, and of all of them."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Arrays = dict[str, np.ndarray]
LEVELS = 256  # of a colour


def statistics_of(rows: np.ndarray) -> Arrays:
    """Return the statistics of numbers [T, size]."""
    values = rows.astype(np.float64)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
    }


def picture_statistics_of(pictures: UInt8[np.ndarray, "T H W 3"]) -> Arrays:
    """Return the statistics of each colour in [0, 1] as [3, 1, 1], of all pictures."""
    counts = np.zeros(3 * LEVELS, np.int64)
    for picture in pictures:  # few bytes at a time
        counts += Image.fromarray(picture).histogram()
    shares = counts.reshape(3, LEVELS) / counts[:LEVELS].sum()
    values = np.arange(LEVELS) / (LEVELS - 1)
    mean = shares @ values
    found = {
        "min": values[(shares > 0).argmax(1)],
        "max": values[LEVELS - 1 - (shares > 0)[:, ::-1].argmax(1)],
        "mean": mean,
        "std": np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1)),
    }
    columns = {name: numbers.reshape(3, 1, 1) for name, numbers in found.items()}
    return {**columns, "count": np.array([len(pictures)])}


def overall(statistics: list[dict[str, Arrays]]) -> dict[str, dict[str, list]]:
    """Combine the statistics of episodes to those of all steps."""
    overall = {}
    for name in statistics[0]:
        parts = [episode[name] for episode in statistics]
        mean = np.stack([part["mean"] for part in parts])
        count = np.array([part["count"] for part in parts]).reshape(-1, *[1] * (mean.ndim - 1))
        variance = np.stack([part["std"] for part in parts]) ** 2
        center = (count * mean).sum(0) / count.sum()
        overall[name] = {
            "min": np.min([part["min"] for part in parts], axis=0).tolist(),
            "max": np.max([part["max"] for part in parts], axis=0).tolist(),
            "mean": center.tolist(),
            "std": np.sqrt(
                (count * (variance + (mean - center) ** 2)).sum(0) / count.sum()
            ).tolist(),
            "count": [int(count.sum())],
        }
    return overall
