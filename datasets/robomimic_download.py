"""robomimic's own data sets, by robomimic's own registry and download function."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets.exchange import ConversionError

SCHEME = "robomimic://"


@contextmanager
def downloaded(address: str) -> Iterator[Path]:
    """The file of robomimic://<task>/<dataset type>/<hdf5 type>, for as long as the context lasts.

    Raises ConversionError for an unknown name and where the server cannot be reached.
    """
    url = find_url(address)
    from robomimic.utils.file_utils import download_url  # slow

    with TemporaryDirectory() as folder:
        try:
            download_url(url, folder, check_overwrite=False)
        except (OSError, AssertionError) as error:  # no network, a server that refuses, a full disk
            remedy = "connect to the network, or download it elsewhere and give the file as source="
            raise ConversionError(f"{address}: {url} cannot be downloaded ({error}); {remedy}") from error
        yield next(Path(folder).iterdir())


def find_url(address: str) -> str:
    """Where the data set is; a wrong part of the address is told with its choices."""
    from robomimic import DATASET_REGISTRY

    found = DATASET_REGISTRY
    for part in (*address.removeprefix(SCHEME).split("/"), "url"):
        if not isinstance(found, dict) or part not in found:
            legal = ", ".join(found) if isinstance(found, dict) and part != "url" else "three names"
            raise ConversionError(
                f"{address}: {part!r} is unknown; choose from {legal}, as in {SCHEME}lift/ph/low_dim"
            )
        found = found[part]
    if not isinstance(found, str):
        raise ConversionError(f"{address}: robomimic has no download of it; make it with robomimic's scripts")
    return found
