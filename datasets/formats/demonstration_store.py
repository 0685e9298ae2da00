"""Our demonstration stores as a format to convert from and to."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from reconverge.datasets.formats.arrays import ConversionError, check_left_out
from reconverge.datasets.formats.episode_attributes import (
    EpisodeAttributes,
    read_episode_attributes,
)
from reconverge.datasets.formats.exchange import Demonstrations, batches, without
from reconverge.datasets.pixels import PICTURES, picture_name
from reconverge.datasets.store import DemonstrationStore
from reconverge.files import creating


def read_store(
    path: Path, leave_out: Collection[str] = (), pictures: bool = True
) -> Demonstrations:
    """Read the episodes of a store without some of its observations, extras and pictures, or
    without any picture.
    """
    if not path.exists():
        raise ConversionError(f"{path}: is not there; give the path of what to convert")
    store = DemonstrationStore.open(path)
    if "extra_sizes" not in store.attributes:
        raise ConversionError(
            f"{path}: in diffusion_policy's layout; give source_format=diffusion_policy"
        )
    extras = store.attributes["extra_sizes"]
    seen = [picture_name(camera) for camera in store.pictures]
    told = [name for name in ("reward", "success") if f"data/{name}" in store.columns]
    check_left_out(str(path), leave_out, [*store.observation_sizes, *extras, *seen, *told])
    cameras = {
        camera: shape
        for camera, shape in store.pictures.items()
        if pictures and picture_name(camera) not in leave_out
    }
    attributes = read_episode_attributes(path, len(store))
    episodes = (
        (
            replace(
                episode,
                observations=without(episode.observations, leave_out),
                extras=without(episode.extras, leave_out),
                reward=None if "reward" in leave_out else episode.reward,
                success=None if "success" in leave_out else episode.success,
            ),
            own,
        )
        for episode, own in zip(store.episodes(cameras), attributes, strict=True)
    )
    record = {**store.attributes, PICTURES: cameras}
    blind = [f"left out {', '.join(seen)}: pictures"] if seen and not pictures else []
    return Demonstrations.from_record(
        str(path), len(store), episodes, record, leave_out, blind, store.n_steps
    )


def write_store(demonstrations: Demonstrations, path: Path) -> None:
    """Make a store, whole or not at all."""
    with creating(path) as temporary:
        store = DemonstrationStore.create(
            temporary,
            demonstrations.observation_sizes,
            demonstrations.action_size,
            demonstrations.attributes,
            extra_sizes=demonstrations.extra_sizes,
            scalar_types=demonstrations.scalar_types,
            types=demonstrations.types,
            absent=demonstrations.absent,
            pictures=demonstrations.pictures,
        )
        with EpisodeAttributes(temporary) as attributes:
            for batch in batches(demonstrations.episodes):
                store.extend(episode for episode, _ in batch)
                attributes.write(own for _, own in batch)
        store.update_attributes({})  # takes what was attached into the checksum
