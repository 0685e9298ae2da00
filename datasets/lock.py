"""One writer at a time: the lock of a demonstration store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zarr
from filelock import Timeout

from reconverge.datasets.layout import ZARR_OPTIONS, StoreError, open_group
from reconverge.files import LOCK, lock


@contextmanager
def writing(path: Path, episodes: int) -> Iterator[None]:
    """Hold the lock of the store at `path`, in which the caller knows of this many episodes.

    Raises StoreError if another process holds it or has written meanwhile, and for every OSError
    inside; ReconvergeError where there are no locks, or another user's cannot be taken.
    """
    try:
        with lock(path / LOCK, timeout=0), zarr.config.set(ZARR_OPTIONS):
            found = open_group(path, 3, "r").attrs.get("episodes")
            if found != episodes:
                raise StoreError(
                    f"{path}: has {found} episodes by now, had {episodes} (another process "
                    "wrote); open it again"
                )
            yield
    except Timeout as error:
        raise StoreError(
            f"{path}: another process is writing; wait until it has ended (if none is, delete "
            f"{path / LOCK})"
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error}), the {episodes} episodes in it are safe; "
            "free disk space or rights and try again"
        ) from error
