"""Write LeRobot datasets of version 3, which the `lerobot` package's LeRobotDataset reads."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.episode_attributes import EpisodeAttributes
from reconverge.datasets.formats.exchange import Demonstrations, batches, check_names, dictionary
from reconverge.datasets.formats.lerobot.camera_features import feature_of
from reconverge.datasets.formats.lerobot.frames import DataFiles
from reconverge.datasets.formats.lerobot.image_columns import image_column
from reconverge.datasets.formats.lerobot.metadata import (
    Written,
    described_cameras,
    write_metadata,
)
from reconverge.datasets.formats.lerobot.reading import (
    CHECKSUMS,
    COUNTERS,
    OUR_RECORD,
    STATE,
    are_joined,
    file_checksum,
)
from reconverge.datasets.formats.lerobot.statistics import (
    Arrays,
    picture_statistics_of,
    statistics_of,
)
from reconverge.datasets.formats.lerobot.video_files import NO_VIDEOS, VideoFiles
from reconverge.datasets.layout import Episode
from reconverge.datasets.sums import signed
from reconverge.files import creating, write_json

TIME_TOLERANCE = 1e-4  # seconds, LeRobot's own
RATE_TOLERANCE = 0.1  # of fps=, by which measured times may differ
FPS = (0.01, 10_000)  # control steps a second of any robot
RESERVED_FEATURES = (STATE, "next.reward", "next.success")


def write_lerobot(
    demonstrations: Demonstrations,
    path: Path,
    fps: int | float | None = None,
    videos: bool = True,
) -> None:
    """Make a dataset of one task, whole or not at all. Raises ConversionError.

    All observations side by side are `observation.state`, unless they came from LeRobot. `fps` are
    control steps a second, by default from the attributes, among which they are recorded. Pictures
    are encoded as videos, which changes them a little, or kept exactly, as PNG in the tables.
    """
    path = path.absolute()  # pyarrow and ffmpeg take a colon in another for that of an address
    rate = _frames_per_second(demonstrations, fps)
    demonstrations = _at(demonstrations, rate) if fps else demonstrations
    keys = {camera: feature_of(camera) for camera in demonstrations.pictures}
    check_names(demonstrations, [*COUNTERS, *keys.values()], RESERVED_FEATURES, keys=keys)
    with creating(path) as folder:
        (folder / "meta").mkdir(parents=True)
        with (
            DataFiles(folder) as files,
            EpisodeAttributes(folder / "meta") as attributes,
            ExitStack() as stack,
        ):
            films = {
                camera: stack.enter_context(VideoFiles(folder, camera, rate))
                for camera in (demonstrations.pictures if videos else ())
            }
            written = _write_data(demonstrations, rate, files, films, attributes)
        written.features |= described_cameras(demonstrations, rate, videos)
        write_metadata(folder, demonstrations, rate, written)
        _write_record(folder, demonstrations)


def _frames_per_second(demonstrations: Demonstrations, given: int | float | None) -> int | float:
    """Return the control steps a second that are given, or else those of a store's attributes."""
    source, attributes = demonstrations.source, demonstrations.attributes
    simulator = dictionary(attributes, "simulator")
    env_kwargs = dictionary(dictionary(attributes, "env_args"), "env_kwargs")
    stated = (attributes.get("fps"), simulator.get("control_frequency"))
    found: Any = next(filter(None, (given, *stated, env_kwargs.get("control_freq"))), None)
    if found is None:
        raise ConversionError(f"{source}: does not say how many steps a second has; add fps=20")
    number = isinstance(found, (int, float)) and not isinstance(found, bool)
    if not number or not FPS[0] <= found <= FPS[1]:
        raise ConversionError(
            f"{source}: fps is {found!r}, expected a number from {FPS[0]} to {FPS[1]}; add fps=20"
        )
    return found


def _at(demonstrations: Demonstrations, fps: int | float) -> Demonstrations:
    """Return the demonstrations at given steps a second, with which recorded times must agree."""

    def episodes() -> Iterator[tuple[Episode, dict[str, Any]]]:
        for number, (episode, own) in enumerate(demonstrations.episodes):
            times = episode.extras.get("timestamp", np.zeros((0, 1)))[:, 0]
            rate = 1 / np.median(np.diff(times)) if len(times) > 1 else fps
            if not abs(rate - fps) < RATE_TOLERANCE * fps:
                raise ConversionError(
                    f"{demonstrations.source}: fps={fps}, but the timestamps of episode {number} "
                    f"are of {rate:.4g} steps a second; correct it, or add leave_out=[timestamp]"
                )
            yield episode, own

    attributes = {**demonstrations.attributes, "fps": fps}
    return replace(demonstrations, episodes=episodes(), attributes=attributes)


def _write_data(
    demonstrations: Demonstrations,
    fps: int | float,
    files: DataFiles,
    films: Mapping[str, VideoFiles],
    attributes: EpisodeAttributes,
) -> Written:
    """Write all frames; pictures of cameras without films into the tables."""
    written, index = Written(), 0
    for batch in batches(demonstrations.episodes):
        frames: list[Arrays] = []
        for episode, _ in batch:
            frames.append(
                _frames(demonstrations, episode, len(written.episodes) + len(frames), index, fps)
            )
            index += len(episode.action)
        joined = {name: np.concatenate([arrays[name] for arrays in frames]) for name in frames[0]}
        columns = {name: _column(rows) for name, rows in joined.items()}
        columns |= {
            feature_of(camera): image_column(episode.pictures[camera] for episode, _ in batch)
            for camera in demonstrations.pictures
            if camera not in films
        }
        place = files.write(pa.table(columns))
        for (episode, _), arrays in zip(batch, frames, strict=True):
            row = _row(episode, arrays, place)
            if films:
                _check_times(demonstrations.source, episode, fps)
            for camera, film in films.items():
                row |= film.write(episode.pictures[camera])
            written.episodes.append(row)
            written.statistics.append(_statistics(episode, arrays))
        written.features = {
            n: {"dtype": rows.dtype.name, "shape": [rows.shape[1]]} for n, rows in joined.items()
        }
        attributes.write(own for _, own in batch)
    return written


def _frames(
    demonstrations: Demonstrations, episode: Episode, number: int, index: int, fps: int | float
) -> Arrays:
    """Return one episode's features and counters, [T, size] each."""
    length = len(episode.action)
    steps = np.arange(length)
    state = _state(episode.observations)
    generated = {
        "next.done": steps == length - 1,
        "timestamp": (steps / fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, number),
        "index": index + steps,
        "task_index": np.zeros(length, np.int64),
    }
    optional = {"next.reward": episode.reward, "next.success": episode.success}
    arrays = {
        **state,
        "action": episode.action,
        **{name: rows for name, rows in optional.items() if rows is not None},
    }
    arrays |= {name: rows for name, rows in generated.items() if name not in episode.extras}
    return {name: rows.reshape(length, -1) for name, rows in {**arrays, **episode.extras}.items()}


def _state(observations: Mapping[str, np.ndarray]) -> Arrays:
    """Join observations side by side, unless LeRobot gave them."""
    if not are_joined(observations):
        return dict(observations)
    return {STATE: np.concatenate(list(observations.values()), axis=1)}  # in float64 if any is


def _column(rows: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(rows).ravel())
    return flat if rows.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _row(episode: Episode, arrays: Arrays, place: dict[str, int]) -> dict[str, Any]:
    """Make a row of meta/episodes."""
    length, start = len(episode.action), int(arrays["index"][0, 0])
    return {
        "episode_index": int(arrays["episode_index"][0, 0]),
        "length": length,
        "dataset_from_index": start,
        "dataset_to_index": start + length,
        **{f"data/{name}": number for name, number in place.items()},
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        **{f"scalars/{name}": value for name, value in episode.scalars.items()},
    }


def _check_times(source: str, episode: Episode, fps: int | float) -> None:
    """Refuse recorded times at which LeRobot would find no picture in a video."""
    shown = np.arange(len(episode.action)) / fps
    told = episode.extras.get("timestamp", shown[:, None])[:, 0]
    off = np.abs(told - shown) > TIME_TOLERANCE
    if off.any():
        step = int(np.argmax(off))
        raise ConversionError(
            f"{source}: timestamp of step {step} is {told[step]:g}, a video of {fps} frames a "
            f"second shows it at {shown[step]:g}; add leave_out=[timestamp], another fps= or "
            f"{NO_VIDEOS}"
        )


def _statistics(episode: Episode, arrays: Arrays) -> dict[str, Arrays]:
    """Return the statistics of every feature."""
    found = {name: statistics_of(rows) for name, rows in arrays.items()}
    seen = episode.pictures.items()
    return found | {feature_of(camera): picture_statistics_of(rows) for camera, rows in seen}


def _write_record(folder: Path, demonstrations: Demonstrations) -> None:
    """Write the store's schema and attributes, with checksums of all other files and of itself."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    checksums = {file.relative_to(folder).as_posix(): file_checksum(file) for file in files}
    record = {**demonstrations.record, CHECKSUMS: checksums}
    write_json(folder / OUR_RECORD, signed(folder, record))
