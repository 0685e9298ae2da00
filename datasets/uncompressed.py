"""Pictures of a store's steps as training gathers them: by index, from files without compression.

The files lie beside the store and are made where they are missing or of another store. They are
mapped into memory: the system keeps of them what there is room for, and reads the rest again.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from reconverge.datasets.store import DemonstrationStore, StoreError
from reconverge.files import alone, replacing
from reconverge.progress import progress_bar

STEPS = 1024  # read at once


@dataclass(frozen=True)
class Frames:
    """The pictures of every step, a file [T, H, W, 3] for each camera."""

    files: Sequence[UInt8[np.ndarray, "T H W 3"]]

    @property
    def step_bytes(self) -> int:
        """Return the bytes of a step's pictures."""
        return sum(file[0].nbytes for file in self.files)

    def gather(self, steps: Int[Tensor, "B To"]) -> UInt8[Tensor, "B To C H W 3"]:
        """Return the pictures of these steps, on their device."""
        rows = steps.cpu().numpy()
        pictures = torch.from_numpy(np.stack([file[rows] for file in self.files], axis=2))
        return pictures.to(steps.device)


def open_frames(store: DemonstrationStore, cameras: Sequence[str], steps: int) -> Frames:
    """Return the pictures of a store's first steps, which are written to disk the first time.

    Raises StoreError for a camera that the store lacks, and where the disk has no room.
    """
    for camera in cameras:
        store.read_pictures(camera, 0, 0)  # which tells of one that is missing
    return Frames([_open(store, camera, steps) for camera in cameras])


def _open(store: DemonstrationStore, camera: str, steps: int) -> UInt8[np.ndarray, "T H W 3"]:
    """Open the file of a camera, and write it before where it is missing or not whole."""
    checksum = store.identity()["checksum"]
    folder = store.path.with_name(f"{store.path.name}.frames")
    path = folder / f"{camera}-{checksum}-{steps}.npy"
    with alone(path):
        try:
            return np.lib.format.open_memmap(path, "r")
        except (OSError, ValueError):
            for other in folder.glob(f"{camera}-*-*.npy"):
                name, made_from, _ = other.stem.rsplit("-", 2)
                if name == camera and made_from != str(checksum):  # of the store before
                    other.unlink()
            _write(store, camera, steps, path)
        return np.lib.format.open_memmap(path, "r")


def _write(store: DemonstrationStore, camera: str, steps: int, path: Path) -> None:
    shape = (steps, *store.pictures[camera])
    needed, free = math.prod(shape), shutil.disk_usage(path.parent).free
    if needed > free:
        raise StoreError(
            f"{path.parent}: the pictures of {camera} take {needed / 1e9:.3g} GB without "
            f"compression, the disk has {free / 1e9:.3g} left; free some, or lower "
            "demonstrations.episodes"
        )
    bar = progress_bar(f"pictures of {store.path.name}, {camera}", "step", steps)
    with replacing(path) as temporary, temporary.open("wb") as file, bar:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, steps, STEPS):
            rows = store.read_pictures(camera, start, min(start + STEPS, steps))
            file.write(rows.tobytes())
            bar.update(len(rows))
        store.check_pictures(camera)  # before the file takes its name


def moved(
    pictures: UInt8[Tensor, "B To C H W 3"], most: int, generator: torch.Generator
) -> UInt8[Tensor, "B To C H W 3"]:
    """Move the pictures of each window and camera by one random offset, at most `most` pixels
    each way, with the border repeated: a random crop of the padded picture.
    """
    batch, _, cameras, height, width, _ = pictures.shape
    offsets = torch.randint(
        -most, most + 1, (2, batch, cameras, 1), generator=generator, device=generator.device
    ).to(pictures.device)
    rows, columns = (
        (torch.arange(size, device=pictures.device) + offset).clamp(0, size - 1)
        for size, offset in zip((height, width), offsets, strict=True)
    )
    window = torch.arange(batch, device=pictures.device)[:, None, None, None]
    camera = torch.arange(cameras, device=pictures.device)[:, None, None]
    at = (window, slice(None), camera, rows[..., :, None], columns[..., None, :])
    return pictures[at].permute(0, 4, 1, 2, 3, 5)  # the index moved To behind the columns
