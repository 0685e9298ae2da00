"""Pictures of LeRobot datasets: frames of their videos, decoded by PyAV an episode at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.lerobot.camera_features import OTHERWISE, Camera
from reconverge.errors import one_line

VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
VIDEO_PATH_2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
LONGEST = 1e9  # seconds of a video, which any decoder can count in its ticks
DECIMALS = 6  # of a step, to which times are told apart


def read_video(
    path: Path, info: Mapping[str, Any], row: Mapping[str, Any], camera: Camera
) -> UInt8[np.ndarray, "T H W 3"]:
    """Read the pictures of the episode that `row` of meta/episodes describes: for each step the
    frame whose time is nearest, the earlier one of two.

    Raises ConversionError for a video that is missing, cannot be decoded, or lacks a step.
    """
    name, start = _place(path, info, row, camera.feature)
    where = f"{path}: episode {row['episode_index']}: {name}"
    pictures = np.empty((row["length"], *camera.made), np.uint8)
    distances = np.full(len(pictures), np.inf)  # of the frames, in steps
    with _opened(path / name, where) as frames:
        for time, picture in frames(start):
            at = (time - start) * info["fps"]
            step, distance = round(at), round(abs(at - round(at)), DECIMALS)
            if step >= len(pictures):
                break
            if step < 0 or distance >= distances[step]:
                continue
            pictures[step] = camera.fitted(where, picture)
            distances[step] = distance
    if np.isinf(distances).any():
        raise ConversionError(
            f"{where} has no picture of step {int(np.argmax(distances))} of {len(pictures)}: it "
            f"ends early or lost frames; {OTHERWISE}"
        )
    return pictures


def _place(
    path: Path, info: Mapping[str, Any], row: Mapping[str, Any], feature: str
) -> tuple[str, float]:
    """Return the file of an episode's video, and the second at which the episode begins in it."""
    number = row["episode_index"]
    try:
        if str(info["codebase_version"]).startswith("v2"):
            chunk = number // int(info.get("chunks_size") or 1000)
            named = {"video_key": feature, "episode_index": number}
            return VIDEO_PATH_2.format(episode_chunk=chunk, **named), 0.0
        places = {n: int(row[f"videos/{feature}/{n}"]) for n in ("chunk_index", "file_index")}
        start = float(row[f"videos/{feature}/from_timestamp"])
        if not 0 <= start < LONGEST:
            raise ValueError(f"from_timestamp={start}")
        return VIDEO_PATH.format(video_key=feature, **places), start
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConversionError(
            f"{path}: meta does not say where the video of episode {number} is "
            f"({one_line(error)}); {OTHERWISE}"
        ) from error


@contextmanager
def _opened(file: Path, where: str) -> Iterator[Any]:
    """Yield a function that gives the frames from a second on, or from a key frame before it."""
    av = import_av(f"{where} is decoded by PyAV", "pictures=false")
    if not file.is_file():
        raise ConversionError(f"{where} is missing; {OTHERWISE}")
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            tick = stream.time_base or Fraction(1, 1_000_000)  # seconds

            def frames(start: float) -> Iterator[tuple[float, np.ndarray]]:
                container.seek(int(start / tick), stream=stream)
                for frame in container.decode(stream):
                    if frame.time is None:
                        raise ConversionError(f"{where} has a frame without a time; {OTHERWISE}")
                    yield frame.time, frame.to_ndarray(format="rgb24")

            yield frames
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ConversionError(
            f"{where} cannot be decoded, truncated or edited ({one_line(error)}); {OTHERWISE}"
        ) from error


def import_av(why: str, otherwise: str) -> Any:
    """Import PyAV. Raises ConversionError where it is missing, with the option to do without."""
    try:
        import av
    except ImportError as error:
        raise ConversionError(
            f"{why}, which is not installed; pip install 'reconverge[video]', or add {otherwise}"
        ) from error
    return av
