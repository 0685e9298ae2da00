"""Pictures of a store's steps as training gathers them: by index, from files without compression.

The files lie beside the store and are made where they are missing or of another store. They are
mapped into memory: the system keeps of them what there is room for, and reads the rest again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from reconverge.datasets.store import DemonstrationStore, StoreError
from reconverge.files import alone, replacing, write_text
from reconverge.progress import progress_bar

MADE_OF = "made_of"  # file with the checksum of the store
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


def open_frames(store: DemonstrationStore, cameras: Sequence[str]) -> Frames:
    """Return a store's pictures of these cameras, which are written to disk at the first time.

    Raises StoreError for a camera that the store lacks, and where the disk has no room.
    """
    for camera in cameras:
        store.read_pictures(camera, 0, 0)  # which tells of one that is missing
    folder = store.path.with_name(f"{store.path.name}.frames")
    checksum = str(store.identity()["checksum"])
    with alone(folder):
        if not _is_of(folder, checksum, cameras):
            _write(store, cameras, folder, checksum)
    return Frames([np.lib.format.open_memmap(_file(folder, camera), "r") for camera in cameras])


def _is_of(folder: Path, checksum: str, cameras: Sequence[str]) -> bool:
    there = all(_file(folder, camera).exists() for camera in cameras)
    made_of = folder / MADE_OF
    return there and made_of.exists() and made_of.read_text() == checksum


def _write(store: DemonstrationStore, cameras: Sequence[str], folder: Path, checksum: str) -> None:
    needed = sum(store.n_steps * int(np.prod(store.pictures[camera])) for camera in cameras)
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise StoreError(
            f"{folder}: its pictures take {needed / 1e9:.3g} GB without compression, the disk has "
            f"{free / 1e9:.3g} left; free some, or take fewer demonstrations"
        )
    with replacing(folder) as temporary:
        temporary.mkdir()
        with progress_bar(f"pictures of {store.path.name}", "step", store.n_steps) as bar:
            for number, camera in enumerate(cameras):
                with _file(temporary, camera).open("wb") as file:
                    shape = (store.n_steps, *store.pictures[camera])
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                    for start in range(0, store.n_steps, STEPS):
                        rows = store.read_pictures(camera, start, start + STEPS)
                        file.write(rows.tobytes())
                        bar.update(len(rows) if number == 0 else 0)
        write_text(temporary / MADE_OF, checksum)


def _file(folder: Path, camera: str) -> Path:
    return folder / f"{camera}.npy"


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
