"""Write the videos of a camera of a LeRobot dataset: several episodes in a file, by PyAV."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.lerobot.camera_features import feature_of
from reconverge.datasets.formats.lerobot.frames import place_of
from reconverge.datasets.formats.lerobot.videos import VIDEO_PATH, import_av
from reconverge.errors import one_line

VIDEO_BYTES = 200 * 2**20  # of a video, LeRobot's own limit
CODEC, ENCODER, PIXEL_FORMAT = "av1", "libsvtav1", "yuv420p"  # LeRobot's own
# LeRobot's crf of 30 and preset of 12 lose more of small pictures (docs/howto/data.md)
OPTIONS = {"g": 2, "crf": 12, "preset": 8}
NO_VIDEOS = "videos=false"


class VideoFiles:
    """Append the pictures of episodes to a video; begin a new one if the last has VIDEO_BYTES."""

    def __init__(self, folder: Path, camera: str, fps: int | float):
        self._av = import_av(f"the video of {camera} is encoded by PyAV", NO_VIDEOS)
        os.environ.setdefault("SVT_LOG", "0")  # else the encoder prints its settings
        self._folder, self._camera = folder, camera
        self._rate = Fraction(fps).limit_denominator(1_001)
        self._number, self._frames, self._bytes = -1, 0, 0
        self._container: Any = None

    def __enter__(self) -> "VideoFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._container is None:
            return
        if kind is None:
            self._encode(None)
        self._container.close()

    def write(self, pictures: UInt8[np.ndarray, "T H W 3"]) -> dict[str, int | float]:
        """Append an episode; return where it is, as meta/episodes says it."""
        if self._container is None or self._bytes >= VIDEO_BYTES:
            self._begin(pictures.shape[1:3])
        begun = self._frames
        for picture in pictures:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self._frames, 1 / self._rate
            self._encode(frame)
            self._frames += 1
        place = {
            **place_of(self._number),
            "from_timestamp": float(begun / self._rate),
            "to_timestamp": float(self._frames / self._rate),
        }
        return {f"videos/{feature_of(self._camera)}/{name}": value for name, value in place.items()}

    def _begin(self, size: Sequence[int]) -> None:
        self.__exit__(None)
        self._number, self._frames, self._bytes = self._number + 1, 0, 0
        place = place_of(self._number)
        path = self._folder / VIDEO_PATH.format(video_key=feature_of(self._camera), **place)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(str(path), "w")
        options = {name: str(value) for name, value in OPTIONS.items()}
        with self._named_errors():
            self._stream = self._container.add_stream(ENCODER, self._rate, options=options)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = PIXEL_FORMAT

    def _encode(self, frame: Any) -> None:
        """Encode a frame, or what the encoder still holds."""
        with self._named_errors():
            packets = self._stream.encode(frame)
            self._bytes += sum(packet.size for packet in packets)
            self._container.mux(packets)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say of which camera and what to do, but for what the disk says."""
        try:
            yield
        except OSError:
            raise
        except (self._av.FFmpegError, ValueError) as error:
            raise ConversionError(
                f"{self._camera}: its pictures cannot be encoded by {ENCODER} ({one_line(error)}); "
                f"add {NO_VIDEOS}"
            ) from error


def video_info(shape: Sequence[int], fps: int | float) -> Mapping[str, Any]:
    """Return what meta/info.json says of a video, as LeRobot's `get_video_info` does."""
    height, width, channels = shape
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": CODEC,
        "video.pix_fmt": PIXEL_FORMAT,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
        **{f"video.{name}": value for name, value in OPTIONS.items()},
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
        "video.extra_options": {},
        "is_depth_map": False,
    }
