"""Pictures of LeRobot datasets: frames of their videos, decoded by PyAV an episode at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from reconverge.datasets.formats.arrays import RESTORE, ConversionError
from reconverge.datasets.formats.pictures.sizes import resize
from reconverge.datasets.layout import one_line

VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
VIDEO_2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
PREFIXES = ("observation.images.", "observation.")  # of the features of cameras


@dataclass(frozen=True)
class Video:
    """Describe the pictures of a camera: the feature that has them, their shape as it is stated,
    and the size in pixels to make of them, if any.
    """

    feature: str
    camera: str
    shape: tuple[int, ...]
    size: int | None = None

    @property
    def made(self) -> tuple[int, ...]:
        """Return the shape of the pictures that `read_video` gives."""
        return (self.size, self.size, 3) if self.size else self.shape


def video_of(name: str, feature: Mapping[str, Any], size: int | None) -> Video | None:
    """Return the video of a feature that is one in colours, with the colours last."""
    shape: Any = feature.get("shape")
    about = {**feature, **(feature.get("info") or {})}
    depth = about.get("video.is_depth_map") or about.get("is_depth_map")
    whole = isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) for n in shape)
    if feature.get("dtype") != "video" or depth or not whole or 3 not in (shape[0], shape[2]):
        return None
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    last = tuple(shape) if shape[2] == 3 else (*shape[1:], 3)
    return Video(name, name.removeprefix(prefix), last, size)


def read_video(
    path: Path, info: Mapping[str, Any], row: Mapping[str, Any], video: Video
) -> UInt8[np.ndarray, "T H W 3"]:
    """Read the pictures of the episode that `row` of meta/episodes describes, one for each step.

    Raises ConversionError for a video that is missing, cannot be decoded, or lacks a step.
    """
    name, start = _place(path, info, row, video.feature)
    where = f"{path}: episode {row['episode_index']}: {name}"
    pictures = np.empty((row["length"], *video.made), np.uint8)
    seen = np.zeros(len(pictures), bool)
    with _opened(path / name, where) as frames:
        for time, picture in frames(start):
            step = round((time - start) * info["fps"])
            if step >= len(pictures):
                break
            if step < 0 or seen[step]:
                continue
            if picture.shape != video.shape:
                raise ConversionError(
                    f"{where} has pictures of {picture.shape}, meta/info.json says {video.shape}; "
                    f"{RESTORE}"
                )
            pictures[step] = resize(picture[None], video.size)[0] if video.size else picture
            seen[step] = True
    if not seen.all():
        raise ConversionError(
            f"{where} has no picture of step {int(np.argmin(seen))} of {len(seen)}: it ends early "
            f"or lost frames; {RESTORE}, or add pictures=false"
        )
    return pictures


def _place(
    path: Path, info: Mapping[str, Any], row: Mapping[str, Any], feature: str
) -> tuple[str, float]:
    """Return the file of an episode's video, and the second at which the episode begins in it."""
    number = row["episode_index"]
    if str(info["codebase_version"]).startswith("v2"):
        chunk = number // int(info.get("chunks_size") or 1000)
        return VIDEO_2.format(episode_chunk=chunk, video_key=feature, episode_index=number), 0.0
    try:
        places = {n: int(row[f"videos/{feature}/{n}"]) for n in ("chunk_index", "file_index")}
        return VIDEO.format(video_key=feature, **places), float(
            row[f"videos/{feature}/from_timestamp"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"{path}: meta/episodes does not say where the video of episode {number} is "
            f"({one_line(error)}); {RESTORE}, or add pictures=false"
        ) from error


@contextmanager
def _opened(file: Path, where: str) -> Iterator[Any]:
    """Yield a function that gives the frames from a second on, or from a key frame before it."""
    try:
        import av
    except ImportError as error:
        raise ConversionError(
            f"{where} is decoded by PyAV, which is not installed; pip install 'reconverge[video]', "
            "or add pictures=false"
        ) from error
    if not file.is_file():
        raise ConversionError(f"{where} is missing; {RESTORE}, or add pictures=false")
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            tick = stream.time_base or Fraction(1, 1_000_000)  # seconds

            def frames(start: float) -> Iterator[tuple[float, np.ndarray]]:
                container.seek(int(start / tick), stream=stream)
                for frame in container.decode(stream):
                    yield frame.time, frame.to_ndarray(format="rgb24")

            yield frames
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ConversionError(
            f"{where} cannot be decoded, truncated or edited ({one_line(error)}); {RESTORE}, or "
            "add pictures=false"
        ) from error
