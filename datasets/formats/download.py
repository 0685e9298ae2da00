"""Download robomimic's data sets with its own registry and download function."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.errors import unknown

SCHEME = "robomimic://"


@contextmanager
def download(address: str) -> Iterator[Path]:
    """Yield the file of robomimic://<task>/<dataset type>/<hdf5 type>, deleted after the context.

    Raises ConversionError for an unknown name and a server that cannot be reached.
    """
    url = find_url(address)
    from robomimic.utils.file_utils import download_url  # slow

    with TemporaryDirectory() as folder:
        try:
            download_url(url, folder, check_overwrite=False)
        except (OSError, AssertionError) as error:  # no network, a server that refuses, a full disk
            remedy = "connect to the network, or download it elsewhere and give the file as source="
            raise ConversionError(
                f"{address}: {url} cannot be downloaded ({error}); {remedy}"
            ) from error
        yield next(Path(folder).iterdir())


def find_url(address: str) -> str:
    """Look up the address of a data set in robomimic's registry."""
    from robomimic import DATASET_REGISTRY

    found = DATASET_REGISTRY
    for part in (*address.removeprefix(SCHEME).split("/"), "url"):
        if not isinstance(found, dict) or part not in found:
            if isinstance(found, dict) and part != "url":
                raise unknown(f"part of {address}", part, found, ConversionError)
            raise ConversionError(f"{address}: give three names, as in {SCHEME}lift/ph/low_dim")
        found = found[part]
    if not isinstance(found, str):
        raise ConversionError(
            f"{address}: robomimic has no download of it; make it with robomimic's scripts"
        )
    return found
