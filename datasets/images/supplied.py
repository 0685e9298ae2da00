"""The pictures of a run: by the name of a data set or by a folder, kept as a store in one size."""

from __future__ import annotations

from pathlib import Path

from reconverge.datasets.images.class_folders import fingerprint, read_class_folders
from reconverge.datasets.images.fashion_mnist import read_fashion_mnist
from reconverge.datasets.images.labelled import PictureSet, check_classes
from reconverge.datasets.images.picture_store import PictureStore, open_store, write_store
from reconverge.datasets.images.torchvision_sets import NAMES, read_torchvision
from reconverge.errors import ReconvergeError, unknown
from reconverge.files import alone

DATA = ("fashion_mnist", *NAMES)
DOWNLOADS = "downloads"


def is_folder(data: str) -> bool:
    """Whether `data` names a folder and no data set."""
    return data not in DATA and Path(data).is_dir()


def supply(data: str, size: int, folder: Path, begun: str | None = None) -> PictureStore:
    """Return the store of a data set in a size, made in `folder` where it is missing.

    A store with the identity that a run has `begun` with is taken whatever has become of its data
    set. Otherwise ReconvergeError where the data set is a folder whose pictures have changed since,
    for a name that is neither a data set nor a folder, for pictures that cannot be used, and for a
    store in the way that is of other pictures.
    """
    path = folder / f"{Path(data).name}_{size}.zarr"
    if begun is not None and path.exists():
        store = open_store(path)
        if store.identity == begun:
            return store
    if data not in DATA and not is_folder(data):
        raise unknown("data", data, (*DATA, "a folder of class folders"))
    source = str(Path(data).absolute()) if is_folder(data) else data
    with alone(path):
        made_from = fingerprint(Path(data)) if is_folder(data) else ""
        if path.exists():
            return _unchanged(open_store(path), source, made_from)
        found = _read(data, folder)
        check_classes(found, data)
        return write_store(path, source, found.sized(size), made_from)


def _unchanged(store: PictureStore, source: str, made_from: str) -> PictureStore:
    """Return a store that is of its source as that is now."""
    if store.source != source:
        raise ReconvergeError(
            f"{store.path}: holds the pictures of {store.source}, not of {source}; choose "
            "another pictures="
        )
    if store.made_from != made_from:
        raise ReconvergeError(
            f"{source}: has changed since {store.path} was made of it; choose another pictures=, "
            "or delete the store, which runs that began with it need to go on"
        )
    return store


def _read(data: str, folder: Path) -> PictureSet:
    if data in NAMES:
        return read_torchvision(data, folder / DOWNLOADS)
    return read_fashion_mnist() if data == "fashion_mnist" else read_class_folders(Path(data))
