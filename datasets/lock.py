"""One writer at a time: the lock of a demonstration store."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zarr

from reconverge.datasets.layout import ZARR_OPTIONS, StoreError, open_group


@contextmanager
def writing(path: Path, episodes: int) -> Iterator[None]:
    """Hold the lock of the store at `path`, in which the caller knows of this many episodes.

    Raises StoreError if another process holds it or has written meanwhile, and for every OSError
    inside.
    """
    try:
        # data/zarr.json is never replaced, so that all processes lock the same file.
        with open(path / "data" / "zarr.json", "r+b") as lock, zarr.config.set(ZARR_OPTIONS):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = open_group(path, 3, "r").attrs.get("episodes")
            if found != episodes:
                raise StoreError(
                    f"{path}: has {found} episodes by now, had {episodes} (another process "
                    "wrote); open it again"
                )
            yield
    except BlockingIOError as error:
        raise StoreError(f"{path}: another process is writing; wait until it has ended") from error
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error}), the {episodes} episodes in it are safe; "
            "free disk space or rights and try again"
        ) from error
