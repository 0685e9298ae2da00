"""diffusion_policy's replay buffers, a zarr v2 directory or the same in a .zarr.zip: written."""

import tempfile
import zipfile
from pathlib import Path

import numcodecs
import numpy as np
import zarr

from datasets.diffusion_policy import KINDS, OWN
from datasets.exchange import (
    EPISODE_ATTRIBUTES,
    Demonstrations,
    EpisodeAttributes,
    batches,
    made_whole,
    rows_by_name,
)
from datasets.layout import CHUNK_STEPS, ENDS, ZARR_OPTIONS, Column


def write_diffusion_policy(demonstrations: Demonstrations, path: Path) -> None:
    """Make a replay buffer that diffusion_policy's ReplayBuffer reads, whole or not at all; an archive for a .zip.

    `data/<name>` has one row a step, of the shape that it came in, `meta/<name>` one number an episode; the root's
    attributes are the store's. Raises ConversionError.
    """
    with made_whole(path) as temporary:
        if path.suffix != ".zip":
            _write(demonstrations, temporary)
            return
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            _write(demonstrations, Path(folder))
            _archive(Path(folder), temporary)


def _write(demonstrations: Demonstrations, folder: Path) -> None:
    arrays_of = (demonstrations.observation_sizes, demonstrations.extra_sizes, demonstrations.scalar_types)
    order = {kind: list(names) for kind, names in zip(KINDS, arrays_of, strict=True)}
    with zarr.config.set(ZARR_OPTIONS), EpisodeAttributes(folder / EPISODE_ATTRIBUTES) as attributes:
        root = zarr.create_group(folder, zarr_format=2, attributes={**demonstrations.attributes, OWN: order})
        arrays = _make_arrays(root, _columns(demonstrations))
        steps = 0
        for batch in batches(demonstrations.episodes):
            ends = steps + np.cumsum([len(episode.action) for episode, _ in batch])
            arrays[ENDS].append(ends)
            for name in demonstrations.scalar_types:
                arrays[f"meta/{name}"].append(np.array([episode.scalars[name] for episode, _ in batch]))
            rows = [rows_by_name(episode, demonstrations.attributes) for episode, _ in batch]
            for name in rows[0]:
                arrays[f"data/{name}"].append(np.concatenate([own[name] for own in rows]))
            attributes.write(own for _, own in batch)
            steps = int(ends[-1])


def _columns(demonstrations: Demonstrations) -> dict[str, Column]:
    """Every array with the type and the shape of one row."""
    sizes = {**demonstrations.observation_sizes, **demonstrations.extra_sizes, "action": demonstrations.action_size}
    rows: dict[str, tuple[int, ...]] = {name: (size,) for name, size in sizes.items()}
    rows |= {name: () for name in ("reward", "success") if name not in demonstrations.absent}
    shapes = demonstrations.attributes.get("row_shapes", {})
    rows |= {name: tuple(shape) for name, shape in shapes.items() if name in rows}
    return {
        **{f"data/{name}": (np.dtype(demonstrations.type_of(name)), row) for name, row in rows.items()},
        **{f"meta/{name}": (np.dtype(kind), ()) for name, kind in demonstrations.scalar_types.items()},
        ENDS: (np.dtype(np.int64), ()),
    }


def _make_arrays(root: zarr.Group, columns: dict[str, Column]) -> dict[str, zarr.Array]:
    """Empty arrays, compressed as diffusion_policy compresses what it keeps on disk."""
    compressor = numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    root.create_group("data")
    root.create_group("meta")
    return {
        name: root.create_array(
            name, shape=(0, *row), chunks=(CHUNK_STEPS, *row), dtype=dtype, compressors=compressor, fill_value=0
        )
        for name, (dtype, row) in columns.items()
    }


def _archive(folder: Path, path: Path) -> None:
    """A .zip of the folder's content; the chunks in it are compressed already."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
