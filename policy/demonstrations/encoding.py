"""Demonstrations with pictures from elsewhere, as a policy sees them: an encoder's features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.datasets.formats.exchange import batches
from reconverge.datasets.layout import SCHEMA
from reconverge.datasets.store import EXPERT, DemonstrationStore, Episode, StoreError
from reconverge.envs.render.sight import Sight
from reconverge.envs.task import Task
from reconverge.files import alone, replacing
from reconverge.progress import progress_bar

SOURCE = "encoded_from"  # attribute: the checksum of the store whose pictures were encoded
PICTURES_AT_ONCE = 256  # of each camera, in memory


def encoded(source: DemonstrationStore, task: Task, path: Path) -> DemonstrationStore:
    """Return the store at `path`, the episodes of `source` with features in place of pictures.

    It is made where it is missing or of another source, whole or not at all, by one process at a
    time. Raises StoreError for a camera that the source lacks, for pictures of another size than
    the task's sight wants, for observations that are missing, and where an expert's store is at
    `path`.
    """
    checksum = source.identity()["checksum"]
    with alone(path):
        if path.exists():
            found = DemonstrationStore.open(path)
            if found.attributes.get(SOURCE) == checksum:
                return found
            require_no_other(source, path)
        require_pictures(source, task)
        _encode(source, task, path, checksum)
    return DemonstrationStore.open(path)


def require_no_other(source: DemonstrationStore, path: Path) -> None:
    """Raise StoreError where an expert has recorded pictures of the task too, at `path`."""
    if path.exists() and EXPERT in DemonstrationStore.open(path).attributes:
        raise StoreError(
            f"{path}: was recorded by the expert, and {source.path} has pictures of its own; move "
            "one of them away"
        )


def _encode(source: DemonstrationStore, task: Task, path: Path, checksum: int) -> None:
    features = {key: task.sizes[key] for key in task.sight.keys}
    record = source.attributes
    kept = {name: value for name, value in record.items() if name not in (*SCHEMA, "checksum")}
    with replacing(path) as temporary:
        store = DemonstrationStore.create(
            temporary,
            {**source.observation_sizes, **features},
            source.action_size,
            kept | {SOURCE: checksum, "sight": task.sight.fingerprint},
            extra_sizes=record["extra_sizes"],
            scalar_types=record["scalar_types"],
            types=record.get("types", {}),
            absent=record.get("absent", ()),
        )
        for batch in batches(_encoded(source, task)):
            store.extend(episode for episode, _ in batch)


def require_pictures(source: DemonstrationStore, task: Task) -> None:
    """Raise StoreError unless a store has the pictures that the task's sight wants, and what is
    observed beside them.
    """
    if "extra_sizes" not in source.attributes:
        raise StoreError(
            f"{source.path}: is a zarr v2 directory, whose pictures are not read; convert it "
            "first: python -m tools.convert source=... target=..."
        )
    view = task.sight.view
    for camera in view.cameras:
        if source.pictures.get(camera) != (view.size, view.size, 3):
            shape = source.pictures.get(camera)
            has = "no pictures" if shape is None else f"pictures of {shape[1]} x {shape[0]} pixels"
            raise StoreError(
                f"{source.path}: has {has} of {camera}, wanted {view.size} x {view.size}; its "
                f"cameras: {', '.join(source.pictures) or 'none'}; choose cameras= and "
                "picture_size=, or convert it again with picture_size="
            )
    own = {key: size for key, size in task.sizes.items() if key not in task.sight.keys}
    for key, size in own.items():
        if source.observation_sizes.get(key) != size:
            raise StoreError(
                f"{source.path}: observation {key} of {size} numbers is missing, which "
                f"{task.name} has beside pictures; convert it again"
            )


def _encoded(source: DemonstrationStore, task: Task) -> Iterator[tuple[Episode, dict[str, Any]]]:
    sight: Sight = task.sight
    with progress_bar(f"features of {source.path.name}", "episode", len(source)) as bar:
        ends = source.episode_ends
        for index, episode in enumerate(source.episodes(cameras=())):
            stop = int(ends[index])
            seen = {
                key: features(source, sight, camera, stop - len(episode.action), stop)
                for key, camera in zip(sight.keys, sight.view.cameras, strict=True)
            }
            bar.update()
            yield replace(episode, observations={**episode.observations, **seen}), {}


def features(
    source: DemonstrationStore, sight: Sight, camera: str, start: int, stop: int
) -> Float[np.ndarray, "T F"]:
    """Encode a camera's pictures of steps `start` to `stop`, some of them at a time."""
    assert sight.encoder is not None, "a policy that learns to see takes pictures as they are"
    starts = range(start, stop, PICTURES_AT_ONCE)
    parts = [
        sight.encoder(source.read_pictures(camera, at, min(at + PICTURES_AT_ONCE, stop)))
        for at in starts
    ]
    return np.concatenate(parts)
